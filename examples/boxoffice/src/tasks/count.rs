//! Counts what pages show, so that no page ever counts.

use serde::{Deserialize, Serialize};
use throng::{Ctx, Result, Task};

use crate::{
    kept,
    models::{counters, counters::Counted, facets, today},
    pages::front_changed,
};

/// Counts one thing again: the followers of somebody, the comments of an event.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Count {
    /// What is counted.
    pub counted: Counted,
}

impl Task for Count {
    const NAME: &'static str = "count";
    const QUEUE: &'static str = "counts";

    async fn run(self, cx: Ctx) -> Result {
        let tx = cx.db.begin().await?;
        counters::refill(&tx, self.counted).await?;
        tx.commit().await?;
        kept::counted(&cx, self.counted).await;
        Ok(())
    }
}

/// Counts the coming events of each topic, country and city again, since days pass; when an event
/// changes, a receiver does.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct CountFacets {}

impl Task for CountFacets {
    const NAME: &'static str = "count_facets";
    const QUEUE: &'static str = "counts";

    async fn run(self, cx: Ctx) -> Result {
        count_facets(&cx).await
    }
}

/// Counts the coming events of each topic, country and city, and draws the front page with them.
pub(crate) async fn count_facets(cx: &Ctx) -> Result {
    let counted = facets::count(&cx.db, &today(&cx.clock)).await?;
    let tx = cx.db.begin().await?;
    facets::replace(&tx, counted).await?;
    tx.commit().await?;
    front_changed(cx).await;
    Ok(())
}
