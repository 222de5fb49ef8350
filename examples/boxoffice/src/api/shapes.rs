//! What the API sends and takes. Ids are text: they have 64 bits, and JSON numbers in many
//! languages have 53.

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::{
    models,
    models::{Cursor, Page, Seats, User},
    views::talk,
};

/// An event.
#[derive(Serialize, ToSchema)]
pub(super) struct Event {
    /// Its id; the page is at `/events/{id}`.
    #[schema(example = "1234567890123456789")]
    id: String,
    name: String,
    /// Its own site; empty when it has none.
    url: String,
    /// First day.
    #[schema(format = Date)]
    starts_on: String,
    /// Last day.
    #[schema(format = Date)]
    ends_on: String,
    /// Empty when it is only online.
    city: String,
    /// Empty when it is only online.
    country: String,
    online: bool,
    topic: String,
    /// Plain text; an empty line separates paragraphs.
    description: String,
    /// Price of a seat in the currency's smallest unit; 0 is free.
    price_cents: i64,
    /// ISO 4217.
    currency: String,
    status: Status,
    /// Seats, where they are sold here.
    seats: Option<Count>,
}

/// Whether an event takes place.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Status {
    Published,
    Cancelled,
}

/// How many seats there are and how many can be had now.
#[derive(Serialize, ToSchema)]
pub(super) struct Count {
    capacity: i32,
    free: i32,
}

/// A page of events.
#[derive(Serialize, ToSchema)]
pub(super) struct Events {
    pub(super) items: Vec<Event>,
    /// Pass it as `after` to read on; null at the end.
    pub(super) next: Option<String>,
}

/// A comment on an event.
#[derive(Serialize, ToSchema)]
pub(super) struct Comment {
    id: String,
    event_id: String,
    author: Author,
    /// Plain text.
    body: String,
    /// Milliseconds since 1970 UTC.
    created_at_ms: i64,
}

/// Who wrote a comment.
#[derive(Serialize, ToSchema)]
pub(super) struct Author {
    username: String,
    name: String,
}

/// A page of comments, newest first.
#[derive(Serialize, ToSchema)]
pub(super) struct Comments {
    pub(super) items: Vec<Comment>,
    /// Pass it as `after` to read on; null at the end.
    pub(super) next: Option<String>,
}

/// A comment to add.
#[derive(Deserialize, ToSchema)]
pub(super) struct NewComment {
    /// Plain text.
    #[schema(min_length = 1, max_length = 4000, example = "Is there a quiet room?")]
    pub(super) body: String,
}

/// Seats to hold.
#[derive(Deserialize, ToSchema)]
pub(super) struct NewHold {
    /// How many seats.
    #[schema(minimum = 1, maximum = 10, example = 2)]
    pub(super) quantity: i32,
}

/// Seats that are yours for a few minutes.
#[derive(Serialize, ToSchema)]
pub(super) struct Hold {
    id: String,
    event_id: String,
    quantity: i32,
    /// Milliseconds since 1970 UTC; after that the seats go back.
    expires_at_ms: i64,
}

/// How a hold becomes an order.
#[derive(Deserialize, ToSchema)]
pub(super) struct NewOrder {
    /// The name on the tickets.
    #[schema(min_length = 1, max_length = 150, example = "Ada Lovelace")]
    pub(super) attendee: String,
    /// Where the tickets are sent.
    #[schema(format = Email, max_length = 254, example = "ada@example.org")]
    pub(super) email: String,
    /// The card that pays; may be empty when the seats are free.
    #[serde(default)]
    #[schema(max_length = 23, example = "4242 4242 4242 4242")]
    pub(super) card: String,
}

/// What was bought.
#[derive(Serialize, ToSchema)]
pub(super) struct Order {
    /// The page is at `/orders/{number}`.
    #[schema(example = "BX-7K3M9-QTD4X")]
    number: String,
    event_id: String,
    quantity: i32,
    amount_cents: i64,
    currency: String,
    attendee: String,
    email: String,
    /// `paid`, or `refunded` when the event was cancelled.
    status: Paid,
    created_at_ms: i64,
    /// Where the tickets are, once they are drawn.
    pdf: Option<String>,
}

/// What became of the money.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Paid {
    Paid,
    Refunded,
}

/// A page of orders, newest first.
#[derive(Serialize, ToSchema)]
pub(super) struct Orders {
    pub(super) items: Vec<Order>,
    /// Pass it as `after` to read on; null at the end.
    pub(super) next: Option<String>,
}

/// A name and its password.
#[derive(Deserialize, ToSchema)]
pub(super) struct Credentials {
    /// A username or an address.
    #[schema(example = "ada")]
    pub(super) username: String,
    #[schema(example = "a short sentence")]
    pub(super) password: String,
}

/// Who is signed in.
#[derive(Serialize, ToSchema)]
pub(super) struct Me {
    pub(super) username: String,
    pub(super) name: String,
}

/// Why a request was not answered as asked (RFC 9457).
#[derive(Serialize, ToSchema)]
pub(super) struct Problem {
    /// The HTTP status.
    status: u16,
    /// What kind of problem it is.
    title: String,
    /// This problem, in words for people.
    detail: String,
    /// What the log knows it by.
    request_id: String,
}

/// Which events to list.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Listing {
    /// One topic, such as `rust`.
    pub(super) topic: Option<String>,
    /// One country, as events write it.
    pub(super) country: Option<String>,
    /// One city, as events write it.
    pub(super) city: Option<String>,
    /// Upcoming events, soonest first, or past ones, latest first.
    #[serde(default)]
    #[param(inline)]
    pub(super) when: Time,
    /// The `next` of the page before.
    #[param(pattern = "^(([0-9]{4}-[0-9]{2}-[0-9]{2}\\.)?[0-9]{1,18})?$")]
    pub(super) after: Option<String>,
    /// How many rows; 25 when absent.
    #[param(minimum = 1, maximum = 100)]
    pub(super) limit: Option<u64>,
}

/// Which part of the calendar.
#[derive(Clone, Copy, Default, Deserialize, PartialEq, Eq, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Time {
    #[default]
    Upcoming,
    Past,
}

/// What to search for.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Query {
    /// The beginnings of words in the name, place or topic.
    #[param(min_length = 1, max_length = 100)]
    pub(super) q: String,
    /// The `next` of the page before.
    #[param(pattern = "^(([0-9]{4}-[0-9]{2}-[0-9]{2}\\.)?[0-9]{1,18})?$")]
    pub(super) after: Option<String>,
    /// How many rows; 25 when absent.
    #[param(minimum = 1, maximum = 100)]
    pub(super) limit: Option<u64>,
}

/// Which part of a list.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Slice {
    /// The `next` of the page before.
    #[param(pattern = "^(([0-9]{4}-[0-9]{2}-[0-9]{2}\\.)?[0-9]{1,18})?$")]
    pub(super) after: Option<String>,
    /// How many rows; 25 when absent.
    #[param(minimum = 1, maximum = 100)]
    pub(super) limit: Option<u64>,
}

impl Event {
    pub(super) fn of(event: models::Event, seats: Option<Seats>) -> Self {
        let status = match event.status {
            models::events::Status::Cancelled => Status::Cancelled,
            _ => Status::Published,
        };
        Self {
            id: event.id.to_string(),
            name: event.name,
            url: event.url,
            starts_on: event.starts_on,
            ends_on: event.ends_on,
            city: event.city,
            country: event.country,
            online: event.online,
            topic: event.topic,
            description: event.description,
            price_cents: event.price_cents,
            currency: event.currency,
            status,
            seats: seats.map(|seats| Count { capacity: seats.capacity, free: seats.free() }),
        }
    }
}

impl Comment {
    pub(super) fn of(comment: models::Comment, author: &User) -> Self {
        Self {
            id: comment.id.to_string(),
            event_id: comment.event_id.to_string(),
            author: Author {
                username: author.username.clone(),
                name: talk::name(author).to_owned(),
            },
            body: comment.body,
            created_at_ms: comment.created_at_ms,
        }
    }
}

impl From<models::Hold> for Hold {
    fn from(hold: models::Hold) -> Self {
        Self {
            id: hold.id.to_string(),
            event_id: hold.event_id.to_string(),
            quantity: hold.quantity,
            expires_at_ms: hold.expires_at_ms,
        }
    }
}

impl From<models::Order> for Order {
    fn from(order: models::Order) -> Self {
        let is_paid = order.status == models::orders::Status::Paid;
        let is_ready = is_paid && order.mailed_at_ms.is_some();
        Self {
            event_id: order.event_id.to_string(),
            quantity: order.quantity,
            amount_cents: order.amount_cents,
            currency: order.currency,
            attendee: order.attendee,
            email: order.email,
            status: if is_paid { Paid::Paid } else { Paid::Refunded },
            created_at_ms: order.created_at_ms,
            pdf: is_ready.then(|| format!("/orders/{}/ticket.pdf", order.number)),
            number: order.number,
        }
    }
}

/// The address of the next page, as lists give it.
pub(super) fn next<T>(page: &Page<T>) -> Option<String> {
    page.next.as_ref().map(Cursor::to_string)
}
