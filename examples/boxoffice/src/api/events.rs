//! Events and search.

use throng::{
    Ctx, Result,
    web::{Json, Path, Query as Asked},
};

use super::shapes::{Event, Events, Listing, Problem, Query, Time, next};
use crate::{
    models::{
        self, Page,
        events::{self as store, Filter, When},
        search as index, seats,
    },
    pages::Guest,
    tags,
};

/// List events
///
/// Published events, filtered, in pages by key range.
#[utoipa::path(
    get, path = "/api/v1/events", tag = "events", params(Listing),
    responses(
        (status = 200, description = "A page of events", body = Events),
        (status = "4XX", description = "A parameter is not right", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn list(guest: Guest, Asked(listing): Asked<Listing>) -> Result<Json<Events>> {
    let (cx, today) = (&guest.cx.shows(tags::EVENTS).await?, guest.today());
    let when = match listing.when {
        Time::Upcoming => When::From(&today),
        Time::Past => When::Before(&today),
    };
    let after = super::cursor(listing.after.as_deref())?;
    let limit = super::limit(listing.limit)?;
    let filter = Filter {
        topic: listing.topic,
        country: listing.country,
        city: listing.city,
        organiser_id: None,
    };
    let page = store::browse(&cx.db, &filter, when, after.as_ref(), limit).await?;
    Ok(Json(with_seats(cx, page).await?))
}

/// Search events
///
/// Upcoming events first, then past ones.
#[utoipa::path(
    get, path = "/api/v1/search", tag = "events", params(Query),
    responses(
        (status = 200, description = "A page of events", body = Events),
        (status = "4XX", description = "A parameter is not right", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn search(guest: Guest, Asked(query): Asked<Query>) -> Result<Json<Events>> {
    let (cx, today) = (&guest.cx.shows(tags::EVENTS).await?, guest.today());
    let after = super::cursor(query.after.as_deref())?;
    let limit = super::limit(query.limit)?;
    let q: String = query.q.chars().take(100).collect();
    let page = index::find(&cx.db, &q, &today, after.as_ref(), limit).await?;
    Ok(Json(with_seats(cx, page).await?))
}

/// Read an event
#[utoipa::path(
    get, path = "/api/v1/events/{id}", tag = "events",
    params(("id" = String, Path, description = "The event", pattern = "^[0-9]{1,18}$")),
    responses(
        (status = 200, description = "The event", body = Event),
        (status = "4XX", description = "There is no such event", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn one(guest: Guest, Path(id): Path<String>) -> Result<Json<Event>> {
    let cx = &guest.cx.shows(&tags::event(super::id(&id)?)).await?;
    let event = visible(&guest, &id).await?;
    let seats = seats::of(&cx.db, event.id).await?;
    Ok(Json(Event::of(event, seats)))
}

/// A published or cancelled event.
pub(super) async fn visible(guest: &Guest, id: &str) -> Result<models::Event> {
    let event = store::find(&guest.cx.db, super::id(id)?).await?;
    let event = event.filter(|event| event.status != store::Status::Draft);
    event.ok_or_else(|| throng::Error::not_found("there is no such event"))
}

async fn with_seats(cx: &Ctx, page: Page<models::Event>) -> Result<Events> {
    let next = next(&page);
    let seats = seats::of_many(&cx.db, page.items.iter().map(|event| event.id)).await?;
    let of = |id: i64| seats.iter().find(|seats| seats.event_id == id).copied();
    let items = page.items.into_iter().map(|event| (of(event.id), event));
    Ok(Events { items: items.map(|(seats, event)| Event::of(event, seats)).collect(), next })
}
