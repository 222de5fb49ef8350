//! Tending: what dead workers held, and what was parked, goes back to its queue.

use std::time::Duration;

use futures_util::future::FutureExt as _;

use super::{Event, Rounds};
use crate::{Result, engine::Tended, metrics, worker::follow};

impl Rounds {
    pub(super) fn start_tending(&mut self) {
        let engine = self.queue.engine().clone();
        let max_crashes = self.config.max_crashes;
        let names: Vec<String> = match &self.names {
            Some(names) => names.to_vec(),
            None => self.handlers.keys().cloned().collect(),
        };
        let request = async move {
            let tended = async {
                let tended = engine.tend(max_crashes).await?;
                Ok((tended, engine.unpark(&names).await?))
            };
            Event::Tended(tended.await)
        };
        self.requests.push(request.boxed());
    }

    pub(super) fn tended(&mut self, tended: Result<(Tended, u64)>) {
        let has_unfollowed = match tended {
            Ok((tended, unparked)) => {
                let Tended { requeued, buried, has_unfollowed, .. } = tended;
                metrics::requeued(requeued);
                if requeued > 0 {
                    tracing::warn!("{requeued} tasks of workers that died are queued again");
                }
                if buried > 0 {
                    tracing::error!("{buried} tasks of workers that died are dead letters");
                }
                if unparked > 0 {
                    tracing::info!(
                        "{unparked} parked tasks are queued again: they have a handler now"
                    );
                }
                has_unfollowed
            }
            Err(error) => {
                tracing::warn!(error = ?error, "cannot tend tasks: {error}");
                false
            }
        };
        if has_unfollowed {
            let queue = self.queue.clone();
            let request = async move { Event::Followed(follow::make_up(&queue).await) };
            self.requests.push(request.boxed());
            return;
        }
        self.after(TEND_EVERY, Event::Tend);
    }

    /// What is left is done at the next round, here or elsewhere.
    pub(super) fn made_up(&mut self, followed: Result<()>) {
        if let Err(error) = followed {
            tracing::warn!(error = ?error, "cannot push what follows tasks that died or expired: {error}");
        }
        self.after(TEND_EVERY, Event::Tend);
    }
}

const TEND_EVERY: Duration = Duration::from_secs(1);
