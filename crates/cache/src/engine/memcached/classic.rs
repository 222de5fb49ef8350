//! Leases on servers before 1.6.10, which have none: a key beside each key says how it stands.
//!
//! ```text
//! key.lease   holds `f`        the value was stored and is fresh; it ends when the ttl does
//!             holds a number   somebody has the lease of that number and is loading
//!             is missing       the value is due, or there is none: `add` gives the lease to one
//! ```
//!
//! Whoever writes puts `f` there first, or takes it away to delete, so that a holder who looks at
//! its lease *after* it has read the value's CAS knows that nobody wrote before, and `cas` itself
//! tells if somebody writes after. Other clients' `set` moves nothing here: what they write counts
//! as due once the mark has ended.

use std::time::Duration;

use bytes::Bytes;

use super::{CLASSIC, Memcached, commands::How, side};
use crate::{
    Result,
    engine::{Claim, Engine, Item, Lease, Span},
    random,
};

impl Memcached {
    /// Says that what is about to be stored is fresh, and voids the lease.
    pub(super) async fn mark_fresh(&self, key: &str, span: Span) -> Result<()> {
        self.put(&side(key), &fresh_mark(), fresh_for(span), How::Set).await.map(drop)
    }

    pub(super) async fn claim_classic(
        &self,
        key: &str,
        stale: Duration,
        lease: Duration,
    ) -> Result<Claim> {
        let beside = side(key);
        let mut found = self.get(&[key, &beside]).await?;
        let (mark, value) = (found.pop().flatten(), found.pop().flatten());
        let token = random::number() >> 2;
        let held = Item { bytes: Bytes::from(token.to_string()), flags: 0 };
        let span = Span { fresh: lease, stale: Duration::ZERO };
        let won = match (&value, &mark) {
            (Some(value), Some(mark)) if *mark == fresh_mark() => {
                return Ok(Claim::Fresh(value.clone()));
            }
            // A value that has no mark and is not to have a grace is fresh until it ends.
            (Some(value), None) if stale.is_zero() => return Ok(Claim::Fresh(value.clone())),
            (_, None) => self.put(&beside, &held, span, How::Add).await?.is_some(),
            (None, Some(mark)) if *mark == fresh_mark() => {
                // It was filled between the looks at the one and the other.
                if let Some((value, _)) = self.read(key).await? {
                    return Ok(Claim::Fresh(value));
                }
                // The server has pushed the value out and kept the mark.
                match self.read(&beside).await? {
                    Some((now, flags)) if now == fresh_mark() => {
                        self.put(&beside, &held, span, How::Over(flags.cas)).await?.is_some()
                    }
                    _ => false,
                }
            }
            (_, Some(_)) => false,
        };
        let lease = won.then_some(Lease(token | CLASSIC));
        Ok(match value {
            Some(value) => Claim::Stale(value, lease),
            None => Claim::Missing(lease),
        })
    }

    pub(super) async fn fill_classic(
        &self,
        key: &str,
        lease: Lease,
        item: Item,
        span: Span,
    ) -> Result<bool> {
        let before = self.read(key).await?;
        let Some(cas) = self.held(key, lease).await? else { return Ok(false) };
        let how = before.map_or(How::Add, |(_, flags)| How::Over(flags.cas));
        if self.put(key, &item, span, how).await?.is_none() {
            return Ok(false);
        }
        let beside = side(key);
        if self.put(&beside, &fresh_mark(), fresh_for(span), How::Over(cas)).await?.is_some() {
            return Ok(true);
        }
        // The lease was void: somebody deleted or is about to write. What was stored is taken back.
        if let Some((now, flags)) = self.read(key).await?
            && now == item
        {
            self.put(key, &Item { bytes: Bytes::new(), flags: 0 }, NO_TIME, How::Over(flags.cas))
                .await?;
        }
        Ok(false)
    }

    pub(super) async fn release_classic(&self, key: &str, lease: Lease) -> Result<()> {
        if let Some(cas) = self.held(key, lease).await? {
            self.put(&side(key), &fresh_mark(), NO_TIME, How::Over(cas)).await?;
        }
        Ok(())
    }

    /// The CAS of the lease, while it counts.
    async fn held(&self, key: &str, lease: Lease) -> Result<Option<u64>> {
        let token = (lease.0 & !CLASSIC).to_string();
        let beside = self.read(&side(key)).await?;
        Ok(beside.and_then(|(mark, flags)| (mark.bytes == token).then_some(flags.cas)))
    }
}

fn fresh_mark() -> Item {
    Item { bytes: Bytes::from_static(b"f"), flags: 0 }
}

fn fresh_for(span: Span) -> Span {
    Span { stale: Duration::ZERO, ..span }
}

const NO_TIME: Span = Span { fresh: Duration::ZERO, stale: Duration::ZERO };
