//! What open pages are told: seats left, new comments, mail that has left. Send after the commit.
//!
//! Delivery is at most once and best effort, so a page never depends on it: it shows what the
//! database said when it was drawn, and these messages keep it fresh.

use serde::{Deserialize, Serialize};
use throng::{Ctx, Result};

use crate::{
    models::{Comment, User, seats},
    tags,
};

/// A message to the pages of one event, or of one order. Travels as JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Message {
    /// How many seats are free now.
    Seats {
        /// The event.
        event_id: i64,
        /// Seats that can be held.
        free: i32,
        /// Seats there are.
        capacity: i32,
    },
    /// Somebody wrote a comment.
    Comment {
        /// The comment.
        id: i64,
        /// The event.
        event_id: i64,
        /// The writer's name in addresses.
        username: String,
        /// The writer's name.
        name: String,
        /// Plain text; the page escapes it.
        body: String,
        /// When, in milliseconds since 1970 UTC.
        created_at_ms: i64,
    },
    /// A moderator hid a comment.
    Hidden {
        /// The comment.
        id: i64,
    },
    /// The tickets of an order have left by mail.
    Mailed {
        /// The order.
        order_id: i64,
    },
}

/// The group of those who watch an event.
#[must_use]
pub fn event_group(event_id: i64) -> String {
    format!("event.{event_id}")
}

/// The group of those who wait for an order's tickets.
#[must_use]
pub fn order_group(order_id: i64) -> String {
    format!("order.{order_id}")
}

/// Tells everyone who watches an event how many seats are free, and purges its page.
///
/// # Errors
/// When the seats cannot be read; that nobody could be told is only logged.
pub async fn seats_changed(cx: &Ctx, event_id: i64) -> Result {
    cx.purge(&tags::event(event_id)).await;
    // From the primary: others sell seats of it as well, and the number that is told last stays.
    if let Some(seats) = seats::of(&cx.db.primary(), event_id).await? {
        let (free, capacity) = (seats.free(), seats.capacity);
        send(cx, &event_group(event_id), &Message::Seats { event_id, free, capacity }).await;
    }
    Ok(())
}

/// Tells everyone who watches an event about a new comment.
pub async fn comment_added(cx: &Ctx, comment: &Comment, author: &User) {
    let message = Message::Comment {
        id: comment.id,
        event_id: comment.event_id,
        username: author.username.clone(),
        name: author.name.clone(),
        body: comment.body.clone(),
        created_at_ms: comment.created_at_ms,
    };
    send(cx, &event_group(comment.event_id), &message).await;
}

/// Tells everyone who watches an event that a comment is gone.
pub async fn comment_hidden(cx: &Ctx, comment: &Comment) {
    send(cx, &event_group(comment.event_id), &Message::Hidden { id: comment.id }).await;
}

/// Tells the buyer's open page that the tickets have left.
pub async fn mailed(cx: &Ctx, order_id: i64) {
    send(cx, &order_group(order_id), &Message::Mailed { order_id }).await;
}

async fn send(cx: &Ctx, group: &str, message: &Message) {
    if let Err(error) = cx.bus.publish(group, message).await {
        tracing::warn!(group, "cannot tell {group}: {error}");
    }
}
