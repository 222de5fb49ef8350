//! What a connection and the service behind it tell each other.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use throng_core::Clock;

use crate::{body::Ending, interim::Interims};

/// Whose turn it is on a connection. Clones are of the same connection.
#[derive(Clone, Debug)]
pub(in crate::proxy) struct Turn(Arc<State>);

#[derive(Debug)]
struct State {
    clock: Clock,
    begun: AtomicU64,
    ended: AtomicU64,
    /// When the last answer ended, in microseconds of the clock.
    ended_at_us: AtomicU64,
    is_stopped: AtomicBool,
    is_free: AtomicBool,
    interims: Interims,
}

/// One request, from when the service got it until its answer is over.
#[derive(Debug)]
pub(in crate::proxy) struct UnderWay {
    turn: Turn,
    /// When it ended, once that is known.
    ended_at: Option<Duration>,
}

impl Turn {
    pub(in crate::proxy) fn new(clock: &Clock) -> Self {
        Self(Arc::new(State {
            clock: clock.clone(),
            begun: AtomicU64::new(0),
            ended: AtomicU64::new(0),
            ended_at_us: AtomicU64::new(0),
            is_stopped: AtomicBool::new(false),
            is_free: AtomicBool::new(false),
            interims: Interims::default(),
        }))
    }

    /// The service has got a request. Its answer's body carries what this gives.
    pub(in crate::proxy) fn begin(&self) -> UnderWay {
        self.0.begun.fetch_add(1, Ordering::Relaxed);
        UnderWay { turn: self.clone(), ended_at: None }
    }

    /// What visitors are told before the answer.
    pub(in crate::proxy) fn interims(&self) -> &Interims {
        &self.0.interims
    }

    /// From now on hyper answers all, because its answers say that they are the last.
    pub(in crate::proxy) fn stop(&self) {
        self.0.is_stopped.store(true, Ordering::Release);
    }

    /// The connection speaks another protocol from now on, and may rest.
    pub(in crate::proxy) fn set_free(&self) {
        self.0.is_free.store(true, Ordering::Release);
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.0.is_stopped.load(Ordering::Acquire)
    }

    pub(super) fn ended(&self) -> u64 {
        self.0.ended.load(Ordering::Acquire)
    }

    /// Since when no request is under way; `None` while one is, and when it does not matter.
    pub(super) fn rests_since(&self) -> Option<Duration> {
        let state = &self.0;
        let is_at_rest = state.begun.load(Ordering::Acquire) == state.ended.load(Ordering::Acquire);
        let at = Duration::from_micros(state.ended_at_us.load(Ordering::Acquire));
        (is_at_rest && !state.is_free.load(Ordering::Acquire)).then_some(at)
    }
}

impl UnderWay {
    /// It ended just now.
    pub(super) fn end(mut self, now: Duration) {
        self.ended_at = Some(now);
    }
}

impl Ending for UnderWay {
    fn ended(self: Box<Self>, _bytes: u64, _is_whole: bool) {}
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let state = &self.turn.0;
        let now = self.ended_at.unwrap_or_else(|| state.clock.elapsed());
        state.ended_at_us.store(crate::log::micros(now), Ordering::Release);
        state.ended.fetch_add(1, Ordering::Release);
    }
}
