//! What somebody bought: the order page, its PDF, the list of them all.

use std::collections::HashMap;

use maud::Markup;
use serde::Deserialize;
use throng::{
    Error, Result,
    db::Db,
    web::{IntoResponse, Path, Query, Response, header},
};

use super::{Guest, events as shown};
use crate::{
    models::{Cursor, Event, Order, events, holds, orders, tickets},
    tickets as printed,
    views::checkout::{self as view, Held},
};

pub(super) async fn show(guest: Guest, Path(number): Path<String>) -> Result<Markup> {
    let (order, event) = own(&guest, &number).await?;
    let tickets = tickets::of_order(&guest.cx.db, order.id).await?;
    let frame = guest.frame()?;
    let body = view::order(&frame, &order, &event, &tickets, order.mailed_at_ms.is_some());
    Ok(frame.page(&format!("Order {}", order.number), body))
}

pub(super) async fn pdf(guest: Guest, Path(number): Path<String>) -> Result<Response> {
    let (order, _) = own(&guest, &number).await?;
    if order.status != orders::Status::Paid {
        return Err(Error::refused("this order was refunded, so its tickets are not good"));
    }
    let cx = &guest.cx;
    let (sheet, _) =
        printed::sheet(&cx.db, cx.keys(), &order).await?.ok_or_else(shown::no_such_event)?;
    let pdf = tokio::task::spawn_blocking(move || printed::pdf::draw(&sheet)).await??;
    let headers = [
        (header::CONTENT_TYPE, "application/pdf".to_owned()),
        (header::CONTENT_DISPOSITION, format!("inline; filename=\"{}.pdf\"", order.number)),
        (header::CACHE_CONTROL, "private, no-store".to_owned()),
    ];
    Ok((headers, pdf).into_response())
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Asked {
    after: String,
}

pub(super) async fn mine(guest: Guest, Query(asked): Query<Asked>) -> Result<Markup> {
    let user_id = guest.member()?.id;
    let (db, now_ms) = (&guest.cx.db, guest.cx.clock.now_ms());
    let after: Option<Cursor> = shown::parse(&asked.after)?;
    let page = orders::of_user(db, user_id, after.as_ref(), ORDERS).await?;
    let holds = match after {
        None => holds::of_user(db, user_id).await?,
        Some(_) => Vec::new(),
    };
    let ids = page.items.iter().map(|order| order.event_id);
    let ids = ids.chain(holds.iter().map(|hold| hold.event_id));
    let known = events::find_many(db, ids).await?;
    let known: HashMap<i64, Event> = known.into_iter().map(|event| (event.id, event)).collect();
    let event = |id: i64| known.get(&id).cloned();
    let bought = |order: Order| Some((event(order.event_id)?, order));
    let bought: Vec<_> = page.items.into_iter().filter_map(bought).map(swap).collect();
    let held =
        holds.iter().filter_map(|hold| Some((Held::of(hold, now_ms), event(hold.event_id)?)));
    let held: Vec<_> = held.filter(|(held, _)| held.left_ms > 0).collect();
    let older = page.next.map(|next| format!("/tickets?after={next}"));
    let body = view::tickets(&guest.today(), &held, &bought, older, after.is_none());
    Ok(guest.frame()?.page("My tickets", body))
}

/// The guest's own order. To others it is not there, so that numbers cannot be tried out.
pub(super) async fn own(guest: &Guest, number: &str) -> Result<(Order, Event)> {
    own_in(&guest.cx.db, guest, number).await
}

/// The same, as this handle of the database shows it.
pub(super) async fn own_in(db: &Db, guest: &Guest, number: &str) -> Result<(Order, Event)> {
    let user_id = guest.member()?.id;
    let order = orders::find_by_number(db, number).await?;
    let order = order.filter(|order| order.user_id == user_id);
    let order = order.ok_or_else(|| Error::not_found("there is no such order of yours"))?;
    let event = events::find(db, order.event_id).await?.ok_or_else(shown::no_such_event)?;
    Ok((order, event))
}

fn swap((event, order): (Event, Order)) -> (Order, Event) {
    (order, event)
}

const ORDERS: u64 = 20;
