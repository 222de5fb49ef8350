//! Load on a server for a while, and what it cost the server.

use std::{
    sync::Mutex,
    thread,
    time::{Duration, Instant},
};

use anyhow::Result;

use super::server::Server;

/// What one spell of load came to.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Load {
    /// Units of work done: pages, or purchases.
    pub(super) done: u64,
    /// How long it took.
    pub(super) wall: Duration,
    /// The server's CPU time for it.
    pub(super) cpu: Duration,
}

impl Load {
    /// Lets each of `visitors` repeat its work against `server` for as long as `spell`.
    ///
    /// The first thing that goes wrong ends the spell and is the error: a bench of failures is none.
    pub(super) fn of<V>(server: &Server, visitors: &mut [V], spell: Duration) -> Result<Self>
    where
        V: FnMut() -> Result<()> + Send,
    {
        let failed = Mutex::new(None);
        let (start, cpu) = (Instant::now(), server.cpu());
        let done = thread::scope(|scope| {
            let visitors: Vec<_> = visitors
                .iter_mut()
                .map(|visit| {
                    let failed = &failed;
                    scope.spawn(move || {
                        let mut done = 0;
                        while start.elapsed() < spell {
                            if let Err(error) = visit() {
                                failed.lock().expect("no visitor panics").get_or_insert(error);
                                break;
                            }
                            done += 1;
                        }
                        done
                    })
                })
                .collect();
            visitors.into_iter().map(|visitor| visitor.join().expect("no visitor panics")).sum()
        });
        let load = Self { done, wall: start.elapsed(), cpu: server.cpu().saturating_sub(cpu) };
        match failed.into_inner().expect("no visitor panics") {
            Some(error) => Err(error),
            None => Ok(load),
        }
    }

    /// Two spells as one.
    pub(super) fn and(self, other: Self) -> Self {
        Self {
            done: self.done + other.done,
            wall: self.wall + other.wall,
            cpu: self.cpu + other.cpu,
        }
    }

    /// Done in a second of time.
    pub(super) fn a_second(&self) -> f64 {
        ratio(self.done, self.wall)
    }

    /// Done in a second of the server's CPU time.
    pub(super) fn a_cpu_second(&self) -> f64 {
        ratio(self.done, self.cpu)
    }

    /// CPU milliseconds for each.
    pub(super) fn cpu_ms(&self) -> f64 {
        1000.0 / self.a_cpu_second()
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts of a few seconds are far below 2^52")]
fn ratio(done: u64, time: Duration) -> f64 {
    done as f64 / time.as_secs_f64().max(1e-9)
}
