//! The shortest way from a request to a stored answer that is fresh: no [`Question`] is made and
//! nothing is allocated. What cannot be answered so is [asked](Cache::ask) in full; both ways give
//! the same answer.

use std::{io::Write, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderName, StatusCode, header};
use httparse::Header;

use super::{
    Cache, Outcome,
    entry::{Entry, State},
    policy::{Action, Policy},
    question::{self, Cookies},
    vary,
};

/// A GET or HEAD of HTTP/1.1, as it came.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Glance<'a> {
    pub(crate) target: &'a str,
    pub(crate) fields: &'a [Header<'a>],
}

/// What one connection remembers from request to request.
#[derive(Debug, Default)]
pub(crate) struct Memo {
    key: String,
    /// Accept-Encoding as it last came, and what it comes to.
    encoding: Vec<u8>,
    normal: Option<String>,
}

/// A stored answer, fresh and whole.
#[derive(Debug)]
pub(crate) struct Ready {
    entry: Arc<Entry>,
    age_s: u64,
    ttl_s: u64,
}

/// A GET that is not for the cache: what the visitor asks is passed on, and what is answered back.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Passed<'a> {
    /// Whom it is addressed to.
    pub(crate) host: &'a str,
    pub(crate) detail: &'static str,
}

impl Cache {
    /// Whether `glance`, which is a GET, has no business here and needs nothing done to it; both ways
    /// of asking say so alike.
    pub(crate) fn passes<'a>(&self, glance: Glance<'a>) -> Option<Passed<'a>> {
        let policy = &self.inner.policy;
        let path = glance.target.split_once('?').map_or(glance.target, |(path, _)| path);
        if !path.starts_with('/') || !glance.target.bytes().all(is_plain) {
            return None;
        }
        let (mut host, mut cookie) = (None, None);
        for Header { name, value } in glance.fields {
            let is = |other: &str| name.eq_ignore_ascii_case(other);
            let is_first = match name.len() {
                4 if is("host") => host.replace(*value).is_none(),
                6 if is("cookie") => cookie.replace(*value).is_none(),
                6 if is("accept") => *value != b"text/event-stream",
                6 => !is("expect"),
                7 => !is("upgrade") && !is("trailer"),
                8 => !is("if-match"),
                10 if is("connection") => value.eq_ignore_ascii_case(b"keep-alive"),
                14 => !is("content-length"),
                17 => !is("transfer-encoding"),
                19 => !is("if-unmodified-since"),
                _ => true,
            };
            if !is_first {
                return None;
            }
        }
        let host = std::str::from_utf8(host?).ok().filter(|host| !host.is_empty())?;
        if !host.bytes().all(is_of_host) {
            return None;
        }
        let is_ruled = !policy.rules.is_empty() && policy.action(path) == Some(Action::Bypass);
        let is_signed_in = || cookie.is_some_and(|line| is_member(policy, line));
        let detail = if is_ruled { "rule" } else { "signed-in" };
        (is_ruled || is_signed_in()).then_some(Passed { host, detail })
    }

    /// A stored answer to `glance`, if it is this simple.
    pub(crate) fn glance(
        &self,
        glance: Glance<'_>,
        memo: &mut Memo,
        now: Duration,
    ) -> Option<Ready> {
        let policy = &self.inner.policy;
        let host = glance.host(policy)?;
        let (path, query) = glance.target.split_once('?').unwrap_or((glance.target, ""));
        let is_plain = path.starts_with('/') && !glance.target.contains('#');
        if !is_plain || !query.is_empty() && question::has_trackers(policy, query) {
            return None;
        }
        if !policy.rules.is_empty() && policy.action(path) == Some(Action::Bypass) {
            return None;
        }
        let mut key = std::mem::take(&mut memo.key);
        key.clear();
        key.extend(host.chars().map(|letter| letter.to_ascii_lowercase()));
        key.push_str(glance.target);
        let found = self.inner.store.glance(&key, |slot| {
            let fits = |entry: &&Arc<Entry>| glance.selects(entry, policy, memo);
            let entry = slot.variants.iter().rev().find(fits)?;
            let State::Fresh(left_ms) = entry.state(now, &self.inner.tags) else { return None };
            if entry.is_due(now) {
                return None;
            }
            let body = entry.content.get()?;
            let is_simple = body.len() <= MOST_BYTES && has_body(entry.status);
            is_simple.then(|| Ready {
                entry: Arc::clone(entry),
                age_s: entry.age_ms(now) / 1000,
                ttl_s: left_ms / 1000,
            })
        });
        memo.key = key;
        found
    }
}

impl<'a> Glance<'a> {
    /// The one host that is asked for; `None` as well when a field asks for more than a page.
    fn host(&self, policy: &Policy) -> Option<&'a str> {
        let mut host = None;
        for field in self.fields {
            let is = |name: &str| field.name.eq_ignore_ascii_case(name);
            let is_plain = match field.name.len() {
                4 if is("host") => {
                    let is_first = host.is_none();
                    host = std::str::from_utf8(field.value).ok();
                    is_first && host.is_some()
                }
                5 => !is("range"),
                6 if is("accept") => field.value != b"text/event-stream",
                6 if is("cookie") => !is_signed_in(policy, field.value),
                6 => !(is("expect") || policy.heeds_clients && is("pragma")),
                7 => !is("upgrade") && !is("trailer"),
                8 => !is("if-match") && !is("if-range"),
                10 if is("connection") => field.value.eq_ignore_ascii_case(b"keep-alive"),
                13 if is("cache-control") => !policy.heeds_clients,
                13 => !is("if-none-match") && !is("authorization"),
                14 => !is("content-length"),
                17 => !is("transfer-encoding") && !is("if-modified-since"),
                19 => !is("if-unmodified-since"),
                _ => true,
            };
            if !is_plain {
                return None;
            }
        }
        host.filter(|host| host.bytes().all(is_of_host))
    }

    fn selects(&self, entry: &Entry, policy: &Policy, memo: &mut Memo) -> bool {
        entry.selection().iter().all(|(name, wanted)| match *name {
            header::COOKIE => match self.values(name).all(|line| is_nothing(policy, line)) {
                true => wanted.is_none(),
                false => Cookies::read(policy, self.values(name)).counted == *wanted,
            },
            header::ACCEPT_ENCODING => {
                let mut values = self.values(name);
                let (first, more) = (values.next(), values.next());
                match (first, more) {
                    (Some(only), None) => {
                        if memo.normal.is_none() || memo.encoding != only {
                            only.clone_into(&mut memo.encoding);
                            memo.normal = vary::normal(name, std::iter::once(only));
                        }
                        memo.normal == *wanted
                    }
                    _ => vary::normal(name, self.values(name)) == *wanted,
                }
            }
            _ => vary::normal(name, self.values(name)) == *wanted,
        })
    }

    fn values(&self, name: &HeaderName) -> impl Iterator<Item = &'a [u8]> {
        let fields = self.fields.iter();
        let named = fields.filter(move |field| field.name.eq_ignore_ascii_case(name.as_str()));
        named.map(|field| field.value)
    }
}

impl Ready {
    /// The status that is answered.
    pub(crate) fn status(&self) -> StatusCode {
        self.entry.status
    }

    /// Counts this answer among those of its pattern.
    pub(crate) fn count(&self, bytes: u64) {
        self.entry.group.count(Outcome::Hit, bytes);
    }

    /// The bytes that follow the head.
    pub(crate) fn body(&self) -> Bytes {
        self.entry.content.get().cloned().unwrap_or_default()
    }

    /// Writes the head, up to and with the empty line.
    pub(crate) fn write_head(&self, out: &mut Vec<u8>, id: &str) {
        out.extend_from_slice(self.entry.wire.get_or_init(|| self.wire()));
        // Writing to memory does not fail.
        let _ =
            write!(out, "age: {}\r\ncache-status: throng; hit; ttl={}\r\n", self.age_s, self.ttl_s);
        out.extend_from_slice(b"x-request-id: ");
        out.extend_from_slice(id.as_bytes());
        out.extend_from_slice(b"\r\n\r\n");
    }

    /// What of the head is the same for each request.
    fn wire(&self) -> Box<[u8]> {
        let Entry { status, headers, .. } = &*self.entry;
        let mut wire = Vec::with_capacity(512);
        let reason = status.canonical_reason().unwrap_or_default();
        let _ = write!(wire, "HTTP/1.1 {} {reason}\r\n", status.as_u16());
        for (name, value) in headers.iter().filter(|(name, _)| **name != header::CONTENT_LENGTH) {
            wire.extend_from_slice(name.as_str().as_bytes());
            wire.extend_from_slice(b": ");
            wire.extend_from_slice(value.as_bytes());
            wire.extend_from_slice(b"\r\n");
        }
        let _ = write!(wire, "content-length: {}\r\n", self.body().len());
        wire.into()
    }
}

/// Whether an answer with this status always has a body, even if it is empty.
fn has_body(status: StatusCode) -> bool {
    status.as_u16() >= 200 && !matches!(status.as_u16(), 204 | 205 | 206 | 304)
}

/// Whether no two readers of an address can differ about `byte`.
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~:/?@!$&'()*+,;=%".contains(&byte)
}

fn is_of_host(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._:[]%~".contains(&byte)
}

/// Whether a line of cookies names a session's for sure.
fn is_member(policy: &Policy, line: &[u8]) -> bool {
    std::str::from_utf8(line).is_ok() && is_signed_in(policy, line)
}

/// A line of cookies that are no text may name anything.
fn is_signed_in(policy: &Policy, line: &[u8]) -> bool {
    let Ok(line) = std::str::from_utf8(line) else { return true };
    names(line).any(|name| question::is_among(&policy.session_cookies, name))
}

/// Whether nothing of a line counts for what a page is.
fn is_nothing(policy: &Policy, line: &[u8]) -> bool {
    let Ok(line) = std::str::from_utf8(line) else { return false };
    names(line).all(|name| {
        question::is_among(&policy.neutral_cookies, name)
            || question::is_among(&policy.tracking_cookies, name)
    })
}

fn names(line: &str) -> impl Iterator<Item = &str> {
    let pairs = line.split(';').map(str::trim).filter(|pair| !pair.is_empty());
    pairs.map(|pair| pair.split('=').next().unwrap_or(pair).trim())
}

/// A larger body is worth a full answer, which tells in the log whether it was read to its end.
const MOST_BYTES: usize = 64 << 10;
