//! Buying what is held.

use std::{error::Error as StdError, time::Duration};

use sea_orm::{ActiveValue::Set, DbErr, EntityTrait, IntoActiveModel, SqlErr};

use super::{Charge, Desk, Payment, PaymentError, Receipt, number};
use crate::{
    accounts::check_email,
    models::{Event, Hold, Order, Problems, events, holds, orders, seats, tickets},
    tasks::MailTicket,
};

/// What a buyer sends.
#[derive(Clone, Copy)]
pub struct Purchase<'a> {
    /// The hold.
    pub hold_id: i64,
    /// Who buys; must be who holds.
    pub user_id: i64,
    /// The name on the tickets.
    pub attendee: &'a str,
    /// Where the tickets are mailed.
    pub email: &'a str,
    /// The payment provider's token for a card; not looked at when the event is free.
    pub card: &'a str,
}

/// Why nothing was bought.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuyError {
    /// The hold has expired or is somebody else's; nothing was charged.
    #[error("these seats are no longer held")]
    Gone,
    /// The payment was declined; the seats were given back.
    #[error("the payment was declined: {0}")]
    Declined(String),
    /// The provider did not answer. The seats stay held until it is known what became of the
    /// payment; the same form may be sent again and is charged at most once.
    #[error("the payment provider did not answer")]
    Unknown,
    /// The form has problems; the seats stay held.
    #[error("{0}")]
    Form(Problems),
    /// The database or the queue failed. If something was charged, the order follows by itself;
    /// the same form may be sent again.
    #[error("cannot write the order")]
    Write(#[source] Box<dyn StdError + Send + Sync>),
}

impl From<DbErr> for BuyError {
    fn from(error: DbErr) -> Self {
        Self::Write(Box::new(error))
    }
}

impl<P: Payment> Desk<P> {
    /// Pays for a hold: the order, its tickets and the task that mails them exist together or not
    /// at all.
    ///
    /// Sent twice, by a double click or after a crash, it gives the same order.
    ///
    /// # Errors
    /// [`BuyError`] says what became of the seats and the money.
    pub async fn buy(&self, purchase: Purchase<'_>) -> Result<Order, BuyError> {
        let primary = self.db.primary();
        let (hold_id, user_id) = (purchase.hold_id, purchase.user_id);
        let now_ms = self.clock.now_ms();
        // The hold first: what it has become by then is looked for where it is missing, so that of
        // two clicks none falls in between.
        let hold = holds::find(&primary, hold_id).await?;
        let is_good = |hold: &Hold| hold.user_id == user_id && !hold.is_expired(now_ms);
        let Some(mut hold) = hold.filter(is_good) else {
            return self.bought(hold_id, user_id).await;
        };
        let Some(event) = events::find(&primary, hold.event_id).await? else {
            return Err(BuyError::Gone);
        };
        if event.status != events::Status::Published {
            self.release(hold.id, hold.user_id).await?;
            return Err(BuyError::Gone);
        }
        (hold.attendee, hold.email) = check(purchase)?;
        match self.pay(&hold, &event, purchase.card).await {
            Ok(receipt) => self.finish(&hold, &event, receipt).await,
            Err(BuyError::Gone) => self.bought(hold_id, user_id).await,
            Err(error) => Err(error),
        }
    }

    /// The order that a person's hold has become.
    async fn bought(&self, hold_id: i64, user_id: i64) -> Result<Order, BuyError> {
        let order = orders::of_hold(&self.db.primary(), hold_id).await?;
        order.filter(|order| order.user_id == user_id).ok_or(BuyError::Gone)
    }

    /// Charges a hold, unless it is free. A decline gives the seats back.
    async fn pay(
        &self,
        hold: &Hold,
        event: &Event,
        card: &str,
    ) -> Result<Option<Receipt>, BuyError> {
        let amount_cents = event.price_cents * i64::from(hold.quantity);
        if amount_cents == 0 {
            return Ok(None);
        }
        let now_ms = self.clock.now_ms();
        let until_ms = now_ms + i64::try_from(PAY_WITHIN.as_millis()).unwrap_or(i64::MAX >> 1);
        if !holds::begin_paying(&self.db, hold, now_ms, until_ms).await? {
            return Err(BuyError::Gone);
        }
        let key = hold.id.to_string();
        let charge = Charge { key: &key, amount_cents, currency: &event.currency, card };
        let answer = self.clock.timeout(ANSWER_WITHIN, self.payment.charge(&charge)).await;
        match answer.unwrap_or_else(|| Err(PaymentError::Unknown("no answer in time".into()))) {
            Ok(receipt) => Ok(Some(receipt)),
            Err(PaymentError::Declined(reason)) => {
                self.give_up(hold).await?;
                Err(BuyError::Declined(reason))
            }
            Err(PaymentError::Unknown(reason)) => {
                tracing::warn!(hold.id, "no answer to the payment of hold {}: {reason}", hold.id);
                Err(BuyError::Unknown)
            }
        }
    }

    /// Ends a hold whose payment has failed for good, and gives its seats back.
    pub(super) async fn give_up(&self, hold: &Hold) -> Result<(), DbErr> {
        let tx = self.db.begin().await?;
        if holds::end(&tx, hold.id).await? {
            seats::give_back(&tx, hold.event_id, hold.quantity).await?;
        }
        tx.commit().await
    }

    /// Turns a hold that is paid into an order, or finds the order that it has become.
    pub(super) async fn finish(
        &self,
        hold: &Hold,
        event: &Event,
        receipt: Option<Receipt>,
    ) -> Result<Order, BuyError> {
        for _ in 0..NUMBER_TRIES {
            match self.write(hold, event, receipt.as_ref()).await {
                Ok(Some(order)) => return Ok(order),
                Ok(None) => return self.bought_already(hold, receipt).await,
                // Fifty random bits met twice: one purchase in a million million draws again.
                Err(BuyError::Write(error)) if is_taken(&*error) => {}
                Err(error) => return Err(error),
            }
        }
        Err(DbErr::Custom("no order number is free".to_owned()).into())
    }

    /// One transaction: the hold ends, its seats are sold, order, tickets and task are there.
    /// `None` when the hold had ended before.
    async fn write(
        &self,
        hold: &Hold,
        event: &Event,
        receipt: Option<&Receipt>,
    ) -> Result<Option<Order>, BuyError> {
        let random = getrandom::u64();
        let random = random.map_err(|error| DbErr::Custom(format!("no randomness: {error}")))?;
        let order = Order {
            id: self.ids.next(),
            number: number::from_bits(random),
            event_id: hold.event_id,
            user_id: hold.user_id,
            hold_id: hold.id,
            quantity: hold.quantity,
            amount_cents: event.price_cents * i64::from(hold.quantity),
            currency: event.currency.clone(),
            attendee: hold.attendee.clone(),
            email: hold.email.clone(),
            payment: receipt.map_or_else(String::new, |receipt| receipt.reference.clone()),
            status: orders::Status::Paid,
            created_at_ms: self.clock.now_ms(),
            mailed_at_ms: None,
        };
        let tickets = (1..=hold.quantity).map(|place| tickets::ActiveModel {
            id: Set(self.ids.next()),
            order_id: Set(order.id),
            event_id: Set(order.event_id),
            place: Set(place),
            used_at_ms: Set(None),
        });
        let tx = self.db.begin().await?;
        if !holds::end(&tx, hold.id).await? {
            tx.rollback().await?;
            return Ok(None);
        }
        seats::sell(&tx, hold.event_id, hold.quantity).await?;
        let insert = orders::Entity::insert(order.clone().into_active_model());
        insert.exec_without_returning(&tx).await?;
        tickets::Entity::insert_many(tickets).exec_without_returning(&tx).await?;
        let mail = MailTicket { order_id: order.id };
        self.queue.push_in(&tx, mail).await.map_err(|error| BuyError::Write(error.into()))?;
        tx.commit().await?;
        Ok(Some(order))
    }

    /// The hold has ended: by a twin of this call, or by someone who gave the seats back.
    async fn bought_already(
        &self,
        hold: &Hold,
        receipt: Option<Receipt>,
    ) -> Result<Order, BuyError> {
        if let Some(order) = orders::of_hold(&self.db.primary(), hold.id).await? {
            return Ok(order);
        }
        if receipt.is_some() {
            // Not expected: a hold that is being paid is only ended by who knows the payment.
            tracing::error!(hold.id, "hold {} was charged after it had ended: refunding", hold.id);
            let refund = self.payment.refund(&hold.id.to_string()).await;
            refund.map_err(|_| BuyError::Unknown)?;
        }
        Err(BuyError::Gone)
    }
}

/// The name and the address as they are kept.
fn check(purchase: Purchase<'_>) -> Result<(String, String), BuyError> {
    let attendee = purchase.attendee.split_whitespace().collect::<Vec<_>>().join(" ");
    let email = purchase.email.trim().to_lowercase();
    let mut problems = Problems::default();
    if attendee.is_empty() {
        problems.add("attendee", "is needed: it is printed on the ticket");
    } else if attendee.chars().count() > 150 {
        problems.add("attendee", "is longer than 150 characters");
    }
    check_email(&email, &mut problems);
    problems.into_result().map_err(BuyError::Form)?;
    Ok((attendee, email))
}

fn is_taken(error: &(dyn StdError + Send + Sync + 'static)) -> bool {
    let db = error.downcast_ref::<DbErr>();
    matches!(db.and_then(DbErr::sql_err), Some(SqlErr::UniqueConstraintViolation(_)))
}

/// How long a payment may take before a task asks what became of it.
const PAY_WITHIN: Duration = Duration::from_secs(120);
/// How long a buyer waits for the provider.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);
const NUMBER_TRIES: usize = 3;
