//! A future that is polled when it has asked for it, and not whenever the task around it wakes for
//! something else.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

use futures_util::task::AtomicWaker;

/// Stands before a future that seldom has anything to say.
pub(super) struct Heard<F> {
    future: F,
    bell: Arc<Bell>,
    waker: Waker,
}

#[derive(Debug)]
struct Bell {
    has_rung: AtomicBool,
    task: AtomicWaker,
}

impl<F> Heard<F> {
    pub(super) fn new(future: F) -> Self {
        // It is polled once to begin with.
        let bell = Arc::new(Bell { has_rung: AtomicBool::new(true), task: AtomicWaker::new() });
        let waker = Waker::from(Arc::clone(&bell));
        Self { future, bell, waker }
    }
}

impl<F: Future + Unpin> Future for Heard<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = &mut *self;
        // Whoever rings after this wakes the task.
        this.bell.task.register(cx.waker());
        if !this.bell.has_rung.load(Ordering::Acquire) {
            return Poll::Pending;
        }
        // Nothing of the future may be looked at before.
        this.bell.has_rung.swap(false, Ordering::SeqCst);
        Pin::new(&mut this.future).poll(&mut Context::from_waker(&this.waker))
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.has_rung.store(true, Ordering::Release);
        self.task.wake();
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, sync::atomic::AtomicUsize};

    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn it_is_polled_when_it_asks_and_not_when_another_wakes() {
        let (tx, mut rx) = oneshot::channel();
        let polls = AtomicUsize::new(0);
        let mut heard = Heard::new(poll_fn(|cx| {
            polls.fetch_add(1, Ordering::Relaxed);
            Pin::new(&mut rx).poll(cx)
        }));
        for _ in 0..100 {
            let is_over = poll_fn(|cx| Poll::Ready(Pin::new(&mut heard).poll(cx).is_ready())).await;
            assert!(!is_over);
            tokio::task::yield_now().await;
        }
        assert_eq!(polls.load(Ordering::Relaxed), 1);
        tokio::spawn(async move { tx.send(7) });
        assert_eq!(heard.await, Ok(7));
        assert_eq!(polls.load(Ordering::Relaxed), 2);
    }
}
