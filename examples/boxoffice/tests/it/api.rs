//! The API does what its document says.

use serde_json::{Value, json};
use throng::{
    testing::Browser,
    web::{Body, Method, Request},
};

use crate::visit::{an_event, demo, finish, sign_in};

#[tokio::test]
async fn every_route_of_the_document_answers_as_it_says() {
    let site = demo().await;
    sign_in(&site, "ana").await;
    let event = an_event(&site).await.id;
    let document: Value = site.get("/api/openapi.json").await.json();
    assert_eq!(document["openapi"], "3.1.0");
    let mut routes = 0;
    for (path, calls) in document["paths"].as_object().unwrap() {
        for (method, call) in calls.as_object().unwrap() {
            routes += 1;
            let path = match path.contains("/events/{id}") {
                true => path.replace("{id}", &event.to_string()),
                false => path.replace("{id}", "1").replace("{number}", "BX-AAAAA-AAAAA"),
            };
            let path = if path.ends_with("/search") { format!("{path}?q=a") } else { path };
            let method: Method = method.to_uppercase().parse().unwrap();
            let body = if call["requestBody"].is_object() { "{}" } else { "" };
            let request = Request::builder()
                .method(&method)
                .uri(&path)
                .header("content-type", "application/json")
                .body(Body::from(body))
                .unwrap();
            let answer = site.request_with(request).await;
            let status = answer.status().to_string();
            let said = call["responses"].as_object().unwrap();
            let said = said.get(&status).or_else(|| said.get(&format!("{}XX", &status[..1])));
            let said =
                said.unwrap_or_else(|| panic!("{method} {path} answers {status}: {answer:?}"));
            let media = answer.header("content-type").split(';').next().unwrap();
            match said["content"].as_object() {
                Some(content) => assert!(content.contains_key(media), "{method} {path}: {media}"),
                None => assert!(answer.body().is_empty(), "{method} {path}: {answer:?}"),
            }
        }
    }
    assert!(routes >= 14, "{routes}");
    finish(site).await;
}

#[tokio::test]
async fn a_program_signs_in_holds_buys_and_talks() {
    let site = demo().await;
    let event = an_event(&site).await.id;
    let base = format!("/api/v1/events/{event}");
    let refused = site.post_json(&format!("{base}/holds"), &json!({ "quantity": 1 })).await;
    problem(&refused, 401);

    let wrong = json!({ "username": "jonas", "password": "no" });
    problem(&site.post_json("/api/v1/session", &wrong).await, 401);
    let right = json!({ "username": "jonas", "password": "boxoffice-demo" });
    assert_eq!(site.post_json("/api/v1/session", &right).await.status(), 200);
    let me: Value = site.get("/api/v1/session").await.json();
    assert_eq!(me["username"], "jonas");

    let before = free(&site, &base).await;
    let hold = site.post_json(&format!("{base}/holds"), &json!({ "quantity": 2 })).await;
    assert_eq!(hold.status(), 201, "{hold:?}");
    let hold: Value = hold.json();
    assert_eq!(free(&site, &base).await, before - 2);
    let order = format!("/api/v1/holds/{}/order", hold["id"].as_str().unwrap());
    let form = json!({ "attendee": "Jonas", "email": "", "card": "4242 4242 4242 4242" });
    problem(&site.post_json(&order, &form).await, 422);
    let form =
        json!({ "attendee": "Jonas", "email": "j@example.com", "card": "4242 4242 4242 4242" });
    let bought = site.post_json(&order, &form).await;
    assert_eq!(bought.status(), 201, "{bought:?}");
    let again = site.post_json(&order, &form).await;
    let (bought, again): (Value, Value) = (bought.json(), again.json());
    assert_eq!(bought["number"], again["number"]);
    let orders: Value = site.get("/api/v1/orders").await.json();
    assert_eq!(orders["items"].as_array().unwrap().len(), 1);

    let hold: Value =
        site.post_json(&format!("{base}/holds"), &json!({ "quantity": 1 })).await.json();
    let gone = Request::delete(format!("/api/v1/holds/{}", hold["id"].as_str().unwrap()));
    let gone = gone.header("content-type", "application/json").body(Body::empty()).unwrap();
    assert_eq!(site.request_with(gone).await.status(), 204);
    assert_eq!(free(&site, &base).await, before - 2);

    let said = site.post_json(&format!("{base}/comments"), &json!({ "body": "Hello" })).await;
    assert_eq!(said.status(), 201);
    let talk: Value = site.get(&format!("{base}/comments?limit=1")).await.json();
    assert_eq!(talk["items"][0]["body"], "Hello");
    problem(&site.post_json(&format!("{base}/comments"), &json!({ "body": " " })).await, 422);
    problem(&site.post_json(&format!("{base}/comments"), &json!({ "words": 1 })).await, 422);
    finish(site).await;
}

#[tokio::test]
async fn pages_of_a_list_meet_without_a_gap() {
    let site = demo().await;
    let all: Value = site.get("/api/v1/events?limit=100").await.json();
    let all = ids(&all);
    let (mut read, mut path) = (Vec::new(), "/api/v1/events?limit=3".to_owned());
    loop {
        let page: Value = site.get(&path).await.json();
        read.extend(ids(&page));
        let Some(next) = page["next"].as_str() else { break };
        path = format!("/api/v1/events?limit=3&after={next}");
    }
    assert_eq!(read, all);
    for wrong in ["limit=0", "limit=101", "limit=x", "after=x", "when=never"] {
        let answer = site.get(&format!("/api/v1/events?{wrong}")).await;
        assert!(matches!(answer.status(), 400 | 422), "{wrong}: {answer:?}");
        problem(&answer, answer.status());
    }
    finish(site).await;
}

#[tokio::test]
async fn a_forged_form_cannot_reach_the_api() {
    let site = demo().await;
    sign_in(&site, "jonas").await;
    let path = format!("/api/v1/events/{}/comments", an_event(&site).await.id);
    let form = Request::post(&path).header("content-type", "text/plain");
    let form = form.body(Body::from("{\"body\":\"spam\"}")).unwrap();
    problem(&site.request_with(form).await, 403);
    let other = Request::post(&path)
        .header("content-type", "application/json")
        .header("origin", "https://evil.example")
        .body(Body::from("{\"body\":\"spam\"}"))
        .unwrap();
    problem(&site.request_with(other).await, 403);
    finish(site).await;
}

fn problem(answer: &throng::testing::Answer, status: u16) {
    assert_eq!(answer.status(), status, "{answer:?}");
    assert_eq!(answer.header("content-type"), "application/problem+json");
    let problem: Value = answer.json();
    assert_eq!(problem["status"], status);
    assert!(problem["detail"].as_str().is_some_and(|detail| !detail.is_empty()));
}

async fn free(site: &Browser, path: &str) -> i64 {
    let event: Value = site.get(path).await.json();
    event["seats"]["free"].as_i64().unwrap()
}

fn ids(page: &Value) -> Vec<String> {
    let items = page["items"].as_array().unwrap().iter();
    items.map(|item| item["id"].as_str().unwrap().to_owned()).collect()
}
