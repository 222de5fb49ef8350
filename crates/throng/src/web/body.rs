//! Request bodies within bounds; answers that end when the process stops, are compressed, or have no
//! body at all.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use axum::{
    body::{Body, BodyDataStream, HttpBody},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use flate2::Compression;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use throng_core::Shutdown;

use super::assets;
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

/// `response` compressed, if it is text that is there as a whole and long enough to gain.
pub(crate) async fn compressed(response: Response) -> Response {
    let media = response.headers().get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    let is_text = media.is_some_and(|media| {
        [&b"text/"[..], b"application/json", b"image/svg"]
            .iter()
            .any(|kind| media.starts_with(kind))
    });
    let size = response.body().size_hint().exact().unwrap_or(0);
    let is_packed = response.headers().contains_key(header::CONTENT_ENCODING);
    if !is_text || is_packed || !(MIN_GZIP_BYTES..MAX_GZIP_BYTES).contains(&size) {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    let Ok(plain) = body.collect().await.map(|body| body.to_bytes()) else {
        return Error::plain(StatusCode::INTERNAL_SERVER_ERROR).into_response();
    };
    parts.headers.append(header::VARY, HeaderValue::from_static("accept-encoding"));
    let body = match assets::gzip(&plain, Compression::fast()) {
        None => plain,
        Some(packed) => {
            parts.headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            parts.headers.remove(header::CONTENT_LENGTH);
            packed
        }
    };
    Response::from_parts(parts, Body::from(body))
}

/// The answer to HEAD: what GET would say, its length included, and nothing to read.
pub(crate) fn without_body(mut response: Response) -> Response {
    if let Some(size) = response.body().size_hint().exact().filter(|size| *size > 0) {
        response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(size));
    }
    response.map(|_| Body::from(Bytes::new()))
}

/// Below this a packet is sent either way.
const MIN_GZIP_BYTES: u64 = 1024;
/// Above this, compressing would hold up the other requests of the thread.
const MAX_GZIP_BYTES: u64 = 1 << 20;
