//! An open page is kept fresh.

use throng::{
    testing::Browser,
    web::{Body, Request, StatusCode},
};

use crate::{
    house::House,
    visit::{finish, sign_up},
};

#[tokio::test]
async fn an_open_page_hears_of_seats_and_comments() {
    let house = House::open().await;
    let event = house.sale(5, "").await;
    sign_up(&house.site, "ada").await;
    let show = format!("/events/{}", event.id);
    let live = format!("{show}/live?after=1");
    let mut stream = Stream::open(&house.site, &live).await;
    stream.wait_for("5 seats of 5 left").await;
    house.site.post(&format!("{show}/hold"), &[("quantity", "2")]).await;
    stream.wait_for("3 seats of 5 left").await;
    house.site.post(&format!("{show}/comments"), &[("body", "<hello>")]).await;
    stream.wait_for("&lt;hello&gt;").await;
    drop(stream);

    let mut late = Stream::open(&house.site, &live).await;
    late.wait_for("&lt;hello&gt;").await;
    house.site.stop();
    late.until_end().await;
    finish(house.site).await;
}

/// A stream of server-sent events, as far as it was read.
pub(crate) struct Stream {
    body: Body,
    text: String,
}

impl Stream {
    pub(crate) async fn open(browser: &Browser, path: &str) -> Self {
        let request = Request::builder().uri(path).body(Body::empty());
        let response = browser.open(request.unwrap()).await;
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self { body: response.into_body(), text: String::new() }
    }

    pub(crate) async fn wait_for(&mut self, words: &str) {
        while !self.text.contains(words) {
            assert!(self.read().await, "the stream ended without {words}: {}", self.text);
        }
    }

    async fn until_end(&mut self) {
        while self.read().await {}
    }

    async fn read(&mut self) -> bool {
        use futures_util::StreamExt;
        let body = std::mem::take(&mut self.body);
        let mut data = body.into_data_stream();
        let Some(chunk) = data.next().await else { return false };
        self.text.push_str(std::str::from_utf8(&chunk.unwrap()).unwrap());
        self.body = Body::from_stream(data);
        true
    }
}
