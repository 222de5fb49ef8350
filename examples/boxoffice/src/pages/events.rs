//! Lists of events, and an event's own page.

use std::time::Duration;

use maud::Markup;
use serde::{Deserialize, Serialize};
use throng::{
    Ctx, Error, Result,
    cache::Life,
    web::{Path, Query},
};

use super::Guest;
use crate::{
    kept,
    models::{
        BadCursor, Cursor, Event, Problems, Seats, comments,
        events::{self as store, Filter, Status, When},
        facets::{self, Kind},
        organisers, search as index, seats, today, users,
    },
    tags,
    views::{
        browse::{self as view, Days},
        cards::{self, Standing},
        encode, event,
        event::Offer,
        talk, words,
    },
};

/// What a list is asked for.
#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Asked {
    topic: String,
    country: String,
    city: String,
    when: String,
    after: String,
    before: String,
}

pub(super) async fn browse(guest: Guest, Query(asked): Query<Asked>) -> Result<Markup> {
    let today = guest.today();
    let days = Days::named(&asked.when);
    let when = match days {
        Days::Upcoming => When::From(&today),
        Days::Past => When::Before(&today),
    };
    let cx = &guest.cx.shows(tags::EVENTS).await?;
    let (rows, has_previous, has_next) = slice(cx, &asked, when, days, &today).await?;
    let link = |side: &str, event: Option<&Event>| {
        event.map(|event| format!("{}&{side}={}", asked.link(days), cursor(event)))
    };
    let previous = has_previous.then(|| link("before", rows.first())).flatten();
    let next = has_next.then(|| link("after", rows.last())).flatten();
    let topics = choices(cx, Kind::Topic).await?;
    let countries = choices(cx, Kind::Country).await?;
    let events = with_seats(cx, rows).await?;
    let page = view::Browse {
        today: &today,
        topic: &asked.topic,
        country: &asked.country,
        city: &asked.city,
        days,
        topics: &topics,
        countries: &countries,
        events: &events,
        previous,
        next,
    };
    Ok(guest.frame()?.page(&page.title(), view::browse(&page)))
}

/// One page of the list, and whether there are rows before and after it.
async fn slice(
    cx: &Ctx,
    asked: &Asked,
    when: When<'_>,
    days: Days,
    today: &str,
) -> Result<(Vec<Event>, bool, bool)> {
    let filter = asked.filter();
    let after: Option<Cursor> = parse(&asked.after)?;
    let Some(before) = parse(&asked.before)? else {
        let page = store::browse(&cx.db, &filter, when, after.as_ref(), PAGE).await?;
        return Ok((page.items, after.is_some(), page.next.is_some()));
    };
    // The page before a row is the same list read backwards from it.
    let (back, is_listed): (_, fn(&str, &str) -> bool) = match days {
        Days::Upcoming => (When::Before(END_OF_TIME), |day, today| day >= today),
        Days::Past => (When::From(""), |day, today| day < today),
    };
    let page = store::browse(&cx.db, &filter, back, Some(&before), PAGE).await?;
    let read = page.items.len();
    let mut rows: Vec<Event> =
        page.items.into_iter().take_while(|event| is_listed(&event.starts_on, today)).collect();
    let has_previous = page.next.is_some() && rows.len() == read;
    rows.reverse();
    if rows.is_empty() {
        let page = store::browse(&cx.db, &filter, when, None, PAGE).await?;
        return Ok((page.items, false, page.next.is_some()));
    }
    Ok((rows, has_previous, true))
}

impl Asked {
    fn filter(&self) -> Filter {
        let set = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        Filter {
            topic: set(&self.topic),
            country: set(&self.country),
            city: set(&self.city),
            organiser_id: None,
        }
    }

    fn link(&self, days: Days) -> String {
        let mut link = format!("/events?when={}", days.name());
        for (name, value) in
            [("topic", &self.topic), ("country", &self.country), ("city", &self.city)]
        {
            if !value.is_empty() {
                link.push_str(&format!("&{name}={}", encode(value)));
            }
        }
        link
    }
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Wanted {
    q: String,
    after: String,
}

pub(super) async fn search(guest: Guest, Query(wanted): Query<Wanted>) -> Result<Markup> {
    let query: String = wanted.q.trim().chars().take(MOST_QUERY).collect();
    let today = guest.today();
    let after: Option<Cursor> = parse(&wanted.after)?;
    let cx = &guest.cx.shows(tags::EVENTS).await?;
    let page = index::find(&cx.db, &query, &today, after.as_ref(), PAGE).await?;
    let next = page.next.map(|next| format!("/search?q={}&after={next}", encode(&query)));
    let events = with_seats(cx, page.items).await?;
    let title = if query.is_empty() { "Search".to_owned() } else { format!("Search: {query}") };
    let body = view::search(&query, &today, &events, next.as_deref(), after.is_some());
    Ok(guest.frame()?.page(&title, body))
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Talk {
    before: Option<i64>,
}

pub(super) async fn show(
    guest: Guest,
    Path(id): Path<i64>,
    Query(asked): Query<Talk>,
) -> Result<Markup> {
    page(&guest, id, asked.before, "", &Problems::default()).await
}

/// An event's page, with what the reader typed into the discussion, if anything.
pub(super) async fn page(
    guest: &Guest,
    id: i64,
    before: Option<i64>,
    typed: &str,
    problems: &Problems,
) -> Result<Markup> {
    // Also where there is no such event, or none yet.
    let cx = &guest.cx.shows(&tags::event(id)).await?;
    let mut shown = shown(cx, id, &guest.today()).await?;
    shown.offer = shown.offer.with(seats::of(&cx.db, id).await?.as_ref());
    if shown.offer.standing == Standing::Draft && !may_edit(guest, shown.owner_id) {
        return Err(no_such_event());
    }
    let older;
    let list = match before {
        None => &shown.talk,
        Some(_) => {
            older = talk_of(cx, id, before).await?;
            &older
        }
    };
    // Whatever stands under every page of a topic is kept once for the topic, not in each page.
    let cx = &cx.shows(&tags::topic(&shown.offer.topic)).await?;
    let near = near(cx, &shown.offer.topic, guest.today()).await?;
    let others = near.iter().filter(|(other, _)| *other != id).take(NEAR);
    let frame = guest.frame()?;
    let body = event::show(event::Show {
        facts: &shown.facts,
        buybox: event::buybox(&frame, &shown.offer),
        talk: talk::talk(&frame, id, list, typed, problems),
        more: event::more(&shown.offer.topic, others.map(|(_, card)| card.as_str())),
        live: shown.offer.is_live().then(|| format!("/events/{id}/live")),
    });
    Ok(frame.described(&shown.offer.name, &shown.summary, body))
}

/// What an event's page shows to everyone, drawn already. Seats are not part of it.
#[derive(Clone, Serialize, Deserialize)]
struct Shown {
    offer: Offer,
    owner_id: Option<i64>,
    summary: String,
    facts: String,
    talk: String,
}

async fn shown(cx: &Ctx, id: i64, today: &str) -> Result<Shown> {
    let (mine, today) = (cx.clone(), today.to_owned());
    // Everyone gets what one visitor draws, so he must not read where the last change is missing.
    let load = async move || draw(mine.for_load(&key(id)).await?, id, today).await;
    Ok(cx.cache.fetch(&key(id), life(), load).await?)
}

/// Draws an event's page anew, after something on it was written. Seats are not part of it.
pub(crate) async fn changed(cx: &Ctx, id: i64) {
    // Whoever draws it later, and anywhere, sees what was written.
    if let Err(error) = cx.expire(&key(id)).await {
        tracing::warn!(%error, "cannot forget the page of event {id}");
    }
    let page = draw(cx.clone(), id, today(&cx.clock));
    kept::renew(cx, &key(id), life(), page).await;
    cx.purge(&tags::event(id)).await;
}

/// Draws anew what lists events beside an event of `topic`.
pub(crate) async fn listed(cx: &Ctx, topic: &str) {
    let near = draw_near(cx.clone(), topic.to_owned(), today(&cx.clock));
    kept::renew(cx, &near_key(topic), KEEP, near).await;
    cx.purge(&tags::topic(topic)).await;
    super::front_changed(cx).await;
}

fn life() -> Life {
    Life::of(KEEP).grace(GRACE)
}

fn key(id: i64) -> String {
    format!("event/{id}")
}

async fn draw(cx: Ctx, id: i64, today: String) -> Result<Shown> {
    let event = store::find(&cx.db, id).await?.ok_or_else(no_such_event)?;
    let organiser = match event.organiser_id {
        Some(id) => organisers::find(&cx.db, id).await?,
        None => None,
    };
    let offer = Offer::of(&event, &today);
    let facts = event::facts(&event, organiser.as_ref(), offer.standing).into_string();
    let talk = talk_of(&cx, id, None).await?;
    let place = cards::place(&event);
    let summary = format!("{}, {place}", words::days(&event.starts_on, &event.ends_on));
    let owner_id = organiser.and_then(|organiser| organiser.owner_id);
    Ok(Shown { offer, owner_id, summary, facts, talk })
}

/// The next events of a topic as cards, with one to spare for the event that asks.
async fn near(cx: &Ctx, topic: &str, today: String) -> Result<Vec<(i64, String)>> {
    let (mine, of) = (cx.clone(), topic.to_owned());
    Ok(cx.cache.fetch(&near_key(topic), KEEP, move || draw_near(mine, of, today)).await?)
}

fn near_key(topic: &str) -> String {
    format!("near/{topic}")
}

async fn draw_near(cx: Ctx, topic: String, today: String) -> Result<Vec<(i64, String)>> {
    let filter = Filter { topic: Some(topic), ..Filter::default() };
    let when = When::From(&today);
    let page = store::browse(&cx.db, &filter, when, None, NEAR as u64 + 1).await?;
    let drawn = with_seats(&cx, page.items).await?.into_iter().map(|(event, seats)| {
        (event.id, cards::card(&event, seats.as_ref(), &today).into_string())
    });
    Ok(drawn.collect())
}

/// A page of an event's discussion: the newest, or those before an id.
async fn talk_of(cx: &Ctx, id: i64, before: Option<i64>) -> Result<String> {
    let after = before.map(Cursor::id);
    let page = comments::of_event(&cx.db, id, after.as_ref(), COMMENTS).await?;
    let older = page.next.map(|next| next.id);
    let authors = users::find_many(&cx.db, page.items.iter().map(|said| said.author_id)).await?;
    let attach = |comment: comments::Model| {
        let author = authors.iter().find(|author| author.id == comment.author_id)?.clone();
        Some((comment, author))
    };
    let said: Vec<_> = page.items.into_iter().filter_map(attach).collect();
    Ok(talk::comments(id, &said, older, before.is_none()).into_string())
}

/// Events with what is left of their seats, in the same order.
pub(super) async fn with_seats(
    cx: &Ctx,
    events: Vec<Event>,
) -> Result<Vec<(Event, Option<Seats>)>> {
    let seats = seats::of_many(&cx.db, events.iter().map(|event| event.id)).await?;
    let of = |id: i64| seats.iter().find(|seats| seats.event_id == id).copied();
    Ok(events
        .into_iter()
        .map(|event| (of(event.id), event))
        .map(|(of, event)| (event, of))
        .collect())
}

/// The event `id`, if this guest may see it.
pub(super) async fn visible(guest: &Guest, id: i64) -> Result<Event> {
    let event = store::find(&guest.cx.db, id).await?.ok_or_else(no_such_event)?;
    if event.status == Status::Draft {
        let owner = match event.organiser_id {
            Some(id) => organisers::find(&guest.cx.db, id).await?.and_then(|found| found.owner_id),
            None => None,
        };
        if !may_edit(guest, owner) {
            return Err(no_such_event());
        }
    }
    Ok(event)
}

/// Whether the guest is the owner of an event, or a moderator.
pub(super) fn may_edit(guest: &Guest, owner_id: Option<i64>) -> bool {
    guest.user().is_some_and(|user| user.is_staff || Some(user.id) == owner_id)
}

pub(super) fn no_such_event() -> Error {
    Error::not_found("there is no such event")
}

/// A cursor out of a link: none when it is empty, 404 when this site did not write it.
pub(super) fn parse(text: &str) -> Result<Option<Cursor>> {
    if text.is_empty() {
        return Ok(None);
    }
    text.parse()
        .map(Some)
        .map_err(|_: BadCursor| Error::not_found("there is no such page of this list"))
}

fn cursor(event: &Event) -> Cursor {
    Cursor { day: event.starts_on.clone(), id: event.id }
}

async fn choices(cx: &Ctx, kind: Kind) -> Result<Vec<facets::Model>> {
    let mut choices = facets::list(&cx.db, kind, CHOICES).await?;
    choices.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(choices)
}

/// Every write sets it anew sooner.
const KEEP: Duration = Duration::from_secs(30);
const GRACE: Duration = Duration::from_secs(30);
const PAGE: u64 = 25;
const COMMENTS: u64 = 20;
const NEAR: usize = 4;
const CHOICES: u64 = 200;
const MOST_QUERY: usize = 100;
/// Sorts after every day that an event can have.
const END_OF_TIME: &str = "9999-99-99";
