//! An organiser's own pages.

use std::collections::HashMap;

use maud::Markup;
use serde::Deserialize;
use throng::{
    Result,
    queue::Signal,
    web::{Form, Path, Query, Response},
};

use super::{Guest, events as shown, guest::again};
use crate::{
    models::{
        Cursor, Event, Problems, Stamp, events, events::Form as Typed, orders as sales, organisers,
        seats, tickets, views,
    },
    tasks::RefundEvent,
    views::{forms::Filled, organise as view},
};

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Asked {
    after: String,
}

pub(super) async fn desk(guest: Guest, Query(asked): Query<Asked>) -> Result<Markup> {
    let cx = &guest.cx;
    let Some(user) = guest.user() else {
        let frame = guest.frame()?;
        return Ok(frame.page("Put on an event", view::invitation(&frame)));
    };
    let organiser = organisers::of_owner(&cx.db, user.id).await?;
    let after: Option<Cursor> = shown::parse(&asked.after)?;
    let (events, views, older) = match &organiser {
        None => Default::default(),
        Some(organiser) => {
            let page = events::of_organiser(&cx.db, organiser.id, after.as_ref(), EVENTS).await?;
            let views = views::of_many(&cx.db, page.items.iter().map(|event| event.id)).await?;
            (shown::with_seats(cx, page.items).await?, views, page.next)
        }
    };
    let body = view::desk(&view::Desk {
        organiser: organiser.as_ref(),
        events: &events,
        views: &views,
        today: &guest.today(),
        older: older.map(|next| format!("/organise?after={next}")),
        is_first: after.is_none(),
    });
    Ok(guest.frame()?.page("Your events", body))
}

pub(super) async fn new_form(guest: Guest) -> Result<Markup> {
    guest.member()?;
    let typed = Typed { published: Some("on".into()), ..Typed::default() };
    form_page(&guest, None, &typed, &Problems::default())
}

pub(super) async fn create(guest: Guest, Form(typed): Form<Typed>) -> Result<Response> {
    let user = guest.member()?;
    let draft = match typed.check() {
        Ok(draft) => draft,
        Err(problems) => return Ok(again(form_page(&guest, None, &typed, &problems)?)),
    };
    let cx = &guest.cx;
    let tx = cx.db.begin().await?;
    let organiser = organisers::ensure(&tx, Stamp::new(&cx.ids, &cx.clock), user).await?;
    let event = events::create(&tx, Stamp::new(&cx.ids, &cx.clock), organiser.id, &draft).await?;
    cx.queue.signal_in(&tx, Signal::saved(events::TABLE, event.id)).await?;
    tx.commit().await?;
    shown::listed(cx, &event.topic).await;
    let words = match draft.published {
        true => "Your event is up. Tell people where it is.",
        false => "Your draft is kept. Only you see it until you publish it.",
    };
    Ok(guest.told(&format!("/events/{}", event.id), words))
}

pub(super) async fn edit_form(guest: Guest, Path(id): Path<i64>) -> Result<Markup> {
    let event = own(&guest, id).await?;
    let seats = seats::of(&guest.cx.db, id).await?;
    let typed = Typed::of(&event, seats.map_or(0, |seats| seats.capacity));
    form_page(&guest, Some(&event), &typed, &Problems::default())
}

pub(super) async fn edit(
    guest: Guest,
    Path(id): Path<i64>,
    Form(typed): Form<Typed>,
) -> Result<Response> {
    let event = own(&guest, id).await?;
    let draft = match typed.check() {
        Ok(draft) => draft,
        Err(problems) => return Ok(again(form_page(&guest, Some(&event), &typed, &problems)?)),
    };
    let cx = &guest.cx;
    let tx = cx.db.begin().await?;
    let edited = match events::edit(&tx, &event, &draft).await? {
        Ok(edited) => edited,
        Err(problems) => {
            return Ok(again(form_page(&guest, Some(&event), &typed, &problems)?));
        }
    };
    if !edited.columns.is_empty() {
        let signal = Signal::saved(events::TABLE, id).columns(edited.columns);
        cx.queue.signal_in(&tx, signal).await?;
    }
    tx.commit().await?;
    shown::changed(cx, id).await;
    shown::listed(cx, &event.topic).await;
    if draft.topic != event.topic {
        shown::listed(cx, &draft.topic).await;
    }
    Ok(guest.told(&format!("/organise/events/{id}"), "Saved."))
}

pub(super) async fn cancel(guest: Guest, Path(id): Path<i64>) -> Result<Response> {
    let event = own(&guest, id).await?;
    let cx = &guest.cx;
    let tx = cx.db.begin().await?;
    if events::cancel(&tx, event.id).await? {
        cx.queue.push_in(&tx, RefundEvent { event_id: id }).await?;
        let signal = Signal::saved(events::TABLE, id).columns(["status"]);
        cx.queue.signal_in(&tx, signal).await?;
    }
    tx.commit().await?;
    shown::changed(cx, id).await;
    shown::listed(cx, &event.topic).await;
    Ok(guest.told("/organise", format!("{} is cancelled.", event.name)))
}

pub(super) async fn delete(guest: Guest, Path(id): Path<i64>) -> Result<Response> {
    let event = own(&guest, id).await?;
    let cx = &guest.cx;
    let tx = cx.db.begin().await?;
    if !events::delete(&tx, event.id).await? {
        let words = "Only a draft that nobody has bought, held or talked about can be deleted.";
        return Ok(guest.warned(&format!("/organise/events/{id}"), words));
    }
    cx.queue.signal_in(&tx, Signal::deleted(events::TABLE, id)).await?;
    tx.commit().await?;
    shown::changed(cx, id).await;
    Ok(guest.told("/organise", format!("{} is deleted.", event.name)))
}

pub(super) async fn orders(
    guest: Guest,
    Path(id): Path<i64>,
    Query(asked): Query<Asked>,
) -> Result<Markup> {
    let event = own(&guest, id).await?;
    let db = &guest.cx.db;
    let after: Option<Cursor> = shown::parse(&asked.after)?;
    let page = sales::of_event(db, id, after.as_ref(), ORDERS).await?;
    let older = page.next.map(|next| format!("/organise/events/{id}/orders?after={next}"));
    let tickets = tickets::of_orders(db, page.items.iter().map(|order| order.id)).await?;
    let mut used: HashMap<i64, usize> = HashMap::new();
    for ticket in tickets.iter().filter(|ticket| ticket.used_at_ms.is_some()) {
        *used.entry(ticket.order_id).or_default() += 1;
    }
    let rows = page.items.into_iter().map(|order| {
        let used = used.get(&order.id).copied().unwrap_or(0);
        (order, used)
    });
    let rows: Vec<_> = rows.collect();
    let seats = seats::of(db, id).await?;
    let seen = views::of_many(db, [id]).await?.get(&id).copied().unwrap_or(0);
    let body = view::orders(&event, seats.as_ref(), seen, &rows, older.as_deref(), after.is_none());
    Ok(guest.frame()?.page("Who comes", body))
}

/// The event `id`, if it is the guest's to edit.
pub(super) async fn own(guest: &Guest, id: i64) -> Result<Event> {
    guest.member()?;
    let event = events::find(&guest.cx.db, id).await?.ok_or_else(shown::no_such_event)?;
    let owner = match event.organiser_id {
        Some(id) => organisers::find(&guest.cx.db, id).await?.and_then(|found| found.owner_id),
        None => None,
    };
    match shown::may_edit(guest, owner) {
        true => Ok(event),
        false => Err(throng::Error::forbidden("only its organiser may do that")),
    }
}

fn form_page(
    guest: &Guest,
    event: Option<&Event>,
    typed: &Typed,
    problems: &Problems,
) -> Result<Markup> {
    let values = |name: &str| {
        let ticked = |tick: &Option<String>| tick.clone().unwrap_or_default();
        match name {
            "name" => typed.name.clone(),
            "url" => typed.url.clone(),
            "starts_on" => typed.starts_on.clone(),
            "ends_on" => typed.ends_on.clone(),
            "city" => typed.city.clone(),
            "country" => typed.country.clone(),
            "online" => ticked(&typed.online),
            "topic" => typed.topic.clone(),
            "description" => typed.description.clone(),
            "capacity" => typed.capacity.clone(),
            "price" => typed.price.clone(),
            "currency" => typed.currency.clone(),
            "published" => ticked(&typed.published),
            _ => String::new(),
        }
    };
    let frame = guest.frame()?;
    let title = if event.is_some() { "Edit event" } else { "New event" };
    let body = view::form(&frame, event, &Filled { values: &values, problems });
    Ok(frame.page(title, body))
}

const EVENTS: u64 = 25;
const ORDERS: u64 = 50;
