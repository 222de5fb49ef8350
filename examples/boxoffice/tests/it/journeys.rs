//! What people come for: buying, talking, following, organising.

use boxoffice::models::events::Form;

use crate::{
    house::House,
    visit::{an_event, demo, finish, sign_in, sign_up},
};

#[tokio::test]
async fn seats_are_held_paid_and_owned_and_the_last_buyer_is_told_at_once() {
    let house = House::open().await;
    let event = house.sale(2, "25").await;
    let (ada, bob) = (house.site.browser(), house.site.browser());
    sign_up(&ada, "ada").await;
    sign_up(&bob, "bob").await;
    let show = format!("/events/{}", event.id);

    let held = ada.post(&format!("{show}/hold"), &[("quantity", "2")]).await;
    let checkout = held.header("location").to_owned();
    assert!(checkout.starts_with("/checkout/"), "{held:?}");
    let late = bob.post(&format!("{show}/hold"), &[("quantity", "1")]).await;
    assert_eq!(late.header("location"), show);
    assert!(bob.get(&show).await.text().contains("every seat is taken now"));
    assert_eq!(bob.get(&checkout).await.status(), 404);

    assert!(ada.get(&checkout).await.text().contains("data-left-ms=\"600000\""));
    let form = [("attendee", ""), ("email", "ada@example.com"), ("card", "4242 4242 4242 4242")];
    let wrong = ada.post(&checkout, &form).await;
    assert_eq!(wrong.status(), 422);
    let form = [("attendee", "Ada"), ("email", "ada@example.com"), ("card", "4000 0000 0000 0002")];
    let declined = ada.post(&checkout, &form).await;
    assert_eq!(declined.header("location"), show);
    assert!(ada.get(&show).await.text().contains("declined"));

    let held = ada.post(&format!("{show}/hold"), &[("quantity", "2")]).await;
    let checkout = held.header("location").to_owned();
    let form = [("attendee", "Ada"), ("email", "ada@example.com"), ("card", "4242 4242 4242 4242")];
    let paid = ada.post(&checkout, &form).await;
    let order = paid.header("location").to_owned();
    assert!(order.starts_with("/orders/BX-"), "{paid:?}");
    assert_eq!(ada.get(&checkout).await.header("location"), order);
    assert!(ada.get(&order).await.text().contains("Being prepared"));
    house.site.run_tasks().await;
    assert!(ada.get(&order).await.text().contains("Download PDF"));
    let pdf = ada.get(&format!("{order}/ticket.pdf")).await;
    assert_eq!((pdf.status(), pdf.header("content-type")), (200, "application/pdf"));
    assert!(pdf.body().starts_with(b"%PDF-"));
    assert_eq!(bob.get(&order).await.status(), 404);
    assert!(ada.get("/tickets").await.text().contains(&order));
    assert!(bob.get(&show).await.text().contains("Sold out"));
    finish(house.site).await;
}

#[tokio::test]
async fn a_hold_that_ran_out_says_so() {
    let house = House::open().await;
    let event = house.sale(2, "").await;
    sign_up(&house.site, "ada").await;
    let held = house.site.post(&format!("/events/{}/hold", event.id), &[("quantity", "2")]).await;
    let checkout = held.header("location").to_owned();
    house.site.advance(std::time::Duration::from_secs(601));
    let late = house.site.get(&checkout).await;
    assert_eq!(late.status(), 404);
    assert!(late.text().contains("nothing was charged"), "{}", late.text());
    finish(house.site).await;
}

#[tokio::test]
async fn a_draft_is_seen_by_its_owner_alone() {
    let site = demo().await;
    sign_in(&site, "jonas").await;
    let form = Form {
        name: "A quiet evening".into(),
        starts_on: "2099-01-01".into(),
        city: "Bonn".into(),
        country: "Germany".into(),
        topic: "quiet".into(),
        capacity: "5".into(),
        ..Form::default()
    };
    let made = site.post("/organise/events/new", &form).await;
    let show = made.header("location").to_owned();
    assert!(site.get(&show).await.text().contains("Only you can see this"));
    assert_eq!(site.browser().get(&show).await.status(), 404);
    assert_eq!(site.browser().get(&format!("{show}/live")).await.status(), 404);

    let publish = Form { published: Some("on".into()), ..form };
    let edit = show.replace("/events/", "/organise/events/");
    assert_eq!(site.post(&edit, &publish).await.status(), 303);
    assert_eq!(site.browser().get(&show).await.status(), 200);
    assert_eq!(site.post(&format!("{edit}/cancel"), &[("", "")]).await.status(), 303);
    assert!(site.browser().get(&show).await.text().contains("has been cancelled"));
    finish(site).await;
}

#[tokio::test]
async fn a_hidden_comment_is_gone_for_everyone_until_it_is_restored() {
    let site = demo().await;
    let event = an_event(&site).await;
    let show = format!("/events/{}", event.id);
    let jonas = site.browser();
    sign_in(&jonas, "jonas").await;
    let said = jonas.post(&format!("{show}/comments"), &[("body", "Buy <b>my</b> things")]).await;
    let id = said.header("location").rsplit('-').next().unwrap().to_owned();
    assert!(site.get(&show).await.text().contains("Buy &lt;b&gt;my&lt;/b&gt; things"));

    sign_in(&site, "ana").await;
    let report = format!("/comments/{id}/report");
    assert_eq!(site.post(&report, &[("reason", "")]).await.status(), 422);
    assert_eq!(site.post(&report, &[("reason", "advertising")]).await.status(), 303);
    assert!(site.get("/moderation").await.text().contains("advertising"));
    let act = |verb: &str| format!("/moderation/comments/{id}/{verb}");
    assert_eq!(jonas.post(&act("dismiss"), &[("", "")]).await.status(), 403);
    assert_eq!(site.post(&act("hide"), &[("", "")]).await.status(), 303);
    assert!(!site.get(&show).await.text().contains("things"));
    assert!(site.get("/moderation").await.text().contains("Nothing to decide"));
    assert_eq!(site.post(&act("restore"), &[("", "")]).await.status(), 303);
    assert!(site.get(&show).await.text().contains("things"));
    finish(site).await;
}

#[tokio::test]
async fn following_fills_the_timeline() {
    let site = demo().await;
    sign_in(&site, "mei").await;
    let event = an_event(&site).await;
    let host = format!("/organisers/{}", event.organiser_id.unwrap());
    assert_eq!(site.post(&format!("{host}/unfollow"), &[("", "")]).await.status(), 303);
    assert_eq!(site.post(&format!("{host}/follow"), &[("", "")]).await.header("location"), host);
    assert!(site.get(&host).await.text().contains("Following"));
    assert!(site.get("/timeline").await.text().contains(&format!("/events/{}", event.id)));
    assert_eq!(site.post("/people/mei/follow", &[("", "")]).await.status(), 303);
    assert!(site.get("/people/mei").await.text().contains("Nobody follows themselves"));
    assert_eq!(site.post("/people/nobody/follow", &[("", "")]).await.status(), 404);
    finish(site).await;
}
