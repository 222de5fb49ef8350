//! What the tests of pages share: the site with its demo, and visitors.

use boxoffice::models::{
    Cursor, Event,
    events::{self, Filter, When},
    seats,
};
use throng::testing::{self, Browser, Site};

/// The site with its demo.
pub(crate) async fn demo() -> Site {
    testing::boot(boxoffice::app()).await
}

/// Runs what was pushed, and stops.
pub(crate) async fn finish(site: Site) {
    site.run_until_idle().await;
    site.finish().await;
}

/// The next event of the demo that sells tickets and is organised by somebody.
pub(crate) async fn an_event(site: &Site) -> Event {
    let cx = site.ctx();
    let today = boxoffice::models::today(&cx.clock);
    let after: Option<&Cursor> = None;
    let page =
        events::browse(&cx.db, &Filter::default(), When::From(&today), after, 50).await.unwrap();
    for event in page.items {
        let free = seats::of(&cx.db, event.id).await.unwrap().map_or(0, |seats| seats.free());
        if free > 5 && event.organiser_id.is_some() {
            return event;
        }
    }
    panic!("the demo sells nothing");
}

/// Signs a person of the demo in.
pub(crate) async fn sign_in(browser: &Browser, username: &str) {
    let form = [("username", username), ("password", "boxoffice-demo")];
    let answer = browser.post("/sign-in", &form).await;
    assert_eq!(answer.status(), 303, "{answer:?}");
}

/// Opens an account and signs in.
pub(crate) async fn sign_up(browser: &Browser, username: &str) {
    let email = format!("{username}@example.com");
    let form = [("username", username), ("email", &email), ("password", "a short sentence")];
    let answer = browser.post("/sign-up", &form).await;
    assert_eq!(answer.status(), 303, "{answer:?}");
}
