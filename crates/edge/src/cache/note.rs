//! Cache-Status (RFC 9211): says in each answer what the cache did for it.

use std::fmt::Write;

use http::{HeaderMap, HeaderName, HeaderValue};

/// What goes into Cache-Status for one answer.
#[derive(Clone, Debug, Default)]
pub(super) struct Note {
    /// Answered without the origin.
    pub(super) is_hit: bool,
    /// Why it was forwarded.
    pub(super) forwarded: Option<&'static str>,
    pub(super) forward_status: Option<u16>,
    /// Seconds of freshness left; negative since when it is stale.
    pub(super) ttl_s: Option<i64>,
    pub(super) is_stored: bool,
    pub(super) is_collapsed: bool,
    pub(super) detail: Option<&'static str>,
}

impl Note {
    pub(super) fn hit(ttl_ms: i64) -> Self {
        Self { is_hit: true, ttl_s: Some(ttl_ms.div_euclid(1000)), ..Self::default() }
    }

    pub(super) fn forwarded(why: &'static str) -> Self {
        Self { forwarded: Some(why), ..Self::default() }
    }

    pub(super) fn append_to(&self, headers: &mut HeaderMap) {
        let mut text = String::with_capacity(64);
        text.push_str(OWN_NAME);
        if self.is_hit {
            text.push_str("; hit");
        }
        let mut say = |name: &str, value: &dyn std::fmt::Display| {
            write!(text, "; {name}={value}").expect("a string takes all");
        };
        if let Some(why) = self.forwarded {
            say("fwd", &why);
        }
        if let Some(status) = self.forward_status {
            say("fwd-status", &status);
        }
        if let Some(ttl_s) = self.ttl_s {
            say("ttl", &ttl_s);
        }
        if self.is_stored {
            text.push_str("; stored");
        }
        if self.is_collapsed {
            text.push_str("; collapsed");
        }
        if let Some(detail) = self.detail {
            write!(text, "; detail={detail}").expect("a string takes all");
        }
        // The name and the words above are tokens and numbers.
        if let Ok(value) = HeaderValue::from_str(&text) {
            headers.append(CACHE_STATUS, value);
        }
    }
}

const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");
const OWN_NAME: &str = "throng";
