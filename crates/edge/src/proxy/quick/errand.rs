//! One request that is not for the cache, from its head to the end of its answer: passed on as it
//! came, and its answer passed back, without hyper on either side.

use std::{
    io::Write,
    ops::Range,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Method, Response, StatusCode};
use http_body::Body as HttpBody;

use super::{Output, SMALL, onward, turn::UnderWay};
use crate::{
    Balance, Body, Edge,
    body::BoxError,
    cache::{Group, Outcome},
    client,
    interim::Interims,
    log::{self, Line},
    proxy::{head, pages, send::Refusal},
    upstream::{Answer, Cause, Framing, Incoming, Message, Server},
};

/// A request under way.
pub(super) struct Errand {
    edge: Edge,
    asked: Asked,
    client: Arc<str>,
    state: State,
    started: Duration,
    status: u16,
    sent_bytes: u64,
    server: Option<Arc<Server>>,
    group: Arc<Group>,
    /// Until the answer is over.
    held: Option<(client::Pass, UnderWay)>,
    interims: Interims,
}

/// What was asked, for the log and for the answer.
#[derive(Debug)]
pub(super) struct Asked {
    /// As it goes to the back end, and where the target and the host are in it.
    pub(super) head: Bytes,
    pub(super) target: Range<usize>,
    pub(super) host: Range<usize>,
    pub(super) id: [u8; 16],
    pub(super) time_ms: i64,
    pub(super) detail: &'static str,
}

type Forwarded = Result<(Arc<Server>, Answer), Refusal>;

enum State {
    Asking(Pin<Box<dyn Future<Output = Forwarded> + Send>>),
    /// Nothing had to be waited for since the head came; `true` is a stream of events.
    Come(Box<Incoming>, Coding, bool),
    Flowing(Body, Coding),
    Over,
}

/// How a body goes to the visitor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Coding {
    Plain,
    Chunked,
}

impl Errand {
    pub(super) fn new(
        edge: &Edge,
        asked: Asked,
        (client, started): (&Arc<str>, Duration),
        held: (client::Pass, UnderWay),
        interims: &Interims,
    ) -> Self {
        let target = asked.text(&asked.target);
        let path = target.split_once('?').map_or(target, |(path, _)| path);
        let group = edge.cache().group(path);
        let message = Message::written(Method::GET, asked.head.clone()).telling(interims.open());
        let key = match edge.inner.config.balance {
            Balance::Consistent => [&asked.text(&asked.host).to_ascii_lowercase(), target].concat(),
            _ => String::new(),
        };
        let forwarded = forward(edge.clone(), message, (key, started));
        Self {
            edge: edge.clone(),
            asked,
            client: Arc::clone(client),
            state: State::Asking(Box::pin(forwarded)),
            started,
            status: 0,
            sent_bytes: 0,
            server: None,
            group,
            held: Some(held),
            interims: interims.clone(),
        }
    }

    /// Puts the next of the answer into `output`; ready with false at its end. `is_last` when the
    /// connection ends with it.
    pub(super) fn poll(
        &mut self,
        output: &mut Output,
        is_last: bool,
        cx: &mut Context<'_>,
    ) -> Poll<Result<bool, BoxError>> {
        match &mut self.state {
            State::Asking(forwarded) => {
                let forwarded = forwarded.as_mut().poll(cx);
                self.interims.take(&mut output.head, cx.waker());
                let Poll::Ready(forwarded) = forwarded else {
                    return match output.head.is_empty() {
                        true => Poll::Pending,
                        false => Poll::Ready(Ok(true)),
                    };
                };
                self.interims.close();
                self.answered(forwarded, (&mut output.head, is_last));
                // What has come with the head leaves with it.
                match self.poll_body(output, cx) {
                    Poll::Pending => Poll::Ready(Ok(true)),
                    ready => ready,
                }
            }
            _ => self.poll_body(output, cx),
        }
    }

    /// Whether the head of the answer was written.
    pub(super) fn is_answered(&self) -> bool {
        !matches!(self.state, State::Asking(_))
    }

    fn answered(&mut self, forwarded: Forwarded, out: (&mut Vec<u8>, bool)) {
        match forwarded {
            Ok((server, Answer::Wire(incoming)))
                if incoming.head().status != StatusCode::SWITCHING_PROTOCOLS =>
            {
                self.server = Some(server);
                self.pass_back(incoming, out);
            }
            // Nobody asked for another protocol, or a service in this process.
            Ok(_) => self.refused(Refusal::Failed(Cause::Broken), out),
            Err(refusal) => self.refused(refusal, out),
        }
    }

    fn pass_back(&mut self, mut incoming: Incoming, out: (&mut Vec<u8>, bool)) {
        let head = incoming.head();
        self.status = head.status.as_u16();
        let is_events = onward::answer(incoming.bytes(), &self.asked, out);
        incoming.begin();
        let coding = match head.framing {
            Framing::Nothing | Framing::Length(_) => Coding::Plain,
            Framing::Chunked | Framing::Close => Coding::Chunked,
        };
        self.state = State::Come(Box::new(incoming), coding, is_events);
    }

    fn refused(&mut self, refusal: Refusal, out: (&mut Vec<u8>, bool)) {
        self.edge.stats().refused.add(1);
        let retry_after_s = self.edge.inner.config.retry_after_s;
        self.page(pages::refused(refusal, retry_after_s, self.asked.id()), out);
    }

    fn page(&mut self, response: Response<Body>, out: (&mut Vec<u8>, bool)) {
        let (mut parts, body) = response.into_parts();
        if let Ok(id) = HeaderValue::from_str(self.asked.id()) {
            parts.headers.entry(head::X_REQUEST_ID).or_insert(id);
        }
        self.status = parts.status.as_u16();
        let length = body.size_hint().exact();
        onward::page((parts.status, &parts.headers), (&self.asked, length), out);
        let coding = if length.is_some() { Coding::Plain } else { Coding::Chunked };
        self.state = State::Flowing(body, coding);
    }

    fn poll_body(
        &mut self,
        output: &mut Output,
        cx: &mut Context<'_>,
    ) -> Poll<Result<bool, BoxError>> {
        let (data, is_over, coding) = match &mut self.state {
            State::Come(incoming, coding, is_events) => {
                let (coding, is_events) = (*coding, *is_events);
                let next = incoming.poll_frame(cx);
                let is_over = incoming.is_over();
                match next {
                    Poll::Ready(next) => (next, is_over, coding),
                    Poll::Pending => {
                        let State::Come(incoming, ..) =
                            std::mem::replace(&mut self.state, State::Over)
                        else {
                            return Poll::Ready(Ok(false));
                        };
                        let body = self.edge.unless_stuck(is_events, Body::answer(incoming));
                        self.state = State::Flowing(body, coding);
                        // The waiting begins anew, with a limit.
                        return self.poll_body(output, cx);
                    }
                }
            }
            State::Flowing(body, coding) => {
                let next = match body.is_end_stream() {
                    true => None,
                    false => ready!(Pin::new(&mut *body).poll_frame(cx)),
                };
                (next, body.is_end_stream(), *coding)
            }
            State::Asking(_) | State::Over => return Poll::Ready(Ok(false)),
        };
        // Trailers would have had to be announced.
        let is_over = is_over || data.is_none();
        let data = data.transpose()?.and_then(|frame| frame.into_data().ok());
        if let Some(data) = data.filter(|data| !data.is_empty()) {
            self.sent_bytes += data.len() as u64;
            match coding {
                Coding::Plain if data.len() > SMALL => output.body = data,
                Coding::Plain => output.head.extend_from_slice(&data),
                Coding::Chunked => {
                    // Writing to memory does not fail.
                    let _ = write!(output.head, "{:x}\r\n", data.len());
                    output.head.extend_from_slice(&data);
                    output.head.extend_from_slice(b"\r\n");
                }
            }
        }
        if !is_over {
            return Poll::Ready(Ok(true));
        }
        if coding == Coding::Chunked {
            output.head.extend_from_slice(b"0\r\n\r\n");
        }
        self.state = State::Over;
        self.end(true);
        Poll::Ready(Ok(false))
    }

    /// Counts and logs it, once.
    fn end(&mut self, is_whole: bool) {
        let Some(held) = self.held.take() else { return };
        let edge = &self.edge;
        let took = edge.clock().elapsed().saturating_sub(self.started);
        let outcome = if self.server.is_some() { Outcome::Pass.as_str() } else { "none" };
        let (stats, bytes) = (edge.stats(), self.sent_bytes);
        stats.answered(outcome, self.status, bytes, took);
        self.group.count(Outcome::Pass, bytes);
        drop(held);
        let Some(log) = edge.log() else { return };
        let asked = &self.asked;
        let line = Line {
            time_ms: asked.time_ms,
            id: asked.id(),
            client: &self.client,
            method: "GET",
            host: asked.text(&asked.host),
            target: asked.text(&asked.target),
            status: self.status,
            bytes,
            took_us: log::micros(took),
            cache: outcome,
            server: self.server.as_ref().map(|server| server.name.as_str()),
            broken: !is_whole,
        };
        if !log.write(&line) {
            stats.lost_lines.add(1);
        }
    }
}

impl Drop for Errand {
    fn drop(&mut self) {
        self.end(false);
    }
}

impl Asked {
    fn text(&self, part: &Range<usize>) -> &str {
        std::str::from_utf8(&self.head[part.clone()]).unwrap_or_default()
    }

    fn id(&self) -> &str {
        std::str::from_utf8(&self.id).unwrap_or_default()
    }
}

async fn forward(
    edge: Edge,
    mut message: Message,
    (key, started): (String, Duration),
) -> Forwarded {
    edge.forward(&mut message, &key, started).await
}
