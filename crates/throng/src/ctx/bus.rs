//! The bus as a context offers it: values rather than bytes, and messages that leave only if a
//! transaction commits.

use std::ops::Deref;

use serde::Serialize;
use throng_db::{
    Db, Tx,
    outbox::{self, Delivery, Entry},
};

use super::seen;
use crate::Result;

/// The bus as a context offers it. Everything else is the room's own [`throng_bus::Bus`], to which
/// this dereferences: [`subscribe`](throng_bus::Bus::subscribe) for a page that listens.
///
/// ```
/// # async fn buy(cx: throng::Ctx) -> throng::Result {
/// let tx = cx.db.begin().await?;
/// // … a seat is taken with `&tx` …
/// cx.bus.publish_in(&tx, "show.7", &12).await?; // whoever watches show 7 hears of seat 12
/// tx.commit().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Bus {
    pub(crate) room: throng_bus::Bus,
    /// What whoever publishes has seen of it travels with a message.
    pub(crate) db: Db,
}

impl Bus {
    /// Sends `value`, as JSON, to everyone in `group` now. At most once: who is not listening, or
    /// does not keep up, misses it.
    ///
    /// Where the database has replicas, an object gets one field more, `throng_seen`: with it
    /// [`Ctx::on_message`](crate::Ctx::on_message) reads what the sender has written, on any server.
    ///
    /// # Errors
    /// When `value` is not JSON, the group's name is wrong, or the engine does not answer.
    pub async fn publish(&self, group: &str, value: &impl Serialize) -> Result {
        // Who missed it is counted by the room; a sender that must know uses `group_send`.
        let message = seen::seal(&self.db, serde_json::to_value(value)?).await;
        let _ = self.room.group_send(group, message.to_string()).await?;
        Ok(())
    }

    /// Sends `value`, as JSON, to everyone in `group` if, and only if, `tx` commits.
    ///
    /// It goes through the outbox, so that it is sent even if this process dies right after the
    /// commit; then it may be sent twice. Let it say "look again" rather than "one more".
    ///
    /// # Errors
    /// When `value` is not JSON, or the database does not answer.
    pub async fn publish_in(&self, tx: &Tx, group: &str, value: &impl Serialize) -> Result {
        let payload = serde_json::to_value(value)?;
        let entry = Entry { kind: KIND.to_owned(), key: group.to_owned(), payload };
        Ok(outbox::push_in(tx, entry).await?)
    }

    /// Delivers an entry that [`Bus::publish_in`] wrote.
    pub(crate) async fn deliver(&self, delivery: Delivery) -> Result {
        let Entry { kind, key, payload } = delivery.entry;
        if kind != KIND {
            // Written by a newer or another program; it must not hold up the rest.
            tracing::error!(kind, "dropping an outbox entry of unknown kind `{kind}`");
            return Ok(());
        }
        let message = seen::seal(&seen::of_now(&self.db).await, payload).await;
        match self.room.group_send(&key, message.to_string()).await {
            Ok(_) => Ok(()),
            Err(error) if error.kind() == throng_bus::Kind::Retry => Err(error.into()),
            Err(error) => {
                tracing::error!(%error, "dropping a message that cannot be sent: {error}");
                Ok(())
            }
        }
    }
}

impl Deref for Bus {
    type Target = throng_bus::Bus;

    fn deref(&self) -> &Self::Target {
        &self.room
    }
}

/// What the outbox calls a message for the bus.
const KIND: &str = "bus";
