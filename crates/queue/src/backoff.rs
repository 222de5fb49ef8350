//! How long a failed task waits before it runs again: exponential, capped, with full jitter.

use std::time::Duration;

/// Grows from `base` by doubling up to `cap`; the wait is drawn evenly from zero to that.
///
/// Full jitter spreads the retries of a thousand tasks that failed together (a mail server that was
/// away) over the whole interval, instead of sending all of them again at the same moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// The longest first wait. Defaults to 1 s.
    pub base: Duration,
    /// What no wait exceeds. Defaults to 10 minutes.
    pub cap: Duration,
    /// Whether the wait is drawn from zero to the interval rather than being the interval.
    /// Defaults to true.
    pub is_jittered: bool,
}

impl Backoff {
    /// The same wait before every retry, without jitter.
    #[must_use]
    pub fn fixed(wait: Duration) -> Self {
        Self { base: wait, cap: wait, is_jittered: false }
    }

    /// The longest that the wait before retry number `retry` (the first is 0) can be.
    #[must_use]
    pub fn ceiling(&self, retry: u32) -> Duration {
        let doubled = 2u32.checked_pow(retry).and_then(|times| self.base.checked_mul(times));
        doubled.unwrap_or(self.cap).min(self.cap)
    }

    /// The wait before retry number `retry`; `dice` is random and even over its range.
    #[must_use]
    pub fn wait(&self, retry: u32, dice: u64) -> Duration {
        let ceiling = self.ceiling(retry);
        if !self.is_jittered {
            return ceiling;
        }
        // 53 bits are what a double holds exactly.
        let share = (dice >> 11) as f64 / (1u64 << 53) as f64;
        ceiling.mul_f64(share)
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Self { base: Duration::from_secs(1), cap: Duration::from_secs(600), is_jittered: true }
    }
}

/// Random bits for [`Backoff::wait`].
pub(crate) fn dice() -> u64 {
    getrandom::u64().expect("every platform that tokio runs on has randomness")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_ceiling_doubles_up_to_the_cap() {
        let backoff = Backoff::default();
        let seconds = |retry| backoff.ceiling(retry).as_secs();
        assert_eq!([seconds(0), seconds(1), seconds(5), seconds(12)], [1, 2, 32, 600]);
        assert_eq!(seconds(u32::MAX), 600);
    }

    proptest! {
        #[test]
        fn a_wait_never_leaves_its_interval(
            base in 0u64..100_000, cap in 0u64..10_000_000, retry: u32, dice: u64, is_jittered: bool,
        ) {
            let [base, cap] = [base, cap].map(Duration::from_millis);
            let backoff = Backoff { base, cap, is_jittered };
            let wait = backoff.wait(retry, dice);
            prop_assert!(wait <= backoff.ceiling(retry));
            prop_assert!(wait <= cap);
            prop_assert!(backoff.ceiling(retry) <= backoff.ceiling(retry.saturating_add(1)));
        }

        #[test]
        fn the_dice_orders_the_waits(retry in 0u32..20, low: u64, high: u64) {
            let (low, high) = (low.min(high), low.max(high));
            let backoff = Backoff::default();
            prop_assert!(backoff.wait(retry, low) <= backoff.wait(retry, high));
        }
    }
}
