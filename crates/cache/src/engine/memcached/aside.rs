//! Leases on missing keys that Python's clients read: a key beside them, which `add` gives to one.

use std::time::Duration;

use bytes::Bytes;

use super::{ASIDE, Memcached, commands::How, protocol::Reply, side};
use crate::{
    Result,
    engine::{Claim, Item, Lease, Span},
};

impl Memcached {
    pub(super) async fn claim_aside(&self, key: &str, lease: Duration) -> Result<Claim> {
        let beside = Item { bytes: Bytes::from_static(b"1"), flags: 0 };
        let span = Span { fresh: lease, stale: Duration::ZERO };
        let Some(won) = self.put(&side(key), &beside, span, How::Add).await? else {
            return Ok(Claim::Missing(None));
        };
        let lease = Lease(won.cas | ASIDE);
        // Between the look and the lease another may have filled the key.
        match self.read(key).await? {
            Some((item, _)) => {
                self.end_aside(key, lease).await?;
                Ok(Claim::Fresh(item))
            }
            None => Ok(Claim::Missing(Some(lease))),
        }
    }

    pub(super) async fn fill_aside(
        &self,
        key: &str,
        lease: Lease,
        item: Item,
        span: Span,
    ) -> Result<bool> {
        // `add` first: when the lease goes, whoever looks next must find the value. It is taken
        // back if the lease was void, which a deletion makes it.
        let Some(stored) = self.put(key, &item, span, How::Add).await? else {
            self.end_aside(key, lease).await?;
            return Ok(false);
        };
        if self.end_aside(key, lease).await? {
            return Ok(true);
        }
        self.tell(key, "md", &format!("C{}", stored.cas), true).await?;
        Ok(false)
    }

    /// Ends the lease; tells whether it still counted.
    pub(super) async fn end_aside(&self, key: &str, lease: Lease) -> Result<bool> {
        let ended = self.tell(&side(key), "md", &format!("C{}", lease.0 & !ASIDE), true).await?;
        Ok(matches!(ended, Reply::Done(_)))
    }
}
