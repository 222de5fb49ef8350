//! Work that ends once it has begun, whoever waits for it.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

/// Does the work. Dropped before its end, it is left to the runtime.
pub(super) fn lasting<F>(work: F) -> impl Future<Output = F::Output> + Send
where
    F: Future<Output: Send> + Send + 'static,
{
    Lasting(Some(Box::pin(work)))
}

struct Lasting<F: Future<Output: Send> + Send + 'static>(Option<Pin<Box<F>>>);

impl<F: Future<Output: Send> + Send + 'static> Future for Lasting<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let Some(work) = &mut self.0 else { return Poll::Pending };
        let done = work.as_mut().poll(cx);
        if done.is_ready() {
            self.0 = None;
        }
        done
    }
}

impl<F: Future<Output: Send> + Send + 'static> Drop for Lasting<F> {
    fn drop(&mut self) {
        // While it panics nobody may poll it again; without a runtime nobody can.
        if let Some(rest) = self.0.take()
            && !std::thread::panicking()
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            drop(runtime.spawn(rest));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::{sync::mpsc, time::timeout};

    use super::*;

    #[tokio::test]
    async fn what_has_begun_ends_without_whoever_began_it() {
        let (done, mut seen) = mpsc::unbounded_channel();
        let work = async move {
            tokio::time::sleep(Duration::from_millis(20)).await;
            done.send("it is done").unwrap();
        };
        let waited = timeout(Duration::from_millis(1), lasting(work)).await;
        assert!(waited.is_err(), "it is left before its end");
        assert_eq!(seen.recv().await, Some("it is done"));
    }
}
