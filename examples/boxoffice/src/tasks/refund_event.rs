//! Gives the money back when an event is cancelled.

use serde::{Deserialize, Serialize};
use throng::{Ctx, Error, ErrorKind, Result, Task};

use crate::{
    mail::{Letter, Post},
    models::{Cursor, Event, Order, events, orders},
    purchase::{Payment, StandIn},
    tickets,
};

/// Refunds every paid order of a cancelled event and writes to its buyer. Run again, it goes on
/// where it stopped: the provider refunds an order once.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct RefundEvent {
    /// The event.
    pub event_id: i64,
}

impl Task for RefundEvent {
    const NAME: &'static str = "refund_event";

    async fn run(self, cx: Ctx) -> Result {
        let event = events::find(&cx.db, self.event_id).await?;
        let event = event.ok_or_else(|| Error::not_found("there is no such event"))?;
        if event.status != events::Status::Cancelled {
            return Err(Error::refused("only a cancelled event is refunded"));
        }
        let payment = StandIn::new(cx.db.clone());
        let post = Post::of(&cx)?;
        let mut after: Option<Cursor> = None;
        loop {
            let page = orders::of_event(&cx.db, event.id, after.as_ref(), ORDERS_A_PAGE).await?;
            for order in page.items.iter().filter(|order| order.status == orders::Status::Paid) {
                if order.amount_cents > 0 {
                    let refund = payment.refund(&order.hold_id.to_string()).await;
                    refund.map_err(Error::internal)?;
                }
                match super::send(&post, &letter(order, &event)).await {
                    Err(error) if error.kind() == ErrorKind::Refuse => {
                        let id = order.id;
                        tracing::error!(order.id = id, "order {id} gets no letter: {error}");
                    }
                    sent => sent?,
                }
                orders::set_refunded(&cx.db, order.id).await?;
            }
            after = page.next;
            if after.is_none() {
                return Ok(());
            }
        }
    }
}

fn letter(order: &Order, event: &Event) -> Letter {
    let (number, name) = (&order.number, &event.name);
    let when = tickets::days(&event.starts_on, &event.ends_on);
    let money = match order.amount_cents {
        0 => "Your tickets were free, so there is nothing to pay back.".to_owned(),
        cents => {
            format!(
                "The {} that you paid go back to your card.",
                tickets::price(cents, &order.currency)
            )
        }
    };
    Letter {
        id: format!("cancelled-{}", number.to_lowercase()),
        name: order.attendee.clone(),
        email: order.email.clone(),
        subject: format!("{name} is cancelled"),
        text: format!(
            "Hello {},\n\n{name} ({when}) will not take place.\n{money}\n\nOrder  {number}\n",
            order.attendee
        ),
        attachments: Vec::new(),
    }
}

const ORDERS_A_PAGE: u64 = 100;
