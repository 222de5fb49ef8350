//! Whether a response may be stored, and how long it is fresh and may be served stale.

use std::time::Duration;

use http::{HeaderMap, StatusCode, header};

use super::{
    claim::Claim,
    control::Control,
    date::date_ms,
    policy::{Action, Policy},
    question::Question,
};

/// When an exchange with the origin happened.
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    /// On the clock that never steps back, when the request went out.
    pub(super) asked: Duration,
    /// On the same clock, when the head of the response came.
    pub(super) answered: Duration,
    /// The same moment on the wall, in milliseconds since 1970.
    pub(super) answered_unix_ms: i64,
}

/// How a stored response may be used. All times are in milliseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Terms {
    /// How old it may get and still be fresh. Zero asks the origin each time.
    pub(super) lifetime_ms: u64,
    /// How old it was when it came.
    pub(super) initial_age_ms: u64,
    /// How long after that it may be served while somebody fetches the new one.
    pub(super) refresh_ms: u64,
    /// How long after that it may be served when the origin fails.
    pub(super) error_ms: u64,
    /// Whether it may never be served stale, neither by policy nor because a client would take it.
    pub(super) is_strict: bool,
}

impl Terms {
    /// For an answer that is used once and not stored.
    pub(super) fn none() -> Self {
        Self { lifetime_ms: 0, initial_age_ms: 0, refresh_ms: 0, error_ms: 0, is_strict: true }
    }

    /// Reads a response to `question`. An error says in one word why it may not be stored.
    pub(super) fn of(
        policy: &Policy,
        question: &Question,
        (status, headers): (StatusCode, &HeaderMap),
        control: &Control,
        times: Times,
    ) -> Result<Self, &'static str> {
        storable(policy, question, (status, headers), control)?;
        let lifetime_ms = lifetime_ms(policy, question, (status, headers), control, times);
        let is_strict = control.must_revalidate
            || control.proxy_revalidate
            || control.no_cache
            || control.s_maxage.is_some() && !control.is_targeted;
        let Some(lifetime_ms) = lifetime_ms else { return Err("no-freshness") };
        let has_validator =
            headers.contains_key(header::ETAG) || headers.contains_key(header::LAST_MODIFIED);
        let stale_said = [control.stale_while_revalidate, control.stale_if_error];
        if lifetime_ms == 0 && !has_validator && stale_said.iter().flatten().all(|s| *s == 0) {
            return Err("no-freshness");
        }
        let window = |said: Option<u64>, default_ms: u64| match said {
            _ if is_strict => 0,
            Some(seconds) => seconds.saturating_mul(1000),
            // Nobody asked for a page without lifetime to be kept beyond it.
            None if lifetime_ms == 0 => 0,
            None => default_ms,
        };
        Ok(Self {
            lifetime_ms,
            initial_age_ms: initial_age_ms(headers, times),
            refresh_ms: window(control.stale_while_revalidate, policy.grace_ms.min(lifetime_ms)),
            error_ms: window(control.stale_if_error, policy.sick_ms),
            is_strict,
        })
    }
}

/// RFC 9111 section 3, and what the policy adds.
fn storable(
    policy: &Policy,
    question: &Question,
    (status, headers): (StatusCode, &HeaderMap),
    control: &Control,
) -> Result<(), &'static str> {
    let is_part = status == StatusCode::PARTIAL_CONTENT;
    let is_stray = is_part && Claim::of(status, headers, question).is_none();
    if status.as_u16() < 200 || status == StatusCode::NOT_MODIFIED || is_stray {
        return Err("status");
    }
    let is_understood = is_understood(status);
    if control.must_understand && !is_understood {
        return Err("status");
    }
    // must-understand sets no-store aside for those who understand the status (5.2.2.3).
    if control.no_store && !control.must_understand || question.control.no_store {
        return Err("no-store");
    }
    if control.private {
        return Err("private");
    }
    let sets_cookie =
        headers.contains_key(header::SET_COOKIE) && !control.withheld.contains(&header::SET_COOKIE);
    if sets_cookie && !policy.stores_cookies {
        return Err("set-cookie");
    }
    if question.headers.contains_key(header::AUTHORIZATION)
        && !(control.public || control.s_maxage.is_some() || control.must_revalidate)
    {
        return Err("authorization");
    }
    let varies_on_all = headers.get_all(header::VARY).iter().any(|vary| {
        vary.as_bytes().split(|byte| *byte == b',').any(|one| one.trim_ascii() == b"*")
    });
    if varies_on_all {
        return Err("vary");
    }
    // It never ends, so nobody could ever have all of it.
    let kind = headers.get(header::CONTENT_TYPE);
    if kind.is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream")) {
        return Err("stream");
    }
    let length = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok());
    if length.and_then(|length| length.parse::<u64>().ok()) > Some(policy.max_object_bytes) {
        return Err("too-large");
    }
    Ok(())
}

/// How long the response is fresh from when it was made; `None` when nothing makes it storable.
fn lifetime_ms(
    policy: &Policy,
    question: &Question,
    (status, headers): (StatusCode, &HeaderMap),
    control: &Control,
    times: Times,
) -> Option<u64> {
    if let Some(Action::Keep { ttl_ms }) = question.action
        && status.as_u16() < 500
    {
        return Some(ttl_ms);
    }
    if control.no_cache {
        return Some(0);
    }
    if let Some(seconds) = control.s_maxage.or(control.max_age) {
        return Some(seconds.saturating_mul(1000));
    }
    let now_ms = times.answered_unix_ms;
    let made_ms = date_ms(headers, &header::DATE).unwrap_or(now_ms);
    if !control.is_targeted && headers.contains_key(header::EXPIRES) {
        // A date that is none stands for the past.
        let until_ms = date_ms(headers, &header::EXPIRES).unwrap_or(i64::MIN);
        return Some(u64::try_from(until_ms.saturating_sub(made_ms)).unwrap_or(0));
    }
    let may_guess = control.public || GUESSABLE.contains(&status.as_u16());
    if may_guess {
        let is_pragma_no_cache = !control.is_said
            && headers.get_all(header::PRAGMA).iter().any(|pragma| pragma == "no-cache");
        if is_pragma_no_cache {
            return Some(0);
        }
        if policy.default_ttl_ms > 0 {
            return Some(policy.default_ttl_ms);
        }
        if policy.is_heuristic
            && let Some(modified_ms) = date_ms(headers, &header::LAST_MODIFIED)
        {
            let unchanged_ms = u64::try_from(made_ms.saturating_sub(modified_ms)).unwrap_or(0);
            return Some((unchanged_ms / 10).min(DAY_MS));
        }
    }
    // Worth keeping only to ask whether it is still so.
    (may_guess && headers.contains_key(header::ETAG)).then_some(0)
}

/// RFC 9111 4.2.3. A date is cut to whole seconds, so that much of an apparent age may be nothing.
fn initial_age_ms(headers: &HeaderMap, times: Times) -> u64 {
    let apparent_ms = date_ms(headers, &header::DATE).map_or(0, |made_ms| {
        u64::try_from(times.answered_unix_ms.saturating_sub(made_ms).saturating_sub(999))
            .unwrap_or(0)
    });
    let delay = times.answered.saturating_sub(times.asked);
    let delay_ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
    let said_ms = age_s(headers).saturating_mul(1000);
    // Without an Age the response comes from its origin, and was made while we waited.
    let corrected_ms = if said_ms > 0 { said_ms.saturating_add(delay_ms) } else { 0 };
    apparent_ms.max(corrected_ms)
}

/// The first member of Age counts; one that is no number is ignored (RFC 9111 5.1).
fn age_s(headers: &HeaderMap) -> u64 {
    let Some(age) = headers.get(header::AGE) else { return 0 };
    let first = age.as_bytes().split(|byte| matches!(byte, b',' | b';')).next().unwrap_or_default();
    let first = first.trim_ascii();
    if first.is_empty() || !first.iter().all(u8::is_ascii_digit) {
        return 0;
    }
    std::str::from_utf8(first)
        .ok()
        .and_then(|digits| digits.parse().ok())
        .unwrap_or(u64::MAX / 2000)
}

/// Statuses whose rules about storing this cache knows: all those in the registry but 304.
fn is_understood(status: StatusCode) -> bool {
    status.canonical_reason().is_some()
}

/// RFC 9110 15.1: cacheable without explicit freshness.
const GUESSABLE: [u16; 12] = [200, 203, 204, 206, 300, 301, 308, 404, 405, 410, 414, 501];
const DAY_MS: u64 = 86_400_000;
