//! The commands behind the engine, each as the server of its key speaks them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::{Bytes, BytesMut};

use super::{
    Memcached,
    ask::Command,
    fleet::{Dialect, Route},
    protocol::{Flags, Reply},
    socket::{Answer, Expects},
    unexpected,
};
use crate::{
    Error, Result,
    engine::{Item, Span},
};

/// Over what an item is stored.
#[derive(Clone, Copy, Debug)]
pub(super) enum How {
    /// Whatever is there.
    Set,
    /// Nothing.
    Add,
    /// The item that has this CAS.
    Over(u64),
}

impl Memcached {
    /// Whether the server of `key` has no leases of its own.
    pub(super) async fn is_classic(&self, key: &str) -> Result<bool> {
        if self.fleet.is_all_meta() {
            return Ok(false);
        }
        Ok(self.fleet.dialect_for(&self.keys.wire(key)?).await? == Dialect::Classic)
    }

    /// What is under `key`, without a lease on it, and its flags.
    pub(super) async fn read(&self, key: &str) -> Result<Option<(Item, Flags)>> {
        let wire = self.keys.wire(key)?;
        let command = |route: Route| match route.dialect {
            Dialect::Classic => {
                Command { bytes: line(&[b"gets ", &wire[..]]), expects: Expects::Hits }
            }
            _ => Command { bytes: line(&[b"mg ", &wire[..], b" v f c"]), expects: Expects::Reply },
        };
        let (bytes, flags) = match self.fleet.ask(&wire, true, command).await? {
            Answer::Reply(Reply::Missing) => return Ok(None),
            Answer::Reply(Reply::Value(bytes, flags)) => (bytes, flags),
            Answer::Reply(other) => return Err(unexpected("read", other)),
            Answer::Hits(hits) => {
                if let Some(said) = hits.refused() {
                    return Err(unexpected("read", Reply::Refused(said.to_owned())));
                }
                let Some(hit) = hits.iter().next() else { return Ok(None) };
                let (client_flags, cas) = (hit.client_flags(), hit.cas());
                (hit.value(), Flags { client_flags, cas, ..Flags::default() })
            }
        };
        Ok(Some((Item { bytes, flags: flags.client_flags }, flags)))
    }

    /// Stores under a life that a gutter server shortens. `None` when what is there is not as `how`
    /// wants it; otherwise the flags, with the new CAS where the server tells it.
    pub(super) async fn put(
        &self,
        key: &str,
        item: &Item,
        span: Span,
        how: How,
    ) -> Result<Option<Flags>> {
        item.check_size(key, self.max_item_bytes)?;
        let wire = self.keys.wire(key)?;
        let command = |route: Route| {
            // Of what is fresh, for the time in which it is stale tells readers that it is due.
            let fresh = if route.is_gutter { span.fresh.min(self.gutter) } else { span.fresh };
            let whole = fresh.saturating_add(span.stale);
            // Zero seconds would mean for ever; what lives for no time ends at once.
            let ttl = if whole.is_zero() { "-1".to_owned() } else { ttl(whole).to_string() };
            let (len, flags) = (item.bytes.len(), item.flags);
            let (verb, rest) = match (route.dialect, how) {
                (Dialect::Classic, How::Set) => ("set", format!(" {flags} {ttl} {len}")),
                (Dialect::Classic, How::Add) => ("add", format!(" {flags} {ttl} {len}")),
                (Dialect::Classic, How::Over(cas)) => {
                    ("cas", format!(" {flags} {ttl} {len} {cas}"))
                }
                (_, How::Set) => ("ms", format!(" {len} T{ttl} F{flags}")),
                (_, How::Add) => ("ms", format!(" {len} T{ttl} F{flags} ME c")),
                (_, How::Over(cas)) => ("ms", format!(" {len} T{ttl} F{flags} C{cas}")),
            };
            let mut bytes = BytesMut::with_capacity(wire.len() + len + 64);
            for part in [verb.as_bytes(), b" ", &wire[..], rest.as_bytes(), b"\r\n"] {
                bytes.extend_from_slice(part);
            }
            bytes.extend_from_slice(&item.bytes);
            bytes.extend_from_slice(b"\r\n");
            Command { bytes: bytes.freeze(), expects: Expects::Reply }
        };
        // Done twice, `add` and `cas` say that somebody else was quicker.
        let is_repeatable = matches!(how, How::Set);
        match self.ask("store", &wire, is_repeatable, command).await? {
            Reply::Done(flags) => Ok(Some(flags)),
            Reply::Exists | Reply::NotFound | Reply::NotStored => Ok(None),
            Reply::Refused(said) if said.contains("too large") => {
                let (bytes, limit) = (item.bytes.len(), self.max_item_bytes);
                let reason = format!(
                    "it has {bytes} bytes, over the limit of the server, which is below the {limit} \
                     of `max_item_bytes`: give it memcached's `-I`"
                );
                Err(Error::value("store", key, reason))
            }
            other => Err(unexpected("store", other)),
        }
    }

    /// Deletes; tells whether there was something.
    pub(super) async fn remove(&self, key: &str) -> Result<bool> {
        let wire = self.keys.wire(key)?;
        let command = |route: Route| {
            let verb: &[u8] = if route.dialect == Dialect::Classic { b"delete " } else { b"md " };
            Command { bytes: line(&[verb, &wire[..]]), expects: Expects::Reply }
        };
        match self.ask("delete", &wire, true, command).await? {
            Reply::Done(_) => Ok(true),
            Reply::NotFound => Ok(false),
            other => Err(unexpected("delete", other)),
        }
    }

    /// Adds to a counter that is there.
    pub(super) async fn count(&self, key: &str, by: i64) -> Result<Option<i64>> {
        let wire = self.keys.wire(key)?;
        let size = by.unsigned_abs();
        let command = |route: Route| {
            let bytes = if route.dialect == Dialect::Classic {
                let verb: &[u8] = if by < 0 { b"decr " } else { b"incr " };
                line(&[verb, &wire[..], format!(" {size}").as_bytes()])
            } else {
                let mode = if by < 0 { " MD" } else { "" };
                line(&[b"ma ", &wire[..], format!(" v D{size}{mode}").as_bytes()])
            };
            Command { bytes, expects: Expects::Reply }
        };
        let sum = match self.ask("count", &wire, false, command).await? {
            Reply::NotFound => return Ok(None),
            Reply::Number(sum) => i64::try_from(sum).ok(),
            Reply::Value(bytes, _) => {
                std::str::from_utf8(&bytes).ok().and_then(|text| text.trim().parse().ok())
            }
            Reply::Refused(_) => return Err(Error::value("count", key, "it is not a counter")),
            other => return Err(unexpected("count", other)),
        };
        sum.map(Some).ok_or_else(|| Error::value("count", key, "its sum is over 2^63"))
    }

    /// A meta command that is one line.
    pub(super) async fn tell(
        &self,
        key: &str,
        verb: &str,
        flags: &str,
        is_repeatable: bool,
    ) -> Result<Reply> {
        let wire = self.keys.wire(key)?;
        let command = |_| {
            let bytes = line(&[verb.as_bytes(), b" ", &wire[..], b" ", flags.as_bytes()]);
            Command { bytes, expects: Expects::Reply }
        };
        self.ask("reach the owner of a key", &wire, is_repeatable, command).await
    }

    /// Asks what is answered by one reply.
    async fn ask(
        &self,
        doing: &'static str,
        key: &[u8],
        is_repeatable: bool,
        command: impl Fn(Route) -> Command,
    ) -> Result<Reply> {
        match self.fleet.ask(key, is_repeatable, command).await? {
            Answer::Reply(reply) => Ok(reply),
            Answer::Hits(_) => Err(unexpected(doing, Reply::NoOp)),
        }
    }
}

fn line(parts: &[&[u8]]) -> Bytes {
    let mut line = BytesMut::with_capacity(parts.iter().map(|part| part.len()).sum::<usize>() + 2);
    parts.iter().for_each(|part| line.extend_from_slice(part));
    line.extend_from_slice(b"\r\n");
    line.freeze()
}

/// Whole seconds, rounded up; a moment when it would end beyond what memcached counts relatively.
pub(super) fn ttl(life: Duration) -> u64 {
    let seconds = life.as_secs() + u64::from(life.subsec_nanos() > 0);
    if seconds <= MAX_RELATIVE_S {
        return seconds;
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    // memcached keeps times in 32 bits; what outlives 2106 may as well stay for ever.
    now.as_secs().checked_add(seconds).filter(|at| *at <= u64::from(u32::MAX)).unwrap_or(0)
}

const MAX_RELATIVE_S: u64 = 30 * 86_400;
