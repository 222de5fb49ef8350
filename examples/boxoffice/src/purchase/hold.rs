//! Holding seats, and giving them back.

use std::collections::BTreeSet;

use sea_orm::{ColumnTrait, ConnectionTrait, DbErr, EntityTrait, IntoActiveModel, QueryFilter};

use super::{Desk, Payment};
use crate::models::{Hold, events, holds, seats, today};

/// Who wants how many seats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Want {
    /// The event.
    pub event_id: i64,
    /// Who wants them.
    pub user_id: i64,
    /// How many, from 1 to [`MAX_SEATS`].
    pub quantity: i32,
}

/// Why seats cannot be held.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HoldError {
    /// Not that many are free. Some may come back when holds expire.
    #[error("only {free} seats are free")]
    SoldOut {
        /// How many this buyer could have now.
        free: i32,
    },
    /// There is no such event, or it sells nothing: not published, cancelled, or over.
    #[error("no tickets are sold for this event")]
    NotSelling,
    /// Nobody holds so many at once, or none.
    #[error("seats are held from 1 to {MAX_SEATS} at a time")]
    Quantity,
    /// The database failed; nothing is held.
    #[error("cannot hold seats")]
    Db(#[from] DbErr),
}

impl<P: Payment> Desk<P> {
    /// Takes seats out of sale for a while, and tells at once when there are not enough.
    ///
    /// A person holds seats of an event once: a new hold takes the place of the last. When it
    /// cannot be had, the last one stays.
    ///
    /// # Errors
    /// [`HoldError`]; nothing is held then.
    pub async fn hold(&self, want: Want) -> Result<Hold, HoldError> {
        if !(1..=MAX_SEATS).contains(&want.quantity) {
            return Err(HoldError::Quantity);
        }
        let event = events::find(&self.db, want.event_id).await?;
        if !event.is_some_and(|event| event.is_selling(&today(&self.clock))) {
            return Err(HoldError::NotSelling);
        }
        let now_ms = self.clock.now_ms();
        let tx = self.db.begin().await?;
        let last = holds::Entity::find()
            .filter(holds::Column::UserId.eq(want.user_id))
            .filter(holds::Column::EventId.eq(want.event_id))
            .all(&tx)
            .await?;
        for hold in &last {
            give_back(&tx, hold).await?;
        }
        if !seats::take(&tx, want.event_id, want.quantity).await? {
            // Perhaps holds have expired that nobody has cleared yet.
            for hold in holds::expired(&tx, Some(want.event_id), now_ms, u64::MAX >> 1).await? {
                give_back(&tx, &hold).await?;
            }
            if !seats::take(&tx, want.event_id, want.quantity).await? {
                let seats = seats::of(&tx, want.event_id).await?;
                tx.rollback().await?;
                return Err(HoldError::SoldOut { free: seats.map_or(0, |seats| seats.free()) });
            }
        }
        let hold_for_ms = i64::try_from(self.hold_for.as_millis()).unwrap_or(i64::MAX >> 1);
        let hold = Hold {
            id: self.ids.next(),
            event_id: want.event_id,
            user_id: want.user_id,
            quantity: want.quantity,
            expires_at_ms: now_ms + hold_for_ms,
            is_paying: false,
            attendee: String::new(),
            email: String::new(),
        };
        let insert = holds::Entity::insert(hold.clone().into_active_model());
        insert.exec_without_returning(&tx).await?;
        tx.commit().await?;
        Ok(hold)
    }

    /// A person's hold, if it is still good. Read where his own writes are seen; whoever acts on it
    /// asks the primary again.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn find_hold(&self, id: i64, user_id: i64) -> Result<Option<Hold>, DbErr> {
        let hold = holds::find(&self.db, id).await?;
        let now_ms = self.clock.now_ms();
        Ok(hold.filter(|hold| hold.user_id == user_id && !hold.is_expired(now_ms)))
    }

    /// Gives the seats of a person's hold back; `false` when it has ended or is being paid.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn release(&self, id: i64, user_id: i64) -> Result<bool, DbErr> {
        let tx = self.db.begin().await?;
        let hold = holds::find(&tx, id).await?.filter(|hold| hold.user_id == user_id);
        let is_released = match hold {
            Some(hold) => give_back(&tx, &hold).await?,
            None => false,
        };
        tx.commit().await?;
        Ok(is_released)
    }

    /// Gives back the seats of every hold that has expired: the ids of the events that have seats
    /// again.
    ///
    /// # Errors
    /// When the database fails; what was given back until then stays so.
    pub async fn release_expired(&self) -> Result<BTreeSet<i64>, DbErr> {
        let now_ms = self.clock.now_ms();
        let mut events = BTreeSet::new();
        loop {
            let some =
                holds::expired(&self.db.primary(), None, now_ms, HOLDS_A_TRANSACTION).await?;
            if some.is_empty() {
                return Ok(events);
            }
            let tx = self.db.begin().await?;
            for hold in &some {
                if give_back(&tx, hold).await? {
                    events.insert(hold.event_id);
                }
            }
            tx.commit().await?;
        }
    }
}

/// Ends a hold that is not being paid and gives its seats back.
async fn give_back(tx: &impl ConnectionTrait, hold: &Hold) -> Result<bool, DbErr> {
    let is_ended = holds::end_unpaid(tx, hold.id).await?;
    if is_ended {
        seats::give_back(tx, hold.event_id, hold.quantity).await?;
    }
    Ok(is_ended)
}

/// The most seats that one person holds at once.
pub const MAX_SEATS: i32 = 10;
/// Other writers get their turn in between.
const HOLDS_A_TRANSACTION: u64 = 200;
