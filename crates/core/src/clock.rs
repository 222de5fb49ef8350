//! The clock: the system's in production, one moved by hand in tests.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use rustix::time::{ClockId, clock_gettime};
use tokio::sync::watch;

/// Tells the time and sleeps. Cheap to clone; every room that waits or expires takes one.
#[derive(Clone, Debug)]
pub struct Clock {
    source: Source,
}

/// Moves a manual [`Clock`]. Kept by the test; the code under test only sees the clock.
#[derive(Clone, Debug)]
pub struct Hand {
    time: Arc<Mutex<Time>>,
    moved: watch::Sender<()>,
}

impl Clock {
    /// The machine's clock. Sleeps are tokio's.
    #[must_use]
    pub fn system() -> Self {
        Self { source: Source::System(Instant::now(), tick_ms()) }
    }

    /// A clock that stands at `unix_ms` until its [`Hand`] moves it. Sleepers wake when it passes.
    #[must_use]
    pub fn manual(unix_ms: i64) -> (Self, Hand) {
        let time = Arc::new(Mutex::new(Time { unix_ms, since_start: Duration::ZERO }));
        let (moved, _) = watch::channel(());
        let hand = Hand { time, moved };
        (Self { source: Source::Manual(hand.clone()) }, hand)
    }

    /// Wall-clock time in milliseconds since 1970 UTC. It can step back; do not measure with it.
    #[must_use]
    pub fn now_ms(&self) -> i64 {
        match &self.source {
            Source::System(..) => match SystemTime::now().duration_since(UNIX_EPOCH) {
                Ok(since) => i64::try_from(since.as_millis()).unwrap_or(i64::MAX),
                Err(before) => -i64::try_from(before.duration().as_millis()).unwrap_or(i64::MAX),
            },
            Source::Manual(hand) => hand.read().unix_ms,
        }
    }

    /// Wall-clock time in whole seconds since 1970 UTC.
    #[must_use]
    pub fn now_s(&self) -> i64 {
        self.now_ms().div_euclid(1000)
    }

    /// Time since this clock was made. Never steps back; measure and time out with it.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        match &self.source {
            Source::System(start, _) => start.elapsed(),
            Source::Manual(hand) => hand.read().since_start,
        }
    }

    /// [`elapsed`](Self::elapsed) in milliseconds, as of the kernel's last tick, which may be 10 ms
    /// ago: for what asks a million times a second, at a quarter of the cost.
    #[must_use]
    #[inline]
    pub fn elapsed_coarse_ms(&self) -> i64 {
        match &self.source {
            Source::System(_, start_ms) => tick_ms() - start_ms,
            Source::Manual(hand) => {
                i64::try_from(hand.read().since_start.as_millis()).unwrap_or(i64::MAX)
            }
        }
    }

    /// Returns after `wait` has passed on this clock. Cancel safe.
    pub async fn sleep(&self, wait: Duration) {
        match &self.source {
            Source::System(..) => tokio::time::sleep(wait).await,
            Source::Manual(hand) => hand.sleep(wait).await,
        }
    }

    /// Runs `work` for at most `limit` of this clock; `None` when the limit came first.
    pub async fn timeout<T>(&self, limit: Duration, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            done = work => Some(done),
            () = self.sleep(limit) => None,
        }
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::system()
    }
}

impl Hand {
    /// Moves the clock forward: wall time and elapsed time both.
    pub fn advance(&self, by: Duration) {
        {
            let mut time = self.lock();
            time.unix_ms += i64::try_from(by.as_millis()).unwrap_or(i64::MAX);
            time.since_start += by;
        }
        self.moved.send_replace(());
    }

    /// Sets the wall clock alone, as an operator or NTP does; elapsed time does not move.
    pub fn step_to(&self, unix_ms: i64) {
        self.lock().unix_ms = unix_ms;
        self.moved.send_replace(());
    }

    fn read(&self) -> Time {
        *self.lock()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Time> {
        self.time.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn sleep(&self, wait: Duration) {
        let mut moved = self.moved.subscribe();
        let until = self.read().since_start + wait;
        while self.read().since_start < until {
            if moved.changed().await.is_err() {
                return;
            }
        }
    }
}

/// Milliseconds on the kernel's clock that never steps back, as of its last tick.
#[inline]
fn tick_ms() -> i64 {
    let now = clock_gettime(ClockId::MonotonicCoarse);
    now.tv_sec * 1_000 + now.tv_nsec / 1_000_000
}

#[derive(Clone, Debug)]
enum Source {
    /// When it was made: exactly, and as of the kernel's last tick.
    System(Instant, i64),
    Manual(Hand),
}

#[derive(Clone, Copy, Debug)]
struct Time {
    unix_ms: i64,
    since_start: Duration,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_sleeper_wakes_when_the_hand_passes_its_time() {
        let (clock, hand) = Clock::manual(1_700_000_000_000);
        let sleeper = tokio::spawn({
            let clock = clock.clone();
            async move { clock.sleep(Duration::from_secs(5)).await }
        });
        hand.advance(Duration::from_secs(4));
        tokio::task::yield_now().await;
        assert!(!sleeper.is_finished());
        // The sleeper may have started before or after the first move.
        hand.advance(Duration::from_secs(5));
        sleeper.await.unwrap();
        assert_eq!(clock.now_ms(), 1_700_000_009_000);
    }

    #[test]
    fn the_coarse_time_follows_the_exact_one() {
        let clock = Clock::system();
        std::thread::sleep(Duration::from_millis(30));
        let coarse_ms = clock.elapsed_coarse_ms();
        assert!(coarse_ms >= 20 && coarse_ms <= clock.elapsed().as_millis() as i64 + 10);
        let (clock, hand) = Clock::manual(0);
        hand.advance(Duration::from_secs(5));
        assert_eq!(clock.elapsed_coarse_ms(), 5_000);
    }

    #[tokio::test]
    async fn a_step_of_the_wall_clock_wakes_nobody() {
        let (clock, hand) = Clock::manual(1_000);
        hand.step_to(500);
        assert_eq!((clock.now_ms(), clock.elapsed()), (500, Duration::ZERO));
        let limit = Duration::from_secs(1);
        let waited = clock.timeout(limit, std::future::ready(7)).await;
        assert_eq!(waited, Some(7));
    }
}
