//! Forgets what is no longer of use.

use serde::{Deserialize, Serialize};
use throng::{Ctx, Result, Task};

use crate::accounts;

/// Forgets failed sign-ins that no longer count. Runs every hour.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct ForgetTries {}

impl Task for ForgetTries {
    const NAME: &'static str = "forget_tries";

    async fn run(self, cx: Ctx) -> Result {
        accounts::forget_tries(&cx.db, cx.clock.now_ms()).await?;
        Ok(())
    }
}
