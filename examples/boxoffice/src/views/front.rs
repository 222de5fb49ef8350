//! The front page: what is on next, and ways into the long tail.

use maud::{Markup, html};

use super::{art, cards, words};
use crate::models::{Event, Seats, facets::Model as Facet};

/// What the front page shows; the same for every reader.
pub(crate) struct Front<'a> {
    pub(crate) today: &'a str,
    pub(crate) events: &'a [(Event, Option<Seats>)],
    pub(crate) topics: &'a [Facet],
    pub(crate) countries: &'a [Facet],
    pub(crate) cities: &'a [Facet],
}

pub(crate) fn front(front: &Front<'_>) -> Markup {
    let (lead, rest) = match front.events.split_first() {
        Some((lead, rest)) => (Some(lead), rest),
        None => (None, front.events),
    };
    let (posters, later) = rest.split_at(rest.len().min(POSTERS));
    html! {
        div.hero {
            div {
                h1 { "Good rooms, good talks, your seat in them." }
                p {
                    "Events by the people who organise them. Find one, hold a seat while you decide, "
                    "and have the ticket in your hand a minute later."
                }
                div.row {
                    a.button.buy href="/events" { "Browse events" }
                    a.button.plain href="/organise" { "Put on your own" }
                }
            }
            @if let Some((event, seats)) = lead { (self::lead(event, seats.as_ref(), front.today)) }
        }
        @if front.events.is_empty() {
            div.empty {
                h2 { "The calendar is empty" }
                p { "Nobody has announced anything yet. Be the first, or look at what has been." }
                div.row {
                    a.button href="/organise" { "Announce an event" }
                    a.button.plain href="/events?when=past" { "Past events" }
                }
            }
        }
        @if !posters.is_empty() {
            section aria-labelledby="next" {
                div.row.apart { h2 #next { "Coming up" } a href="/events" { "All upcoming events" } }
                ul.cards role="list" {
                    @for (event, seats) in posters { (cards::card(event, seats.as_ref(), front.today)) }
                }
            }
        }
        @if !later.is_empty() {
            section.section aria-labelledby="later" {
                div.row.apart { h2 #later { "A little later" } }
                ul.rows role="list" {
                    @for (event, seats) in later { (cards::line(event, seats.as_ref(), front.today, None)) }
                }
            }
        }
        (chips("topics", "By topic", "topic", front.topics, cards::topic))
        (chips("cities", "By city", "city", front.cities, str::to_owned))
        (chips("countries", "By country", "country", front.countries, str::to_owned))
    }
}

fn chips(
    id: &str,
    title: &str,
    filter: &str,
    facets: &[Facet],
    say: impl Fn(&str) -> String,
) -> Markup {
    html! {
        @if !facets.is_empty() {
            section.section aria-labelledby=(id) {
                div.row.apart { h2 id=(id) { (title) } }
                ul.chips role="list" {
                    @for facet in facets {
                        li {
                            a.chip href={ "/events?" (filter) "=" (super::encode(&facet.name)) } {
                                (say(&facet.name))
                                data value=(facet.events) { (words::thousands(facet.events.into())) }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn lead(event: &Event, seats: Option<&Seats>, today: &str) -> Markup {
    html! {
        article.lead {
            div.art { (art::poster(event.id, &event.topic)) }
            div.words {
                p.label { "Next up" }
                h2 { a href={ "/events/" (event.id) } { (event.name) } }
                div.row.apart {
                    p.soft { (words::days(&event.starts_on, &event.ends_on)) " · " (cards::place(event)) }
                    (cards::Standing::of(event, seats, today).tag())
                }
            }
        }
    }
}

/// How many events after the first get a poster; the others are lines.
const POSTERS: usize = 8;
