//! The check at the door: a ticket opens its event once.

use sea_orm::{ConnectionTrait, DbErr};
use throng::sign::Keys;

use super::code;
use crate::models::{Order, orders, tickets};

/// What the one at the door is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Come in. The ticket is used now.
    Welcome(Box<Order>),
    /// The ticket is good and was used before.
    UsedBefore {
        /// When, in milliseconds since 1970 UTC.
        at_ms: i64,
        /// Its order.
        order: Box<Order>,
    },
    /// The ticket is for another event.
    OtherEvent(Box<Order>),
    /// The money went back.
    Refunded(Box<Order>),
    /// This site made no such ticket.
    Unknown,
}

/// Admits whoever shows `code` to the event, once.
///
/// # Errors
/// When the database fails.
pub async fn admit(
    db: &impl ConnectionTrait,
    keys: &Keys,
    event_id: i64,
    code: &str,
    now_ms: i64,
) -> Result<Admission, DbErr> {
    let Some(id) = code::read(keys, code) else { return Ok(Admission::Unknown) };
    let Some(ticket) = tickets::find(db, id).await? else { return Ok(Admission::Unknown) };
    let Some(order) = orders::find(db, ticket.order_id).await?.map(Box::new) else {
        return Ok(Admission::Unknown);
    };
    if ticket.event_id != event_id {
        return Ok(Admission::OtherEvent(order));
    }
    if order.status == orders::Status::Refunded {
        return Ok(Admission::Refunded(order));
    }
    if tickets::mark_used(db, id, now_ms).await? {
        return Ok(Admission::Welcome(order));
    }
    // Another scanner was faster, so it has a time by now.
    let at_ms = tickets::find(db, id).await?.and_then(|ticket| ticket.used_at_ms);
    Ok(Admission::UsedBefore { at_ms: at_ms.unwrap_or(now_ms), order })
}
