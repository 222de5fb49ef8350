//! The body of every message that passes the edge.

use std::{
    collections::VecDeque,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::{BodyExt, combinators::UnsyncBoxBody};
use hyper::body::Incoming;

use crate::{
    cache::{Reader, Stored},
    upstream,
};

/// Any error of a body on its way.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A body on its way through the edge.
#[derive(Debug, Default)]
pub struct Body {
    kind: Kind,
    /// Dropped when the body has ended, or nobody wants it any more.
    ending: Option<Box<dyn Ending>>,
    /// As it is still to come, for [`Ending`].
    sent: u64,
    is_over: bool,
}

/// Hears once how a body ended.
pub(crate) trait Ending: Send + std::fmt::Debug {
    /// `is_whole` unless it broke off or was not wanted to its end.
    fn ended(self: Box<Self>, bytes: u64, is_whole: bool);
}

#[derive(Debug, Default)]
enum Kind {
    #[default]
    Empty,
    Whole(Bytes),
    Runs(VecDeque<Bytes>),
    Reader(Reader),
    /// Of a visitor's request.
    Incoming(Incoming),
    /// Of a back end's answer.
    Answer(Box<upstream::Incoming>),
    Boxed(UnsyncBoxBody<Bytes, BoxError>),
}

impl Body {
    /// No bytes.
    #[must_use]
    pub fn empty() -> Self {
        Self::default()
    }

    /// Wraps the body of another library.
    pub fn new<B>(body: B) -> Self
    where
        B: HttpBody<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        Self::of(Kind::Boxed(body.map_err(Into::into).boxed_unsync()))
    }

    pub(crate) fn incoming(body: Incoming) -> Self {
        match body.is_end_stream() {
            true => Self::empty(),
            false => Self::of(Kind::Incoming(body)),
        }
    }

    pub(crate) fn answer(answer: Box<upstream::Incoming>) -> Self {
        match answer.is_over() {
            true => Self::empty(),
            false => Self::of(Kind::Answer(answer)),
        }
    }

    /// Tells `ending` when this body is over. There is one for each body; a second takes its place
    /// and carries the first along.
    pub(crate) fn with_ending(mut self, ending: Box<dyn Ending>) -> Self {
        self.ending = Some(match self.ending.take() {
            Some(first) => Box::new(Both(first, ending)),
            None => ending,
        });
        self
    }

    fn of(kind: Kind) -> Self {
        Self { kind, ending: None, sent: 0, is_over: false }
    }

    fn end(&mut self, is_whole: bool) {
        self.is_over = true;
        if let Some(ending) = self.ending.take() {
            ending.ended(self.sent, is_whole);
        }
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        if bytes.is_empty() { Self::empty() } else { Self::of(Kind::Whole(bytes)) }
    }
}

impl From<String> for Body {
    fn from(text: String) -> Self {
        Bytes::from(text).into()
    }
}

impl From<Stored> for Body {
    fn from(stored: Stored) -> Self {
        match stored {
            Stored::Whole(bytes) => bytes.into(),
            Stored::Runs(runs) => Self::of(Kind::Runs(runs.into())),
            Stored::Coming(reader) => Self::of(Kind::Reader(reader)),
        }
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        let next = match &mut this.kind {
            Kind::Empty => Poll::Ready(None),
            Kind::Whole(bytes) => {
                let bytes = std::mem::take(bytes);
                this.kind = Kind::Empty;
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            Kind::Runs(runs) => Poll::Ready(runs.pop_front().map(|run| Ok(Frame::data(run)))),
            Kind::Reader(reader) => Pin::new(reader)
                .poll_next(cx)
                .map(|next| next.map(|read| read.map(Frame::data).map_err(BoxError::from))),
            Kind::Incoming(body) => Pin::new(body)
                .poll_frame(cx)
                .map(|next| next.map(|frame| frame.map_err(BoxError::from))),
            Kind::Answer(answer) => answer.poll_frame(cx),
            Kind::Boxed(body) => Pin::new(body).poll_frame(cx),
        };
        match &next {
            Poll::Ready(Some(Ok(frame))) => {
                this.sent += frame.data_ref().map_or(0, |data| data.len() as u64);
                // A body of known length is not asked for its end.
                if this.is_end_stream() {
                    this.end(true);
                }
            }
            Poll::Ready(Some(Err(_))) => this.end(false),
            Poll::Ready(None) => this.end(true),
            Poll::Pending => {}
        }
        next
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Empty => true,
            Kind::Runs(runs) => runs.is_empty(),
            Kind::Whole(_) | Kind::Reader(_) => false,
            Kind::Incoming(body) => body.is_end_stream(),
            Kind::Answer(answer) => answer.is_over(),
            Kind::Boxed(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Empty => SizeHint::with_exact(0),
            Kind::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Kind::Runs(runs) => SizeHint::with_exact(runs.iter().map(|run| run.len() as u64).sum()),
            Kind::Reader(_) => SizeHint::default(),
            Kind::Incoming(body) => body.size_hint(),
            Kind::Answer(answer) => answer.size_hint(),
            Kind::Boxed(body) => body.size_hint(),
        }
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        let is_whole = self.is_over || self.is_end_stream();
        self.end(is_whole);
    }
}

#[derive(Debug)]
struct Both(Box<dyn Ending>, Box<dyn Ending>);

impl Ending for Both {
    fn ended(self: Box<Self>, bytes: u64, is_whole: bool) {
        self.0.ended(bytes, is_whole);
        self.1.ended(bytes, is_whole);
    }
}
