//! An event in a list: as a card with its poster, or as a line of a timetable.

use maud::{Markup, html};

use super::{art, words};
use crate::models::{Event, Seats, events::Status};

/// How an event stands today, in the words of a tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) enum Standing {
    Draft,
    Cancelled,
    Over,
    SoldOut,
    /// Nearly sold out.
    Last(i32),
    Open,
    /// Listed here, sold elsewhere.
    Listed,
}

impl Standing {
    /// How `event` stands on `today`, `YYYY-MM-DD`.
    pub(crate) fn of(event: &Event, seats: Option<&Seats>, today: &str) -> Self {
        let standing = match event.status {
            Status::Draft => Self::Draft,
            Status::Cancelled => Self::Cancelled,
            Status::Published if event.is_over(today) => Self::Over,
            Status::Published => Self::Listed,
        };
        standing.with(seats)
    }

    /// How an event stands that is known to stand so without its seats.
    pub(crate) fn with(self, seats: Option<&Seats>) -> Self {
        match (self, seats) {
            (Self::Listed, Some(seats)) if seats.capacity > 0 => match seats.free() {
                ..=0 => Self::SoldOut,
                left if left <= 10 => Self::Last(left),
                _ => Self::Open,
            },
            _ => self,
        }
    }

    /// The tag beside an event; events on sale as usual need none.
    pub(crate) fn tag(self) -> Markup {
        let (class, words) = match self {
            Self::Draft => ("warn", "Draft".into()),
            Self::Cancelled => ("bad", "Cancelled".into()),
            Self::Over => ("", "Past".into()),
            Self::SoldOut => ("bad", "Sold out".into()),
            Self::Last(left) => ("warn", format!("{left} left")),
            Self::Open | Self::Listed => return html! {},
        };
        html! { span.tag.(class) { (words) } }
    }
}

/// An event as a card, for grids.
pub(crate) fn card(event: &Event, seats: Option<&Seats>, today: &str) -> Markup {
    let standing = Standing::of(event, seats, today);
    html! {
        li {
            article.card.over[standing == Standing::Over] {
                div.art { (art::poster(event.id, &event.topic)) }
                div.words {
                    p.print { time datetime=(event.starts_on) { (words::days(&event.starts_on, &event.ends_on)) } }
                    h3 { a href={ "/events/" (event.id) } { (event.name) } }
                    p.place { (place(event)) }
                    div.foot {
                        @if standing == Standing::Listed {
                            span.soft.small { "Details" }
                        } @else {
                            span.print { (words::price(event.price_cents, &event.currency)) }
                        }
                        (standing.tag())
                    }
                }
            }
        }
    }
}

/// An event as a line with its calendar leaf, for long lists.
pub(crate) fn line(
    event: &Event,
    seats: Option<&Seats>,
    today: &str,
    aside: Option<Markup>,
) -> Markup {
    let standing = Standing::of(event, seats, today);
    let (month, day, year) = words::leaf(&event.starts_on);
    html! {
        li {
            article.line.over[standing == Standing::Over] {
                div.day aria-hidden="true" { span { (month) } b { (day) } span { (year) } }
                div {
                    h3 { a href={ "/events/" (event.id) } { (event.name) } }
                    p.soft.small {
                        (words::days(&event.starts_on, &event.ends_on)) " · " (place(event))
                    }
                }
                div.aside {
                    @match aside {
                        Some(aside) => (aside),
                        None => {
                            @if standing != Standing::Listed && standing != Standing::Over {
                                span.print { (words::price(event.price_cents, &event.currency)) }
                            }
                            (standing.tag())
                        }
                    }
                }
            }
        }
    }
}

/// Where an event is: `Kraków, Poland`, `Online`, `Kraków, Poland and online`.
pub(crate) fn place(event: &Event) -> String {
    let mut place = match (event.city.as_str(), event.country.as_str()) {
        ("", "") => {
            return if event.online { "Online".into() } else { "Place to be announced".into() };
        }
        (city, "") => city.to_owned(),
        ("", country) => country.to_owned(),
        (city, country) => format!("{city}, {country}"),
    };
    if event.online {
        place.push_str(" and online");
    }
    place
}

/// A topic as people write it: `C++`, `JavaScript`, `Rust`.
pub(crate) fn topic(topic: &str) -> String {
    match TOPICS.iter().find(|(name, _)| *name == topic) {
        Some((_, words)) => (*words).to_owned(),
        None => super::capital(topic),
    }
}

const TOPICS: [(&str, &str); 19] = [
    ("api", "APIs"),
    ("cfml", "CFML"),
    ("cpp", "C++"),
    ("css", "CSS"),
    ("devops", "DevOps"),
    ("dotnet", ".NET"),
    ("golang", "Go"),
    ("graphql", "GraphQL"),
    ("ios", "iOS"),
    ("iot", "IoT"),
    ("javascript", "JavaScript"),
    ("opensource", "Open source"),
    ("php", "PHP"),
    ("sre", "SRE"),
    ("tech-comm", "Tech writing"),
    ("typescript", "TypeScript"),
    ("ux", "UX"),
    ("general", "General"),
    ("data", "Data"),
];
