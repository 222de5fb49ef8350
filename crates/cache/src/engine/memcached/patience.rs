//! One timeout for several answers that were asked for at the same time.

use std::{
    pin::{Pin, pin},
    task::Poll,
};

/// One timeout for all that was asked at the same time. When it is over, what is there counts.
pub(super) struct Patience<'a, F> {
    sleep: Pin<&'a mut F>,
    is_over: bool,
}

impl<'a, F: Future<Output = ()>> Patience<'a, F> {
    pub(super) fn new(sleep: Pin<&'a mut F>) -> Self {
        Self { sleep, is_over: false }
    }

    pub(super) async fn wait<T>(&mut self, work: impl Future<Output = T>) -> Option<T> {
        let mut work = pin!(work);
        std::future::poll_fn(|cx| {
            if let Poll::Ready(done) = work.as_mut().poll(cx) {
                return Poll::Ready(Some(done));
            }
            self.is_over = self.is_over || self.sleep.as_mut().poll(cx).is_ready();
            if self.is_over { Poll::Ready(None) } else { Poll::Pending }
        })
        .await
    }
}
