//! Request bodies within bounds, and answers that end when the process stops.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use axum::body::{Body, BodyDataStream, HttpBody};
use bytes::Bytes;
use http::{HeaderMap, StatusCode, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use throng_core::Shutdown;

use crate::{Error, Result};

/// `body`, which fails when it is read past `max_bytes`; refused at once where its length says so.
pub(crate) fn limited(headers: &HeaderMap, body: Body, max_bytes: usize) -> Result<Body> {
    let length = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok());
    if length.and_then(|length| length.parse::<usize>().ok()).is_some_and(|n| n > max_bytes) {
        return Err(Error::plain(StatusCode::PAYLOAD_TOO_LARGE));
    }
    // What is already whole, such as an empty body, needs no counting.
    if body.size_hint().exact().is_some_and(|size| size <= max_bytes as u64) {
        return Ok(body);
    }
    Ok(Body::new(Limited::new(body, max_bytes)))
}

/// The whole of a body made by [`limited`].
pub(crate) async fn whole(body: Body) -> Result<Bytes> {
    match body.collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) => {
            let mut next: Option<&(dyn std::error::Error + 'static)> = Some(&error);
            while let Some(cause) = next {
                if cause.is::<LengthLimitError>() {
                    return Err(Error::plain(StatusCode::PAYLOAD_TOO_LARGE));
                }
                next = cause.source();
            }
            // The connection broke; nobody will read the answer.
            Err(Error::plain(StatusCode::BAD_REQUEST))
        }
    }
}

/// `body`, which also ends when `shutdown` is asked for: for streams that have no end of their own.
pub(crate) fn until(body: Body, shutdown: Shutdown) -> Body {
    let stop = Box::pin(async move { shutdown.requested().await });
    Body::from_stream(Until { stream: body.into_data_stream(), stop, is_over: false })
}

struct Until {
    stream: BodyDataStream,
    stop: Pin<Box<dyn Future<Output = ()> + Send>>,
    is_over: bool,
}

impl futures_util::Stream for Until {
    type Item = Result<Bytes, axum::Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.is_over || self.stop.as_mut().poll(cx).is_ready() {
            self.is_over = true;
            return Poll::Ready(None);
        }
        Pin::new(&mut self.stream).poll_next(cx)
    }
}
