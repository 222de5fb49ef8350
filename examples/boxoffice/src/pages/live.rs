//! Live updates: one stream of server-sent events for each open page that wants one.

use std::{collections::VecDeque, convert::Infallible, sync::Arc, time::Duration};

use futures_util::stream::{self, Stream};
use serde::Deserialize;
use serde_json::json;
use throng::{
    Ctx, Error, Result,
    bus::Subscription,
    web::{
        HeaderMap, IntoResponse, Path, Query, Response, header,
        sse::{Event as Line, KeepAlive, Sse},
    },
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{Guest, events, orders};
use crate::{
    live::{self, Message},
    models::{comments, seats, users},
    tasks::Views,
    views::{
        event::Gauge,
        talk::{self, Said},
    },
};

/// How many streams may be open at once; provided to the site by `app`.
pub(crate) struct Streams(Arc<Semaphore>);

impl Streams {
    /// At most `most` streams in this process; whoever comes after that is asked to wait.
    pub(crate) fn new(most: usize) -> Self {
        Self(Arc::new(Semaphore::new(most)))
    }

    fn enter(&self) -> Result<OwnedSemaphorePermit> {
        let full = |_| Error::unavailable(TRY_AGAIN);
        Arc::clone(&self.0).try_acquire_owned().map_err(full)
    }
}

/// What the page has already.
#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Seen {
    /// The newest comment on the page.
    after: Option<i64>,
    /// Whether somebody has just opened the page, rather than come back to it.
    opened: bool,
}

/// The seats and comments of an event, as they change.
pub(super) async fn event(
    guest: Guest,
    Path(id): Path<i64>,
    Query(seen): Query<Seen>,
    headers: HeaderMap,
) -> Result<Response> {
    events::visible(&guest, id).await?;
    let cx = guest.cx.clone();
    if seen.opened && !headers.contains_key(LAST_EVENT_ID) {
        // Here rather than where the page is drawn: a page cache in front hides nobody, and robots
        // open no stream.
        cx.count::<Views>(id, 1)?;
    }
    let permit = cx.provided::<Streams>()?.enter()?;
    let news = cx.bus.subscribe(&live::event_group(id)).await?;
    // What changed between the page and this stream is told first.
    let seats = seats::of(&cx.db, id).await?;
    let mut first = Vec::from_iter(seats.and_then(|seats| gauge(seats.free(), seats.capacity)));
    if let Some(after) = seen.after {
        first.extend(missed(&cx, id, after).await?);
    }
    let watch = Watch { news, first: first.into(), _permit: permit };
    Ok(answer(stream::unfold(watch, Watch::next)))
}

/// Tells when the tickets of an order are ready.
pub(super) async fn order(guest: Guest, Path(number): Path<String>) -> Result<Response> {
    let (order, _) = orders::own(&guest, &number).await?;
    let cx = guest.cx.clone();
    let permit = cx.provided::<Streams>()?.enter()?;
    let news = cx.bus.subscribe(&live::order_group(order.id)).await?;
    // Read again after subscribing, or the news could come between the two; and where it is as soon
    // as it is written, for no replica is told to wait for what a worker has done.
    let (order, _) = orders::own_in(&cx.db.primary(), &guest, &number).await?;
    let first = Vec::from_iter(order.mailed_at_ms.map(|_| ready()));
    let watch = Watch { news, first: first.into(), _permit: permit };
    Ok(answer(stream::unfold(watch, Watch::next)))
}

/// One open stream.
struct Watch {
    news: Subscription,
    /// What is sent before any news.
    first: VecDeque<Line>,
    _permit: OwnedSemaphorePermit,
}

impl Watch {
    /// The next line to send. The stream ends when the bus does; the browser then comes back.
    async fn next(mut self) -> Option<(Result<Line, Infallible>, Self)> {
        let mut line = self.first.pop_front();
        while line.is_none() {
            let bytes = self.news.next().await.ok()?;
            line = serde_json::from_slice(&bytes).ok().and_then(self::line);
        }
        Some((Ok(line?), self))
    }
}

/// Comments that came between the page and its stream, oldest first.
async fn missed(cx: &Ctx, event_id: i64, after: i64) -> Result<Vec<Line>> {
    let newest = comments::of_event(&cx.db, event_id, None, MOST_MISSED).await?.items;
    let newer: Vec<_> = newest.into_iter().rev().filter(|said| said.id > after).collect();
    let authors = users::find_many(&cx.db, newer.iter().map(|said| said.author_id)).await?;
    let line = |comment: &comments::Model| {
        let author = authors.iter().find(|author| author.id == comment.author_id)?;
        said(Said::by(author, comment))
    };
    Ok(newer.iter().filter_map(line).collect())
}

fn line(message: Message) -> Option<Line> {
    match message {
        Message::Seats { free, capacity, .. } => gauge(free, capacity),
        Message::Comment { id, ref username, ref name, ref body, created_at_ms, .. } => {
            said(Said { id, username, name, body, created_at_ms })
        }
        Message::Hidden { id } => Some(Line::default().event("hide").data(id.to_string())),
        Message::Mailed { .. } => Some(ready()),
    }
}

fn said(comment: Said<'_>) -> Option<Line> {
    let html = talk::comment(comment).into_string();
    let data = json!({ "id": comment.id.to_string(), "html": html });
    Line::default().event("comment").json_data(data).ok()
}

fn gauge(free: i32, capacity: i32) -> Option<Line> {
    // A browser that has seen an id says so when it comes back to a stream that broke.
    Line::default().event("seats").id("seats").json_data(Gauge::of(free, capacity)).ok()
}

fn ready() -> Line {
    Line::default().event("ready").data("1")
}

fn answer(lines: impl Stream<Item = Result<Line, Infallible>> + Send + 'static) -> Response {
    let stream = Sse::new(lines).keep_alive(KeepAlive::new().interval(HEARTBEAT));
    // Proxies that buffer would hold every line back.
    let headers = [(header::CACHE_CONTROL, "no-store"), (X_ACCEL_BUFFERING, "no")];
    (headers, stream).into_response()
}

/// Often enough that no proxy takes the connection for dead.
const HEARTBEAT: Duration = Duration::from_secs(20);
/// A page that missed more than this shows the latest; the rest is a link away.
const MOST_MISSED: u64 = 20;
const TRY_AGAIN: Duration = Duration::from_secs(30);
const LAST_EVENT_ID: header::HeaderName = header::HeaderName::from_static("last-event-id");
const X_ACCEL_BUFFERING: header::HeaderName = header::HeaderName::from_static("x-accel-buffering");
