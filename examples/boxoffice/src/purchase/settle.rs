//! Payments that were begun and never heard of again.

use std::collections::BTreeSet;

use sea_orm::DbErr;

use super::{BuyError, Desk, Payment};
use crate::models::{Hold, events, holds};

impl<P: Payment> Desk<P> {
    /// Asks the provider about every payment that has taken too long, and finishes the order or
    /// gives the seats back: the ids of the events whose seats moved.
    ///
    /// What the provider does not answer for is left for the next time.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn settle_abandoned(&self) -> Result<BTreeSet<i64>, DbErr> {
        let now_ms = self.clock.now_ms();
        let mut events = BTreeSet::new();
        for hold in holds::abandoned(&self.db.primary(), now_ms, HOLDS_A_TIME).await? {
            match self.settle(&hold).await {
                Ok(()) => {
                    events.insert(hold.event_id);
                }
                Err(BuyError::Write(error)) => {
                    tracing::error!(hold.id, %error, "cannot settle hold {}: {error}", hold.id);
                }
                Err(error) => {
                    tracing::warn!(hold.id, "hold {} stays unsettled: {error}", hold.id);
                }
            }
        }
        Ok(events)
    }

    async fn settle(&self, hold: &Hold) -> Result<(), BuyError> {
        let receipt = self.payment.settle(&hold.id.to_string()).await;
        let Some(receipt) = receipt.map_err(|_| BuyError::Unknown)? else {
            return Ok(self.give_up(hold).await?);
        };
        let event = events::find(&self.db.primary(), hold.event_id).await?;
        let event = event.ok_or(BuyError::Gone)?;
        let order = self.finish(hold, &event, Some(receipt)).await?;
        let (id, number) = (hold.id, &order.number);
        tracing::info!(hold.id = id, "hold {id} was paid after all: order {number}");
        Ok(())
    }
}

const HOLDS_A_TIME: u64 = 200;
