//! How long a caller waits for what he asked for, before he leaves.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    task::Poll,
    time::Duration,
};

use tokio::time::timeout;

/// How long a caller waits.
#[derive(Clone, Copy)]
pub(crate) enum Stay {
    Polls(u32),
    For(Duration),
    ToTheEnd,
}

impl Stay {
    pub(crate) async fn wait<T>(self, asked: impl Future<Output = T>) -> Option<T> {
        match self {
            Self::ToTheEnd => Some(asked.await),
            Self::For(time) => timeout(time, asked).await.ok(),
            Self::Polls(mut left) => {
                let mut asked = pin!(asked);
                poll_fn(|cx| {
                    left -= 1;
                    match asked.as_mut().poll(cx) {
                        Poll::Ready(told) => Poll::Ready(Some(told)),
                        Poll::Pending if left == 0 => Poll::Ready(None),
                        Poll::Pending => Poll::Pending,
                    }
                })
                .await
            }
        }
    }
}
