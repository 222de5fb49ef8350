//! Mails the tickets of an order.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use throng::{Ctx, Error, Result, Task, queue::Policy};

use crate::{
    live,
    mail::{Attachment, Letter, Post},
    models::{Event, Order, orders},
    tickets::{self, pdf},
};

/// Draws the tickets of an order and mails them. Run again, it does nothing once they have left.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct MailTicket {
    /// The order.
    pub order_id: i64,
}

impl Task for MailTicket {
    const NAME: &'static str = "mail_ticket";
    const QUEUE: &'static str = "mail";

    /// A mail server that is down for half a day costs no ticket.
    fn policy() -> Policy {
        Policy { max_retries: 150, hard_limit: Some(Duration::from_secs(120)), ..Policy::default() }
    }

    async fn run(self, cx: Ctx) -> Result {
        let order = orders::find(&cx.db, self.order_id).await?;
        let order = order.ok_or_else(|| Error::not_found("there is no such order"))?;
        if order.mailed_at_ms.is_some() || order.status == orders::Status::Refunded {
            return Ok(());
        }
        let found = tickets::sheet(&cx.db, cx.keys(), &order).await?;
        let (sheet, event) = found.ok_or_else(|| Error::not_found("there is no such event"))?;
        let drawn = tokio::task::spawn_blocking(move || pdf::draw(&sheet));
        let pdf = drawn.await.map_err(Error::internal)?.map_err(Error::internal)?;
        let letter = letter(&order, &event, &cx.config().web.public_url, pdf);
        super::send(&Post::of(&cx)?, &letter).await?;
        orders::set_mailed(&cx.db, order.id, cx.clock.now_ms()).await?;
        live::mailed(&cx, order.id).await;
        Ok(())
    }
}

fn letter(order: &Order, event: &Event, site: &str, pdf: Vec<u8>) -> Letter {
    let (number, name) = (&order.number, &event.name);
    let (s, are) = if order.quantity == 1 { ("", "is") } else { ("s", "are") };
    let when = tickets::days(&event.starts_on, &event.ends_on);
    let place = tickets::place(event);
    let total = tickets::price(order.amount_cents, &order.currency);
    let text = format!(
        "Hello {attendee},\n\n\
         your ticket{s} for {name} {are} attached: {quantity} of them in one PDF.\n\n\
         When   {when}\n\
         Where  {place}\n\
         Order  {number}\n\
         Total  {total}\n\n\
         Show the code at the door, on paper or on a screen.\n\
         Your order: {site}/orders/{number}\n",
        attendee = order.attendee,
        quantity = order.quantity,
    );
    let text = match order.quantity {
        1 => text.replace(": 1 of them in one PDF", " as a PDF"),
        _ => text,
    };
    let attachment =
        Attachment { name: format!("{number}.pdf"), media_type: "application/pdf", bytes: pdf };
    Letter {
        id: format!("tickets-{}", number.to_lowercase()),
        name: order.attendee.clone(),
        email: order.email.clone(),
        subject: format!("Your ticket{s} for {name}"),
        text,
        attachments: vec![attachment],
    }
}
