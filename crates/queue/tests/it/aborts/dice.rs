//! Chance that can be had again by its seed, and futures that end by it.

use std::{pin::Pin, task::Poll, time::Duration};

use throng_queue::TaskId;

/// Marsaglia's xorshift.
pub(super) struct Dice(u64);

/// A seed that no other run has.
pub(super) fn any() -> u64 {
    let id = TaskId::random().to_string().replace('-', "");
    u64::from_str_radix(&id[..12], 16).unwrap()
}

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// Dice for somebody else.
    pub(super) fn split(&mut self) -> Self {
        Self::new(self.next())
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub(super) fn below(&mut self, most: u64) -> u64 {
        (self.next() >> 16) % most
    }

    /// So many times of a hundred.
    pub(super) fn comes(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    pub(super) async fn rest(&mut self, most_ms: u64) {
        let us = self.below(most_ms * 1000 + 1);
        tokio::time::sleep(Duration::from_micros(us)).await;
    }

    /// Waits for `work`, or drops it at some await of its own or at some time; then the answer is
    /// none. What is waited for to its end ends.
    pub(super) async fn perhaps<T>(&mut self, work: impl Future<Output = T>) -> Option<T> {
        let work = Box::pin(work);
        match self.below(4) {
            0 => polled(work, 1 + self.below(16)).await,
            1 => {
                let wait = Duration::from_micros(self.below(15_000));
                tokio::time::timeout(wait, work).await.ok()
            }
            _ => Some(tokio::time::timeout(super::PATIENCE, work).await.expect("a call ends")),
        }
    }
}

/// Polls it so many times at most.
pub(super) async fn polled<T>(
    mut work: Pin<Box<impl Future<Output = T> + ?Sized>>,
    mut left: u64,
) -> Option<T> {
    let some = std::future::poll_fn(|cx| {
        left -= 1;
        match work.as_mut().poll(cx) {
            Poll::Ready(answer) => Poll::Ready(Some(answer)),
            Poll::Pending if left == 0 => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    });
    tokio::time::timeout(super::PATIENCE, some).await.expect("a call ends")
}
