//! How many requests may be tried again, so that retries do not bury a site that is down already.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

/// A fifth of all requests and ten each second, with up to a thousand saved.
#[derive(Debug)]
pub(crate) struct Budget {
    state: Mutex<(f64, Duration)>,
}

impl Budget {
    pub(crate) fn new(now: Duration) -> Self {
        Self { state: Mutex::new((MOST / 2.0, now)) }
    }

    /// A request came.
    pub(crate) fn deposit(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.0 = (state.0 + FOR_EACH).min(MOST);
    }

    /// Whether one more may be tried again.
    pub(crate) fn withdraw(&self, now: Duration) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let since = now.saturating_sub(state.1).as_secs_f64();
        *state = ((state.0 + since * EACH_SECOND).min(MOST), now);
        let may = state.0 >= 1.0;
        if may {
            state.0 -= 1.0;
        }
        may
    }
}

const FOR_EACH: f64 = 0.2;
const EACH_SECOND: f64 = 10.0;
const MOST: f64 = 1_000.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retries_are_a_fifth_of_requests_once_the_savings_are_gone() {
        let budget = Budget::new(Duration::ZERO);
        while budget.withdraw(Duration::ZERO) {}
        (0..100).for_each(|_| budget.deposit());
        let allowed = (0..100).filter(|_| budget.withdraw(Duration::ZERO)).count();
        assert!((19..=20).contains(&allowed), "{allowed}");
        let allowed = (0..100).filter(|_| budget.withdraw(Duration::from_secs(1))).count();
        assert!((10..=11).contains(&allowed), "{allowed}");
    }
}
