//! Tickets: the printed page, the signed code on it, and the check at the door.

use sea_orm::{ConnectionTrait, DbErr};
use throng::sign::Keys;

use crate::models::{Event, Order, events, organisers, tickets};

pub mod code;
mod door;
pub mod pdf;
mod text;

pub use door::{Admission, admit};
pub use text::{days, place, price};

/// Everything that is printed for an order; `None` when its event is gone.
///
/// # Errors
/// When the database fails.
pub async fn sheet(
    db: &impl ConnectionTrait,
    keys: &Keys,
    order: &Order,
) -> Result<Option<(pdf::Sheet, Event)>, DbErr> {
    let Some(event) = events::find(db, order.event_id).await? else { return Ok(None) };
    let organiser = match event.organiser_id {
        Some(id) => organisers::find(db, id).await?,
        None => None,
    };
    let tickets = tickets::of_order(db, order.id).await?;
    let sheet = pdf::Sheet {
        event: event.name.clone(),
        starts_on: event.starts_on.clone(),
        ends_on: event.ends_on.clone(),
        place: place(&event),
        organiser: organiser.map_or_else(String::new, |organiser| organiser.name),
        attendee: order.attendee.clone(),
        order: order.number.clone(),
        price_cents: order.amount_cents / i64::from(order.quantity).max(1),
        currency: order.currency.clone(),
        ordered_at_ms: order.created_at_ms,
        codes: tickets.iter().map(|ticket| code::of(keys, ticket.id)).collect(),
    };
    Ok(Some((sheet, event)))
}
