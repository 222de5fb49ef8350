//! What the site stores: one module for each noun, and the schema of them all.
//!
//! Every function takes a connection first, so it reads inside or outside of a transaction alike.
//! Lists are read by key range, never by offset.

use throng::{Clock, Ids};

pub(crate) mod bulk;
pub mod comments;
pub mod counters;
pub mod events;
pub mod facets;
pub mod follows;
pub mod holds;
pub mod orders;
pub mod organisers;
mod page;
pub mod reports;
mod rows;
pub mod schema;
pub mod search;
pub mod seats;
pub mod tickets;
pub mod timeline;
pub mod users;
pub mod views;

pub use comments::Model as Comment;
pub use events::Model as Event;
pub use follows::Target;
pub use holds::Model as Hold;
pub use orders::Model as Order;
pub use organisers::Model as Organiser;
pub use page::{BadCursor, Cursor, Page};
pub use seats::Model as Seats;
pub use tickets::Model as Ticket;
pub use users::Model as User;

/// The id and the time of something that is being written.
#[derive(Clone, Copy, Debug)]
pub struct Stamp {
    /// The new row's id.
    pub id: i64,
    /// When it is written, in milliseconds since 1970 UTC.
    pub at_ms: i64,
}

impl Stamp {
    /// A new id, now.
    #[must_use]
    pub fn new(ids: &Ids, clock: &Clock) -> Self {
        Self { id: ids.next(), at_ms: clock.now_ms() }
    }
}

/// The day it is, `YYYY-MM-DD` in UTC: an event is over when its last day is.
#[must_use]
pub fn today(clock: &Clock) -> String {
    let now = jiff::Timestamp::from_millisecond(clock.now_ms()).unwrap_or_default();
    now.to_zoned(jiff::tz::TimeZone::UTC).date().to_string()
}

/// What a visitor typed wrong, for each field, in words meant for them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Problems(Vec<(&'static str, String)>);

impl Problems {
    /// Notes that `field` has a problem.
    pub fn add(&mut self, field: &'static str, problem: impl Into<String>) {
        self.0.push((field, problem.into()));
    }

    /// The first problem of `field`.
    #[must_use]
    pub fn of(&self, field: &str) -> Option<&str> {
        self.iter().find(|(name, _)| *name == field).map(|(_, problem)| problem)
    }

    /// Every problem, in the order of the form.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.0.iter().map(|(field, problem)| (*field, problem.as_str()))
    }

    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// `Ok` when nothing is wrong.
    ///
    /// # Errors
    /// Itself when something is.
    pub fn into_result(self) -> Result<(), Self> {
        if self.is_empty() { Ok(()) } else { Err(self) }
    }
}

impl std::fmt::Display for Problems {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (place, (field, problem)) in self.iter().enumerate() {
            let comma = if place == 0 { "" } else { "; " };
            write!(f, "{comma}{field}: {problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}
