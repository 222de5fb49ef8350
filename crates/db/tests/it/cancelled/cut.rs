//! Ways in which a future comes to its end before its time, and the dice that choose.

use std::{future::poll_fn, pin::pin, task::Poll, time::Duration};

/// Numbers that are the same for the same seed.
#[derive(Clone, Debug)]
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Dice of its own, so that what it throws does not depend on who is faster.
    pub(super) fn child(&mut self) -> Self {
        Self(self.next())
    }

    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    pub(super) fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }

    fn next(&mut self) -> u64 {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

/// When a future is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cut {
    /// At its end.
    Never,
    /// When it has been polled so often.
    Polls(u64),
    /// After so long.
    After(Duration),
    /// With its task, after others have had their turn so often.
    Abort(u64),
}

impl Cut {
    pub(super) fn any(dice: &mut Dice) -> Self {
        match dice.below(8) {
            0 => Self::Never,
            1..=4 => Self::Polls(dice.below(24)),
            5 => Self::After(Duration::from_millis(dice.below(12))),
            _ => Self::Abort(dice.below(40)),
        }
    }

    /// What it gave, unless it was dropped before.
    pub(super) async fn run<T: Send + 'static>(
        self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Option<T> {
        match self {
            Self::Never => Some(work.await),
            Self::Polls(most) => poll_most(most, work).await,
            Self::After(time) => tokio::time::timeout(time, work).await.ok(),
            Self::Abort(turns) => {
                let task = tokio::spawn(work);
                for _ in 0..turns {
                    tokio::task::yield_now().await;
                }
                task.abort();
                match task.await {
                    Ok(done) => Some(done),
                    Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
                    Err(_) => None,
                }
            }
        }
    }
}

/// Polls a future so often at most.
pub(super) async fn poll_most<T>(most: u64, work: impl Future<Output = T>) -> Option<T> {
    let mut work = pin!(work);
    let mut left = most;
    poll_fn(|cx| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        match work.as_mut().poll(cx) {
            Poll::Ready(done) => Poll::Ready(Some(done)),
            Poll::Pending if left == 0 => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}
