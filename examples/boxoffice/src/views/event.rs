//! An event's own page: facts, buy box, neighbours.

use maud::{Markup, PreEscaped, html};
use serde::{Deserialize, Serialize};

use super::{art, cards, cards::Standing, layout::Frame, words};
use crate::{
    models::{Event, Organiser, Seats},
    purchase::MAX_SEATS,
};

/// The parts of an event page; all but the buy box are the same for every reader.
pub(crate) struct Show<'a> {
    pub(crate) facts: &'a str,
    pub(crate) buybox: Markup,
    pub(crate) talk: Markup,
    pub(crate) more: Markup,
    pub(crate) live: Option<String>,
}

pub(crate) fn show(show: Show<'_>) -> Markup {
    html! {
        div.show data-live=[show.live] {
            div.about { (PreEscaped(show.facts)) }
            aside.buybox aria-label="Tickets" { (show.buybox) }
            div.talk { (show.talk) }
        }
        (show.more)
    }
}

/// Name, poster, facts and description.
pub(crate) fn facts(event: &Event, organiser: Option<&Organiser>, standing: Standing) -> Markup {
    html! {
        div.art.banner { (art::banner(event.id, &event.topic)) }
        div.head {
            div.row { p.label { (cards::topic(&event.topic)) } (standing.tag()) }
            h1 { (event.name) }
        }
        @match standing {
            Standing::Cancelled => div.note.bad { strong { "This event has been cancelled." } " Whoever holds a ticket has been told by mail." },
            Standing::Over => div.note { strong { "This event is over." } " The discussion stays open; below is what comes next." },
            Standing::Draft => div.note.warn { strong { "Only you can see this." } " Publish the event when it is ready." },
            _ => {}
        }
        dl.facts {
            div { dt.label { "When" } dd { time datetime=(event.starts_on) { (words::days(&event.starts_on, &event.ends_on)) } } }
            div { dt.label { "Where" } dd { (cards::place(event)) } }
            @if let Some(organiser) = organiser {
                div { dt.label { "Organiser" } dd { a href={ "/organisers/" (organiser.id) } { (organiser.name) } } }
            }
            @if !event.locales.is_empty() {
                div { dt.label { "Language" } dd { (event.locales.replace(',', ", ")) } }
            }
            @if let Some(site) = site(&event.url) {
                div { dt.label { "Website" } dd { a href=(event.url) rel="nofollow noopener ugc" { (site) } } }
            }
        }
        @for paragraph in event.description.split("\n\n").map(str::trim).filter(|text| !text.is_empty()) {
            p.text.pre { (paragraph) }
        }
    }
}

/// What the buy box of an event says; the same for every reader.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Offer {
    pub(crate) id: i64,
    pub(crate) name: String,
    pub(crate) topic: String,
    pub(crate) url: String,
    pub(crate) price_cents: i64,
    pub(crate) currency: String,
    pub(crate) standing: Standing,
    pub(crate) free: i32,
    pub(crate) capacity: i32,
}

impl Offer {
    /// The offer of `event`, without its seats.
    pub(crate) fn of(event: &Event, today: &str) -> Self {
        Self {
            id: event.id,
            name: event.name.clone(),
            topic: event.topic.clone(),
            url: event.url.clone(),
            price_cents: event.price_cents,
            currency: event.currency.clone(),
            standing: Standing::of(event, None, today),
            free: 0,
            capacity: 0,
        }
    }

    /// The offer as it is now: seats change with every buyer.
    pub(crate) fn with(self, seats: Option<&Seats>) -> Self {
        Self {
            standing: self.standing.with(seats),
            free: seats.map_or(0, Seats::free),
            capacity: seats.map_or(0, |seats| seats.capacity),
            ..self
        }
    }

    /// Whether the page of this event has anything that changes while one looks.
    pub(crate) fn is_live(&self) -> bool {
        self.standing != Standing::Draft
    }

    fn is_selling(&self) -> bool {
        matches!(self.standing, Standing::Open | Standing::Last(_) | Standing::SoldOut)
    }
}

/// Where seats are bought; the reader decides between a form and the way to one.
pub(crate) fn buybox(frame: &Frame, offer: &Offer) -> Markup {
    html! {
        div.ticket {
            div {
                h2.label { "Tickets" }
                p.price {
                    @if offer.standing == Standing::Listed { "Elsewhere" }
                    @else {
                        (words::price(offer.price_cents, &offer.currency))
                        @if offer.price_cents > 0 { " " span.small.soft { "a seat" } }
                    }
                }
                @if offer.is_selling() { (gauge(offer.free, offer.capacity)) }
            }
            div.stack { (choice(frame, offer)) }
        }
    }
}

fn choice(frame: &Frame, offer: &Offer) -> Markup {
    let more = format!("/events?topic={}", super::encode(&offer.topic));
    match offer.standing {
        Standing::Open | Standing::Last(_) if frame.reader.is_some() => html! {
            form.stack method="post" action={ "/events/" (offer.id) "/hold" } {
                (frame.token())
                div.field {
                    label for="quantity" { "Seats" }
                    select #quantity name="quantity" {
                        @for number in 1..=offer.free.clamp(1, MAX_SEATS) {
                            option value=(number) { (number) }
                        }
                    }
                }
                button.button.buy.full {
                    @if offer.price_cents == 0 { "Reserve seats" } @else { "Hold seats" }
                }
            }
            p.small.soft { "Yours for ten minutes while you check out. Nothing is charged before you say so." }
        },
        Standing::Open | Standing::Last(_) => html! {
            a.button.buy.full href=(frame.sign_in()) { "Sign in to get tickets" }
            p.small.soft {
                "New here? " a href={ "/sign-up?next=" (super::encode(&frame.here)) } { "Sign up" }
                " takes half a minute."
            }
        },
        Standing::SoldOut => html! {
            p { strong { "Every seat is taken." } }
            p.small.soft { "Seats that others hold and do not pay for come back within ten minutes, and this page shows it at once." }
            a.button.plain.full href=(more) { "More " (cards::topic(&offer.topic)) " events" }
        },
        Standing::Cancelled => html! {
            p { "No tickets are sold any more." }
            a.button.plain.full href=(more) { "More " (cards::topic(&offer.topic)) " events" }
        },
        Standing::Over => html! {
            p { "The doors have closed on this one." }
            a.button.plain.full href=(more) { "Upcoming " (cards::topic(&offer.topic)) " events" }
        },
        Standing::Draft => html! {
            p { "Tickets go on sale when the event is published." }
            a.button.full href={ "/organise/events/" (offer.id) } { "Edit event" }
        },
        Standing::Listed => html! {
            p { "Tickets for this event are sold on its own site." }
            @if let Some(site) = site(&offer.url) {
                a.button.full href=(offer.url) rel="nofollow noopener ugc" { "Go to " (site) }
            }
        },
    }
}

/// How many seats are left, as words and as a bar. Live updates replace both.
fn gauge(free: i32, capacity: i32) -> Markup {
    let Gauge { words, width, low } = Gauge::of(free, capacity);
    html! {
        p.seats data-seats aria-live="polite" { (words) }
        div.gauge.low[low] {
            svg viewBox="0 0 100 1" preserveAspectRatio="none" aria-hidden="true" { rect width=(width) height="1" {} }
        }
    }
}

/// What the bar of seats shows.
#[derive(Debug, Serialize)]
pub(crate) struct Gauge {
    pub(crate) words: String,
    pub(crate) width: i64,
    pub(crate) low: bool,
}

impl Gauge {
    pub(crate) fn of(free: i32, capacity: i32) -> Self {
        let (free, capacity) = (i64::from(free.max(0)), i64::from(capacity.max(1)));
        let words = match free {
            0 => "Sold out".into(),
            _ => format!(
                "{} of {} left",
                words::count(free, "seat", "seats"),
                words::thousands(capacity)
            ),
        };
        // Rounded up: a seat that is left is a bar that can be seen.
        let width = (free * 100 + capacity - 1) / capacity;
        Self { words, width, low: width <= 15 }
    }
}

/// Other events of the same topic, each drawn already.
pub(crate) fn more<'a>(topic: &str, cards: impl Iterator<Item = &'a str>) -> Markup {
    let mut cards = cards.peekable();
    html! {
        @if cards.peek().is_some() {
            section.section.noprint aria-labelledby="more" {
                div.row.apart {
                    h2 #more { "More " (cards::topic(topic)) " events" }
                    a href={ "/events?topic=" (super::encode(topic)) } { "See all" }
                }
                ul.cards role="list" { @for card in cards { (PreEscaped(card)) } }
            }
        }
    }
}

/// The host of a web address, if it is one.
fn site(url: &str) -> Option<&str> {
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"))?;
    let host = rest.split(['/', '?', '#']).next().filter(|host| !host.is_empty())?;
    Some(host.strip_prefix("www.").unwrap_or(host))
}
