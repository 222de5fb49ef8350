//! What page caches before the site are told: what a page shows, and what has changed.

#[cfg(feature = "edge")]
use std::sync::OnceLock;
use std::{collections::VecDeque, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use throng_bus::Bus;
use throng_core::{Clock, Shutdown};

use super::{
    Ctx,
    outer::{Outer, OuterError},
    seen,
};
use crate::{Config, Result, config::random_text};

impl Ctx {
    /// Notes that the page which is being made shows what `tag` stands for, such as `event-7`:
    /// [`Ctx::purge`] of the same tag takes the page out of every page cache before the site.
    ///
    /// Make the page with the context that this gives: where the visitor is nobody in particular, its
    /// database shows at least what was written before the last purge of the tag, so that no cache
    /// gets a page older than that from a replica that is late.
    ///
    /// ```
    /// # async fn show(cx: throng::Ctx) -> throng::Result<String> {
    /// let cx = cx.shows("event-7").await?;
    /// // … read the event with `cx.db` …
    /// # Ok(String::new())
    /// # }
    /// # async fn rename(cx: throng::Ctx) {
    /// // … write it, commit, and then:
    /// cx.purge("event-7").await;
    /// # }
    /// ```
    ///
    /// # Errors
    /// When the cache, which says what the last purge had written, does not answer.
    pub async fn shows(&self, tag: &str) -> Result<Self> {
        let tag = clean(tag);
        let Some(page) = self.page.as_ref().filter(|page| page.is_public()) else {
            return Ok(self.clone());
        };
        page.tag(tag.clone());
        match seen::is_embedded(&self.db) {
            true => Ok(self.clone()),
            false => {
                let db = seen::of_load(self, &floor(&tag)).await?;
                Ok(Self { page: self.page.clone(), ..self.site.ctx_with(db) })
            }
        }
    }

    /// Takes every page that [shows](Ctx::shows) what `tag` stands for out of the page caches before
    /// the site: the one in this process at once, those of other processes as soon as the bus tells
    /// them, and edges that are programs of their own (`edge.purge_urls`) over HTTP. Call it after the commit.
    ///
    /// That somebody cannot be told is only logged: no page is kept for longer than its time, a
    /// minute unless it says so itself.
    pub async fn purge(&self, tag: &str) {
        let tag = clean(tag);
        if let Err(error) = seen::raise(self, &floor(&tag)).await {
            tracing::warn!(%error, "a page of {tag} may be drawn from a late replica: {error}");
        }
        self.site.0.pages.purge(tag).await;
    }
}

/// The page caches before the site: the one in this process, the bus to those in others, and those that
/// are told over HTTP.
#[derive(Clone)]
pub(crate) struct Pages(Arc<Inner>);

struct Inner {
    /// Tells our own messages from those of others.
    own: String,
    bus: Option<Bus>,
    outer: Vec<Arc<Outer>>,
    #[cfg(feature = "edge")]
    store: OnceLock<throng_edge::Cache>,
}

/// What goes over the bus.
#[derive(Serialize, Deserialize)]
struct Purge {
    from: String,
    tag: String,
}

impl Pages {
    pub(crate) fn new(bus: &Bus, config: &Config) -> std::result::Result<Self, OuterError> {
        let edge = &config.edge;
        Ok(Self(Arc::new(Inner {
            // Without randomness, processes take each other's purges for their own: told once, late.
            own: random_text(16).unwrap_or_else(|_| std::process::id().to_string()),
            bus: bus.is_shared().then(|| bus.clone()),
            outer: Outer::all(&edge.purge_urls, edge.purge_token.as_ref())?,
            #[cfg(feature = "edge")]
            store: OnceLock::new(),
        })))
    }

    /// Says which cache stands in this process.
    #[cfg(feature = "edge")]
    pub(crate) fn are_in(&self, store: &throng_edge::Cache) {
        let _ = self.0.store.set(store.clone());
    }

    async fn purge(&self, tag: String) {
        self.forget(Some(&tag));
        self.0.outer.iter().for_each(|outer| outer.purge(&tag));
        let Some(bus) = &self.0.bus else { return };
        let purge = Purge { from: self.0.own.clone(), tag };
        let Ok(message) = serde_json::to_vec(&purge) else { return };
        match bus.group_send(GROUP, message).await {
            Ok(sent) if sent.dropped > 0 => {
                let lost = sent.dropped;
                tracing::warn!(lost, "{lost} processes did not keep up with purges of pages");
            }
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, "cannot tell other processes of a purge: {error}"),
        }
    }

    /// The edges that are told over HTTP.
    pub(crate) fn outer(&self) -> &[Arc<Outer>] {
        &self.0.outer
    }

    /// Hears what other processes purge, until `shutdown`.
    pub(crate) async fn hear(self, clock: Clock, shutdown: Shutdown) {
        let Some(bus) = self.0.bus.clone() else { return };
        let hearing = async {
            loop {
                if let Err(error) = self.hear_all(&bus, &clock).await {
                    tracing::warn!(%error, "cannot hear of purges of pages: {error}");
                }
                clock.sleep(PAUSE).await;
            }
        };
        tokio::select! {
            () = hearing => {}
            () = shutdown.requested() => {}
        }
    }

    async fn hear_all(&self, bus: &Bus, clock: &Clock) -> throng_bus::Result<()> {
        let mut heard = bus.subscribe(GROUP).await?;
        // What was purged while nothing was heard may be anything.
        self.forget(None);
        let mut again: VecDeque<(Duration, String)> = VecDeque::new();
        loop {
            let due = again.front().map(|(due, _)| due.saturating_sub(clock.elapsed()));
            let message = tokio::select! {
                message = heard.next() => message?,
                () = clock.sleep(due.unwrap_or_default()), if due.is_some() => {
                    let tag = again.pop_front().map(|(_, tag)| tag);
                    self.forget(tag.as_deref());
                    continue;
                }
            };
            match serde_json::from_slice::<Purge>(&message) {
                Ok(purge) if purge.from == self.0.own => {}
                Ok(purge) => {
                    self.forget(Some(&purge.tag));
                    again.push_back((clock.elapsed() + AGAIN, purge.tag));
                }
                Err(error) => tracing::warn!(%error, "a purge cannot be read: {error}"),
            }
            if again.len() > MOST_AGAIN {
                again.clear();
                self.forget(None);
            }
        }
    }

    /// Takes the pages of a tag, or all of them, out of the cache of this process.
    #[cfg_attr(not(feature = "edge"), expect(clippy::unused_self, reason = "there is no cache"))]
    fn forget(&self, tag: Option<&str>) {
        #[cfg(feature = "edge")]
        if let Some(store) = self.0.store.get() {
            match tag {
                Some(tag) => store.purge_tag(tag, false),
                None => store.purge_all(false),
            }
        }
        #[cfg(not(feature = "edge"))]
        let _ = tag;
    }
}

/// A tag as headers carry it: nothing in it separates tags.
fn clean(tag: &str) -> String {
    let mut text = String::with_capacity(tag.len());
    for byte in tag.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'/' => {
                text.push(char::from(byte));
            }
            _ => text.push_str(&format!("%{byte:02X}")),
        }
    }
    text
}

fn floor(tag: &str) -> String {
    format!("page/{tag}")
}

/// The group of all processes with a page cache.
const GROUP: &str = "throng.pages";
const PAUSE: Duration = Duration::from_secs(1);
/// A purge of another process is done twice: what this process keeps of the shared cache may be older
/// than the purge for as long as it keeps copies, two seconds, and a page was made from it meanwhile.
const AGAIN: Duration = Duration::from_secs(3);
/// Purges of three seconds that are done one by one; beyond them everything goes.
const MOST_AGAIN: usize = 10_000;

#[cfg(test)]
mod tests {
    use super::clean;

    #[test]
    fn a_tag_is_one_word_whatever_is_in_it() {
        assert_eq!(clean("event-7"), "event-7");
        assert_eq!(clean("topic/späte Musik, a%"), "topic/sp%C3%A4te%20Musik%2C%20a%25");
    }
}
