//! Gives back seats that nobody pays for.

use serde::{Deserialize, Serialize};
use throng::{Ctx, Result, Task};

use crate::{live, purchase::Desk};

/// Ends holds that have expired, finds out what became of payments that were begun and never heard
/// of again, and tells open pages. Runs every minute.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct ReleaseSeats {}

impl Task for ReleaseSeats {
    const NAME: &'static str = "release_seats";

    async fn run(self, cx: Ctx) -> Result {
        let desk = Desk::of(&cx);
        let mut events = desk.release_expired().await?;
        events.extend(desk.settle_abandoned().await?);
        for event_id in events {
            live::seats_changed(&cx, event_id).await?;
        }
        Ok(())
    }
}
