//! The front page.

use std::time::Duration;

use maud::{Markup, PreEscaped};
use throng::{Ctx, Result};

use super::Guest;
use crate::{
    kept,
    models::{
        events::{self, Filter, When},
        facets::{self, Kind},
        today,
    },
    tags,
    views::front,
};

pub(super) async fn front(guest: Guest) -> Result<Markup> {
    let (cx, today) = (guest.cx.shows(tags::EVENTS).await?, guest.today());
    let body = guest.cx.cache.fetch(key(&today), KEEP, move || draw(cx, today)).await?;
    Ok(guest.frame()?.described("What is on", ABOUT, PreEscaped(body)))
}

/// Draws the page anew, after something on it was written.
pub(crate) async fn changed(cx: &Ctx) {
    let today = today(&cx.clock);
    kept::renew(cx, &key(&today), KEEP, draw(cx.clone(), today.clone())).await;
    cx.purge(tags::EVENTS).await;
}

fn key(today: &str) -> String {
    format!("front/{today}")
}

/// The body of the page, the same for everyone.
async fn draw(cx: Ctx, today: String) -> Result<String> {
    let coming = When::From(&today);
    let page = events::browse(&cx.db, &Filter::default(), coming, None, EVENTS).await?;
    let topics = facets::list(&cx.db, Kind::Topic, FACETS).await?;
    let countries = facets::list(&cx.db, Kind::Country, FACETS).await?;
    let cities = facets::list(&cx.db, Kind::City, FACETS).await?;
    let events = super::events::with_seats(&cx, page.items).await?;
    let body = front::front(&front::Front {
        today: &today,
        events: &events,
        topics: &topics,
        countries: &countries,
        cities: &cities,
    });
    Ok(body.into_string())
}

const KEEP: Duration = Duration::from_secs(10);
const EVENTS: u64 = 17;
const FACETS: u64 = 18;
const ABOUT: &str = "Events by the people who organise them: find one, hold a seat, have the ticket in your hand a minute later.";
