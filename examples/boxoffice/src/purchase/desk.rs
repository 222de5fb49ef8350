//! The desk at which seats are held and bought.

use std::time::Duration;

use throng::{Clock, Ctx, Ids, Queue, db::Db};

use super::{Payment, StandIn};

/// Holds and sells seats. Cheap to make; one for each request or task will do.
#[derive(Clone, Debug)]
pub struct Desk<P = StandIn> {
    pub(super) db: Db,
    pub(super) queue: Queue,
    pub(super) ids: Ids,
    pub(super) clock: Clock,
    pub(super) payment: P,
    pub(super) hold_for: Duration,
}

impl Desk {
    /// The site's desk, with the stand-in for a payment provider.
    #[must_use]
    pub fn of(cx: &Ctx) -> Self {
        Self::with_payment(cx, StandIn::new(cx.db.clone()))
    }
}

impl<P: Payment> Desk<P> {
    /// The site's desk with a payment provider of your own.
    #[must_use]
    pub fn with_payment(cx: &Ctx, payment: P) -> Self {
        Self {
            db: cx.db.clone(),
            queue: cx.queue.clone(),
            ids: cx.ids.clone(),
            clock: cx.clock.clone(),
            payment,
            hold_for: HOLD_FOR,
        }
    }

    /// Keeps seats for a buyer for this long; ten minutes unless set.
    #[must_use]
    pub fn hold_for(self, hold_for: Duration) -> Self {
        Self { hold_for, ..self }
    }
}

const HOLD_FOR: Duration = Duration::from_secs(600);
