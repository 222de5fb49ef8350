//! Lists of events: browsing by filters, and search.

use maud::{Markup, html};

use super::{cards, words};
use crate::models::{Event, Seats, facets::Model as Facet};

/// A page of events that match some filters.
pub(crate) struct Browse<'a> {
    pub(crate) today: &'a str,
    pub(crate) topic: &'a str,
    pub(crate) country: &'a str,
    pub(crate) city: &'a str,
    pub(crate) days: Days,
    pub(crate) topics: &'a [Facet],
    pub(crate) countries: &'a [Facet],
    pub(crate) events: &'a [(Event, Option<Seats>)],
    pub(crate) previous: Option<String>,
    pub(crate) next: Option<String>,
}

/// Which days a list covers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Days {
    /// From today on, soonest first.
    #[default]
    Upcoming,
    /// Up to yesterday, latest first.
    Past,
}

impl Days {
    /// The choice that a link names; anything else is upcoming.
    pub(crate) fn named(name: &str) -> Self {
        if name == "past" { Self::Past } else { Self::Upcoming }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Upcoming => "upcoming",
            Self::Past => "past",
        }
    }
}

pub(crate) fn browse(browse: &Browse<'_>) -> Markup {
    html! {
        div.head {
            h1 { (browse.title()) }
        }
        div.split {
            form.filters.sheet action="/events" aria-label="Filter events" {
                fieldset {
                    legend { "When" }
                    div.stack {
                        @for (days, words) in [(Days::Upcoming, "Upcoming"), (Days::Past, "Past")] {
                            label.row { input type="radio" name="when" value=(days.name()) checked[browse.days == days]; (words) }
                        }
                    }
                }
                (choice("topic", "Topic", "Every topic", browse.topic, browse.topics, cards::topic))
                (choice("country", "Country", "Everywhere", browse.country, browse.countries, str::to_owned))
                @if !browse.city.is_empty() {
                    (choice("city", "City", "Every city", browse.city, &[], str::to_owned))
                }
                button.button { "Show" }
                @if browse.is_filtered() { a href="/events" { "Clear filters" } }
            }
            section aria-labelledby="list" {
                h2.hush #list { "Events" }
                @if browse.events.is_empty() { (browse.nothing()) } @else {
                    ul.rows role="list" {
                        @for (event, seats) in browse.events { (cards::line(event, seats.as_ref(), browse.today, None)) }
                    }
                }
                (pager("Pages of events", browse.previous.as_deref(), browse.next.as_deref(), ("Earlier page", "Next page")))
            }
        }
    }
}

impl Browse<'_> {
    pub(crate) fn title(&self) -> String {
        let when = match self.days {
            Days::Upcoming => "Upcoming",
            Days::Past => "Past",
        };
        let mut title = match self.topic {
            "" => format!("{when} events"),
            topic => format!("{when} {} events", cards::topic(topic)),
        };
        let place = if self.city.is_empty() { self.country } else { self.city };
        if !place.is_empty() {
            title.push_str(" in ");
            title.push_str(place);
        }
        title
    }

    fn is_filtered(&self) -> bool {
        !self.topic.is_empty()
            || !self.country.is_empty()
            || !self.city.is_empty()
            || self.days == Days::Past
    }

    fn nothing(&self) -> Markup {
        html! {
            div.empty {
                h2 { "Nothing here" }
                p { "No event matches. Try fewer filters, or see what has already happened." }
                div.row {
                    a.button href="/events" { "All upcoming events" }
                    @if self.days != Days::Past { a.button.plain href="/events?when=past" { "Past events" } }
                }
            }
        }
    }
}

/// Results of a search.
pub(crate) fn search(
    query: &str,
    today: &str,
    events: &[(Event, Option<Seats>)],
    next: Option<&str>,
    is_later: bool,
) -> Markup {
    html! {
        div.head {
            h1 { @if query.is_empty() { "Search" } @else { "Events matching “" (query) "”" } }
        }
        form.find.text role="search" action="/search" aria-label="Search again" {
            label.hush for="again" { "Search events" }
            input #again type="search" name="q" value=(query) maxlength="100" placeholder="A name, a city, a topic";
            button { span.hush { "Search" } (super::icons::lens()) }
        }
        section.section aria-labelledby="results" {
            h2.hush #results { "Results" }
            @if !events.is_empty() {
                ul.rows role="list" {
                    @for (event, seats) in events { (cards::line(event, seats.as_ref(), today, None)) }
                }
                (pager("Pages of results", is_later.then(|| format!("/search?q={}", super::encode(query))).as_deref(), next, ("First results", "More results")))
            } @else if query.is_empty() {
                div.empty { p { "Type the name of an event, a city or a topic." } a.button href="/events" { "Browse instead" } }
            } @else {
                div.empty {
                    h2 { "No event matches" }
                    p { "Every word has to match the name, the place or the topic. Try fewer words, or the beginning of one." }
                    a.button href="/events" { "Browse all events" }
                }
            }
        }
    }
}

/// Links to the pages before and after; a row of the same height when there are none.
pub(crate) fn pager(
    label: &str,
    previous: Option<&str>,
    next: Option<&str>,
    words: (&str, &str),
) -> Markup {
    html! {
        @if previous.is_some() || next.is_some() {
            nav.pager aria-label=(label) {
                @match previous { Some(link) => a.button.plain rel="prev" href=(link) { "← " (words.0) }, None => span {} }
                @if let Some(link) = next { a.button.plain rel="next" href=(link) { (words.1) " →" } }
            }
        }
    }
}

fn choice(
    name: &str,
    label: &str,
    any: &str,
    chosen: &str,
    options: &[Facet],
    say: impl Fn(&str) -> String,
) -> Markup {
    html! {
        div.field {
            label for={ "c-" (name) } { (label) }
            select id={ "c-" (name) } name=(name) {
                option value="" { (any) }
                @if !chosen.is_empty() && !options.iter().any(|option| option.name == chosen) {
                    option value=(chosen) selected { (say(chosen)) }
                }
                @for option in options {
                    option value=(option.name) selected[option.name == chosen] { (say(&option.name)) " (" (words::thousands(option.events.into())) ")" }
                }
            }
        }
    }
}
