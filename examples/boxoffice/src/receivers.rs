//! What happens apart once an event was saved or deleted: each receiver hears of it by a task of its
//! own, which commits with the event and is tried again for itself alone.

use throng::{
    Ctx, Receiver, Result,
    queue::{Policy, Signal},
};

use crate::{
    models::{events, search},
    pages,
    tasks::count_facets,
};

/// Writes the event's words to the search index.
pub(crate) struct Search;

/// Counts the topics, countries and cities of coming events again.
pub(crate) struct Facets;

/// Draws again and purges what shows the event. Whoever changed it has done so after the commit;
/// this is for the process that died between the two.
pub(crate) struct Pages;

impl Receiver for Search {
    const NAME: &'static str = "search";
    const TABLE: &'static str = events::TABLE;

    /// A search that misses an event is found out late, so it is tried for hours.
    fn policy() -> Policy {
        Policy { max_retries: 30, ..Policy::default() }
    }

    async fn hear(cx: Ctx, signal: Signal) -> Result {
        let words = ["name", "topic", "city", "country", "url", "starts_on", "status"];
        if words.iter().any(|column| signal.touches(column)) {
            let tx = cx.db.begin().await?;
            search::refresh(&tx, id(&signal)?).await?;
            tx.commit().await?;
        }
        Ok(())
    }
}

impl Receiver for Facets {
    const NAME: &'static str = "facets";
    const TABLE: &'static str = events::TABLE;

    async fn hear(cx: Ctx, signal: Signal) -> Result {
        let counted = ["topic", "city", "country", "starts_on", "status"];
        match counted.iter().any(|column| signal.touches(column)) {
            true => count_facets(&cx).await,
            false => Ok(()),
        }
    }
}

impl Receiver for Pages {
    const NAME: &'static str = "pages";
    const TABLE: &'static str = events::TABLE;

    async fn hear(cx: Ctx, signal: Signal) -> Result {
        let id = id(&signal)?;
        pages::changed(&cx, id).await;
        match events::find(&cx.db, id).await? {
            Some(event) => pages::listed(&cx, &event.topic).await,
            None => pages::front_changed(&cx).await,
        }
        Ok(())
    }
}

fn id(signal: &Signal) -> Result<i64> {
    Ok(signal.id.parse()?)
}
