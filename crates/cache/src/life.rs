//! How long a value lives, and what happens at the end.

use std::time::Duration;

use crate::{
    Config, Error, Result,
    sealed::{MAX_TAG_BYTES, MAX_TAGS},
};

/// How long a value is fresh, and how it may be used after that. A plain [`Duration`] is a life
/// with everything else as the [`Config`] says.
///
/// ```text
/// stored        early         ttl              ttl + grace            ttl + grace + fail_safe
///   |  fresh      |  one may   |  stale: served,  |  kept: served only      |  gone
///   |             |  refresh   |  one refreshes   |  if loading fails       |
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Life {
    pub(crate) ttl: Duration,
    pub(crate) grace: Option<Duration>,
    pub(crate) fail_safe: Option<Duration>,
    pub(crate) empty_ttl: Option<Duration>,
    pub(crate) version: Option<i64>,
    pub(crate) tags: Vec<String>,
}

/// A life with nothing left open.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    pub(crate) ttl: Duration,
    pub(crate) grace: Duration,
    pub(crate) fail_safe: Duration,
}

impl Life {
    /// Fresh for `ttl`.
    #[must_use]
    pub fn of(ttl: Duration) -> Self {
        let (grace, fail_safe, empty_ttl, version) = (None, None, None, None);
        Self { ttl, grace, fail_safe, empty_ttl, version, tags: Vec::new() }
    }

    /// Past its ttl the value is served for `grace` while one caller loads it anew.
    #[must_use]
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = Some(grace);
        self
    }

    /// Past its grace the value is kept for `fail_safe`, to be served if loading fails or is slow.
    ///
    /// Every failure of the loader counts, "not found" as well: leave it off where that matters.
    #[must_use]
    pub fn fail_safe(mut self, fail_safe: Duration) -> Self {
        self.fail_safe = Some(fail_safe);
        self
    }

    /// A value that is empty (`None`, `()`) is fresh for `ttl` instead, and has no grace.
    #[must_use]
    pub fn empty_ttl(mut self, ttl: Duration) -> Self {
        self.empty_ttl = Some(ttl);
        self
    }

    /// The value is this old or new: it never takes the place of one with a higher version.
    #[must_use]
    pub fn version(mut self, version: i64) -> Self {
        self.version = Some(version);
        self
    }

    /// The value goes when `tag` is expired by [`Cache::expire_tag`](crate::Cache::expire_tag).
    #[must_use]
    pub fn tag(mut self, tag: impl Into<String>) -> Self {
        self.tags.push(tag.into());
        self
    }

    /// The tags, which are few and short.
    pub(crate) fn tags(&self) -> Result<impl Iterator<Item = &str>> {
        if let Some(long) = self.tags.iter().find(|tag| tag.len() > MAX_TAG_BYTES) {
            return Err(Error::value(
                "tag",
                long,
                format!("a tag has at most {MAX_TAG_BYTES} bytes"),
            ));
        }
        if self.tags.len() > MAX_TAGS {
            let reason = format!("a value has at most {MAX_TAGS} tags");
            return Err(Error::value("tag", &self.tags[MAX_TAGS], reason));
        }
        Ok(self.tags.iter().map(String::as_str))
    }

    pub(crate) fn times(&self, config: &Config, is_empty: bool) -> Times {
        if let (true, Some(ttl)) = (is_empty, self.empty_ttl) {
            return Times { ttl, grace: Duration::ZERO, fail_safe: Duration::ZERO };
        }
        Times {
            ttl: self.ttl,
            grace: self.grace.unwrap_or(Duration::from_millis(config.grace_ms)),
            fail_safe: self.fail_safe.unwrap_or(Duration::from_millis(config.fail_safe_ms)),
        }
    }
}

impl From<Duration> for Life {
    fn from(ttl: Duration) -> Self {
        Self::of(ttl)
    }
}
