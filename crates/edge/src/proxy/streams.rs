//! What the requests of one HTTP/2 connection do, to find out when it is not worth keeping.
//!
//! With HTTP/1.1 a visitor who does not read stops its connection, and one who gives a request up
//! closes it. With HTTP/2 neither is to be seen from outside.

use std::{
    collections::BTreeMap,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::rt::Executor;
use throng_core::Clock;
use tokio::sync::Notify;

use crate::body::{Body, BoxError};

/// The requests of one connection.
pub(super) struct Streams {
    clock: Clock,
    state: Mutex<State>,
    flooded: Notify,
    /// What runs for it, tunnels among that, which are no requests any more.
    running: AtomicUsize,
}

/// Runs what a connection is made of.
#[derive(Clone)]
pub(super) struct Run(pub(super) Arc<Streams>);

/// Something that runs.
struct Running(Arc<Streams>);

#[derive(Default)]
struct State {
    begun: u64,
    /// Requests whose visitor did not want the answer to its end.
    given_up: u64,
    open: usize,
    /// When the last one was over.
    resting_since: Duration,
    /// Since when a request waits for its visitor to take what it was given.
    given: BTreeMap<u64, Duration>,
}

/// Whether a connection is worth keeping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Busy,
    /// Nothing has been asked for a while.
    Resting,
    /// An answer is not taken, or nothing happens after the goodbye.
    Stuck,
}

/// One request, until its answer is over.
pub(super) struct Open {
    streams: Arc<Streams>,
    number: u64,
    is_whole: bool,
}

/// The body of an answer that tells when its visitor takes from it.
pub(super) struct Carried {
    body: Body,
    open: Open,
}

impl Streams {
    pub(super) fn new(clock: &Clock) -> Self {
        let state = State { resting_since: clock.elapsed(), ..State::default() };
        Self {
            clock: clock.clone(),
            state: Mutex::new(state),
            flooded: Notify::new(),
            running: AtomicUsize::new(0),
        }
    }

    pub(super) fn open(self: &Arc<Self>) -> Open {
        let mut state = self.lock();
        state.begun += 1;
        state.open += 1;
        Open { streams: Arc::clone(self), number: state.begun, is_whole: false }
    }

    /// Returns once more requests were given up than anybody in good faith would: it costs nothing
    /// to send them.
    pub(super) async fn too_many_given_up(&self) {
        self.flooded.notified().await;
    }

    /// `rest` is what a connection may rest, `patience` what an answer may wait to be taken.
    pub(super) fn verdict(&self, rest: Duration, patience: Duration) -> Verdict {
        let now = self.clock.elapsed();
        let mut state = self.lock();
        if self.running.load(Ordering::Relaxed) > 0 {
            state.resting_since = now;
        }
        let oldest = state.given.values().min();
        let rested = now.saturating_sub(state.resting_since);
        if oldest.is_some_and(|since| now.saturating_sub(*since) > patience)
            || (state.open == 0 && rested > rest + patience)
        {
            Verdict::Stuck
        } else if state.open == 0 && rested > rest {
            Verdict::Resting
        } else {
            Verdict::Busy
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<F> Executor<F> for Run
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, future: F) {
        self.0.running.fetch_add(1, Ordering::Relaxed);
        let running = Running(Arc::clone(&self.0));
        tokio::spawn(async move {
            future.await;
            drop(running);
        });
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Open {
    /// Its visitor has what he asked for.
    pub(super) fn is_taken(&mut self) {
        self.is_whole = true;
    }

    pub(super) fn carry(self, body: Body) -> Carried {
        Carried { body, open: self }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let now = self.streams.clock.elapsed();
        let mut state = self.streams.lock();
        state.given.remove(&self.number);
        state.open -= 1;
        state.resting_since = now;
        state.given_up += u64::from(!self.is_whole);
        if state.given_up > MOST_GIVEN_UP && state.given_up * 2 > state.begun {
            self.streams.flooded.notify_one();
        }
    }
}

impl HttpBody for Carried {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let Self { body, open } = self.get_mut();
        let next = Pin::new(&mut *body).poll_frame(cx);
        let mut state = open.streams.lock();
        match &next {
            Poll::Ready(Some(Ok(_))) => {
                state.given.insert(open.number, open.streams.clock.elapsed());
                open.is_whole = body.is_end_stream();
            }
            // That it broke off is the back end's doing.
            Poll::Ready(_) => open.is_whole = true,
            Poll::Pending => drop(state.given.remove(&open.number)),
        }
        next
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A page with very many pictures, left at once.
const MOST_GIVEN_UP: u64 = 200;

#[cfg(test)]
mod tests {
    use super::*;

    const REST: Duration = Duration::from_secs(30);
    const PATIENCE: Duration = Duration::from_secs(60);

    fn poll(body: &mut Carried) -> bool {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        matches!(Pin::new(body).poll_frame(&mut cx), Poll::Ready(Some(Ok(_))))
    }

    fn text() -> Body {
        Body::from("text".to_owned())
    }

    #[test]
    fn a_connection_at_rest_is_let_go_and_one_whose_answer_is_not_taken_is_cut() {
        let (clock, hand) = Clock::manual(0);
        let streams = Arc::new(Streams::new(&clock));
        let verdict = || streams.verdict(REST, PATIENCE);
        hand.advance(REST + Duration::from_secs(1));
        assert_eq!(verdict(), Verdict::Resting);
        let mut body = streams.open().carry(text());
        hand.advance(PATIENCE * 2);
        assert_eq!(verdict(), Verdict::Busy, "it is the back end that takes its time");
        assert!(poll(&mut body));
        assert_eq!(verdict(), Verdict::Busy);
        hand.advance(PATIENCE + Duration::from_secs(1));
        assert_eq!(verdict(), Verdict::Stuck);
        drop(body);
        assert_eq!(verdict(), Verdict::Busy);
        hand.advance(REST + PATIENCE + Duration::from_secs(1));
        assert_eq!(verdict(), Verdict::Stuck, "it does not take what is left after the goodbye");
    }

    #[test]
    fn whoever_takes_back_most_of_what_he_asks_is_cut_and_who_reads_is_not() {
        let (clock, _hand) = Clock::manual(0);
        let streams = Arc::new(Streams::new(&clock));
        let is_flooded = || {
            let flooded = std::pin::pin!(streams.too_many_given_up());
            flooded.poll(&mut Context::from_waker(std::task::Waker::noop())).is_ready()
        };
        for _ in 0..1_000 {
            let mut body = streams.open().carry(text());
            while poll(&mut body) {}
        }
        assert_eq!(streams.lock().given_up, 0);
        (0..1_000).for_each(|_| drop(streams.open()));
        assert!(!is_flooded(), "half of them were read");
        drop(streams.open());
        assert!(is_flooded());
    }
}
