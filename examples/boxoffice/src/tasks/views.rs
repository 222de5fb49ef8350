//! Writes how often pages were opened.

use std::collections::BTreeMap;

use throng::{Counter, Ctx, Result};

use crate::models::views;

/// How often the page of each event was opened. Merged in the web process, then in the worker, so
/// that a thousand views are one row of one statement.
pub(crate) struct Views;

impl Counter for Views {
    const NAME: &'static str = "views";
    const QUEUE: &'static str = "counts";

    async fn write(cx: Ctx, counts: BTreeMap<String, i64>) -> Result {
        let counts = counts.into_iter();
        let counts = counts.filter_map(|(event, by)| Some((event.parse().ok()?, by))).collect();
        let tx = cx.db.begin().await?;
        views::add(&tx, &counts).await?;
        tx.commit().await?;
        Ok(())
    }
}
