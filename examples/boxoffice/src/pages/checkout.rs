//! From an event's page to an order: hold seats, say who comes, pay.

use maud::Markup;
use serde::Deserialize;
use throng::{
    Error, Result,
    web::{Form, IntoResponse, Path, Redirect, Response, StatusCode},
};

use super::{Guest, events as shown, guest::again};
use crate::{
    live,
    models::{Event, Hold, Problems, events, orders},
    purchase::{BuyError, Desk, HoldError, Purchase, Want},
    views::{
        checkout::{self as view, Held},
        forms::Filled,
        sentence, words,
    },
};

#[derive(Deserialize)]
pub(super) struct Seats {
    quantity: i32,
}

pub(super) async fn hold(
    guest: Guest,
    Path(id): Path<i64>,
    Form(wanted): Form<Seats>,
) -> Result<Response> {
    let user_id = guest.member()?.id;
    shown::visible(&guest, id).await?;
    let cx = &guest.cx;
    let want = Want { event_id: id, user_id, quantity: wanted.quantity };
    let refusal = match Desk::of(cx).hold(want).await {
        Ok(hold) => {
            live::seats_changed(cx, id).await?;
            return Ok(Redirect::to(&format!("/checkout/{}", hold.id)).into_response());
        }
        Err(refusal) => refusal,
    };
    let words = match refusal {
        HoldError::SoldOut { free: 0 } => {
            "Somebody was faster: every seat is taken now.".to_owned()
        }
        HoldError::SoldOut { free } => {
            let left = words::count(free.into(), "seat is", "seats are");
            format!("Only {left} left. Ask for fewer.")
        }
        refusal @ (HoldError::NotSelling | HoldError::Quantity) => sentence(&refusal.to_string()),
        broken => return Err(broken.into()),
    };
    Ok(guest.warned(&format!("/events/{id}"), words))
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Typed {
    attendee: String,
    email: String,
    card: String,
}

pub(super) async fn form(guest: Guest, Path(id): Path<i64>) -> Result<Response> {
    let user = guest.member()?;
    let typed =
        Typed { attendee: user.name.clone(), email: user.email.clone(), card: String::new() };
    match held(&guest, id).await? {
        Ok((hold, event)) => {
            let page = page(&guest, &hold, &event, &typed, &Problems::default())?;
            Ok(page.into_response())
        }
        Err(elsewhere) => Ok(elsewhere),
    }
}

pub(super) async fn buy(
    guest: Guest,
    Path(id): Path<i64>,
    Form(typed): Form<Typed>,
) -> Result<Response> {
    let user_id = guest.member()?.id;
    let (hold, event) = match held(&guest, id).await? {
        Ok(held) => held,
        Err(elsewhere) => return Ok(elsewhere),
    };
    let (attendee, email, card) = (&typed.attendee, &typed.email, &typed.card);
    let purchase = Purchase { hold_id: id, user_id, attendee, email, card };
    let mut problems = Problems::default();
    match Desk::of(&guest.cx).buy(purchase).await {
        Ok(order) => {
            live::seats_changed(&guest.cx, event.id).await?;
            let path = format!("/orders/{}", order.number);
            return Ok(guest.told(&path, "Thank you. Your seats are yours."));
        }
        Err(BuyError::Gone) => return gone(&guest, &event),
        Err(BuyError::Declined(reason)) => {
            live::seats_changed(&guest.cx, event.id).await?;
            let words = format!(
                "{} Nothing was charged and the seats went back; hold them again to try another \
                 card.",
                sentence(&reason)
            );
            return Ok(guest.warned(&format!("/events/{}", event.id), words));
        }
        Err(BuyError::Unknown) => problems.add(
            "card",
            "The payment provider did not answer in time. Your seats stay held: send the form again, and you pay once.",
        ),
        Err(BuyError::Form(wrong)) => problems = wrong,
        Err(BuyError::Write(error)) => return Err(Error::internal(error)),
    }
    Ok(again(page(&guest, &hold, &event, &typed, &problems)?))
}

pub(super) async fn release(guest: Guest, Path(id): Path<i64>) -> Result<Response> {
    let user_id = guest.member()?.id;
    let desk = Desk::of(&guest.cx);
    let Some(hold) = desk.find_hold(id, user_id).await? else {
        return Ok(guest.told("/tickets", "These seats went back before."));
    };
    desk.release(id, user_id).await?;
    live::seats_changed(&guest.cx, hold.event_id).await?;
    Ok(guest.told(&format!("/events/{}", hold.event_id), "The seats are back on sale."))
}

/// The guest's hold and its event; or where to go when it became an order or ran out.
async fn held(guest: &Guest, id: i64) -> Result<Result<(Hold, Event), Response>> {
    let (cx, user_id) = (&guest.cx, guest.member()?.id);
    if let Some(order) = orders::of_hold(&cx.db, id).await?.filter(|order| order.user_id == user_id)
    {
        return Ok(Err(Redirect::to(&format!("/orders/{}", order.number)).into_response()));
    }
    let Some(hold) = Desk::of(cx).find_hold(id, user_id).await? else {
        return Err(Error::new(
            StatusCode::NOT_FOUND,
            "these seats are not held any more; nothing was charged",
        ));
    };
    let event = events::find(&cx.db, hold.event_id).await?.ok_or_else(shown::no_such_event)?;
    if hold.expires_at_ms <= cx.clock.now_ms() {
        return Ok(Err(gone(guest, &event)?));
    }
    Ok(Ok((hold, event)))
}

fn gone(guest: &Guest, event: &Event) -> Result<Response> {
    let page = guest.frame()?.page("Seats went back", view::expired(event));
    Ok((StatusCode::GONE, page).into_response())
}

fn page(
    guest: &Guest,
    hold: &Hold,
    event: &Event,
    typed: &Typed,
    problems: &Problems,
) -> Result<Markup> {
    let values = |name: &str| {
        let value = match name {
            "attendee" => &typed.attendee,
            "email" => &typed.email,
            _ => &typed.card,
        };
        value.clone()
    };
    let frame = guest.frame()?;
    let held = Held::of(hold, guest.cx.clock.now_ms());
    let body = view::checkout(&frame, event, &held, &Filled { values: &values, problems });
    Ok(frame.page("Check out", body))
}
