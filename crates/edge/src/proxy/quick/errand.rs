//! One request that is not for the cache, from its head to the end of its answer: passed on as it
//! came, and its answer passed back, without hyper on either side.

use std::{
    io::Write,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use http::{HeaderValue, Method, Response, StatusCode};
use http_body::Body as HttpBody;

use super::{Output, SMALL, asked::Asked, onward, turn::UnderWay};
use crate::{
    Balance, Body, Edge,
    body::BoxError,
    cache::{Group, Outcome},
    client,
    interim::{Interims, Teller},
    log::{self, Line},
    proxy::{
        head, pages,
        send::{Forwarded, Refusal, Round, is_bad},
    },
    upstream::{
        Answer, Attempt, Cause, Framing, Head, Incoming, Lease, Limit, Message, Sending, Server,
        Settled, Trouble, UNREAD, Wanted, parse_head,
    },
};

/// A request under way.
pub(super) struct Errand {
    edge: Edge,
    asked: Asked,
    client: Arc<str>,
    state: State,
    started: Duration,
    /// When the head of the answer came.
    answered: Duration,
    status: u16,
    sent_bytes: u64,
    server: Option<Arc<Server>>,
    group: Arc<Group>,
    /// Until the answer is over.
    held: Option<(client::Pass, UnderWay)>,
    interims: Interims,
    teller: Teller,
}

#[expect(clippy::large_enum_variant, reason = "the largest is the usual one")]
enum State {
    /// On its way over a connection that was at rest: so it is nearly always.
    Trying(Attempt, Round),
    /// Anything else that may have to be done for an answer.
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
        let round = match edge.inner.config.balance {
            Balance::Consistent => {
                let host = asked.text(&asked.host).to_ascii_lowercase();
                edge.round(&[&host, target].concat(), started)
            }
            _ => edge.round("", started),
        };
        let mut errand = Self {
            edge: edge.clone(),
            asked,
            client: Arc::clone(client),
            state: State::Over,
            started,
            answered: started,
            status: 0,
            sent_bytes: 0,
            server: None,
            group,
            held: Some(held),
            interims: interims.clone(),
            teller: interims.open(),
        };
        errand.state = errand.begin(round);
        errand
    }

    fn begin(&self, round: Round) -> State {
        let Some(lease) = self.edge.free(&round) else { return self.ask(round, None) };
        let connection = lease.server().rested(true, round.now);
        let place = (lease, Limit::new(&self.edge.inner.config, round.now));
        let Some(connection) = connection else { return self.ask(round, Some(place)) };
        let sending = Sending::written(self.asked.head.clone());
        let wanted = Wanted::telling(self.teller.clone());
        State::Trying(Attempt::rested(connection, place, (sending, wanted)), round)
    }

    fn ask(&self, round: Round, begun: Option<(Lease, Limit)>) -> State {
        let message = Message::written(Method::GET, self.asked.head.clone());
        let mut message = message.telling(self.teller.clone());
        let edge = self.edge.clone();
        let forwarded = async move { edge.forward(&mut message, round, begun).await };
        State::Asking(Box::pin(forwarded))
    }

    /// Puts the next of the answer into `output`; ready with false at its end. `is_last` when the
    /// connection ends with it.
    pub(super) fn poll(
        &mut self,
        output: &mut Output,
        is_last: bool,
        cx: &mut Context<'_>,
    ) -> Poll<Result<bool, BoxError>> {
        if let State::Trying(attempt, _) = &mut self.state {
            let (asked, interims) = (&self.asked, &self.interims);
            let mut written = None;
            let come = attempt.poll(cx, |head, fields| {
                interims.take(&mut output.head);
                if may_pass(head.status) {
                    let out = (&mut output.head, is_last);
                    written = Some(onward::answer((head, fields), asked, out));
                }
            });
            match come {
                Poll::Ready(come) => return self.tried(come, written, (output, is_last, cx)),
                Poll::Pending if !attempt.has_interims() => return Poll::Pending,
                Poll::Pending => return self.told(output, cx),
            }
        }
        if let State::Asking(forwarded) = &mut self.state {
            let Poll::Ready(forwarded) = forwarded.as_mut().poll(cx) else {
                return self.told(output, cx);
            };
            self.answered = self.edge.clock().elapsed();
            return self.pass_on(forwarded, None, (output, is_last, cx));
        }
        self.poll_body(output, cx)
    }

    /// Nothing more has come than interim answers, if any.
    fn told(&self, output: &mut Output, cx: &mut Context<'_>) -> Poll<Result<bool, BoxError>> {
        self.interims.take_all(&mut output.head, cx.waker());
        match output.head.is_empty() {
            true => Poll::Pending,
            false => Poll::Ready(Ok(true)),
        }
    }

    /// Whether the head of the answer was written.
    pub(super) fn is_answered(&self) -> bool {
        !matches!(self.state, State::Trying(..) | State::Asking(_))
    }

    /// The attempt is over. `written` when the head of its answer is in the output.
    fn tried(
        &mut self,
        come: Result<Head, Trouble>,
        written: Option<bool>,
        (output, is_last, cx): (&mut Output, bool, &mut Context<'_>),
    ) -> Poll<Result<bool, BoxError>> {
        let State::Trying(attempt, mut round) = std::mem::replace(&mut self.state, State::Over)
        else {
            return Poll::Ready(Ok(false));
        };
        let server = Arc::clone(attempt.server());
        let limit = attempt.limit();
        let result = match attempt.settle(come) {
            Settled::Answered(incoming) => Ok(Answer::Wire(incoming)),
            Settled::Failed(failure, _) => Err(failure),
            Settled::Anew(lease, _) => {
                self.state = self.ask(round, Some((lease, limit)));
                return self.poll(output, is_last, cx);
            }
        };
        let judged = self.edge.judge(&mut round, GET, (server, result));
        self.answered = round.now;
        match judged {
            Some(forwarded) => self.pass_on(forwarded, written, (output, is_last, cx)),
            None => {
                self.state = self.ask(round, None);
                self.poll(output, is_last, cx)
            }
        }
    }

    /// What has come with the head leaves with it.
    fn pass_on(
        &mut self,
        forwarded: Forwarded,
        written: Option<bool>,
        (output, is_last, cx): (&mut Output, bool, &mut Context<'_>),
    ) -> Poll<Result<bool, BoxError>> {
        if written.is_none() {
            self.interims.take(&mut output.head);
        }
        self.interims.close();
        let out = (&mut output.head, is_last);
        match forwarded {
            Ok((server, Answer::Wire(incoming)))
                if incoming.head().status != StatusCode::SWITCHING_PROTOCOLS =>
            {
                self.server = Some(server);
                self.pass_back(incoming, written, out);
            }
            // Nobody asked for another protocol, or a service in this process.
            Ok(_) => self.refused(Refusal::Failed(Cause::Broken), out),
            Err(refusal) => self.refused(refusal, out),
        }
        match self.poll_body(output, cx) {
            Poll::Pending => Poll::Ready(Ok(true)),
            ready => ready,
        }
    }

    fn pass_back(
        &mut self,
        mut incoming: Incoming,
        written: Option<bool>,
        (out, is_last): (&mut Vec<u8>, bool),
    ) {
        let head = incoming.head();
        self.status = head.status.as_u16();
        let is_events = written.unwrap_or_else(|| {
            let mut room = UNREAD;
            // It was read before.
            let read = parse_head(incoming.bytes(), &mut room, false).ok().flatten();
            read.is_some_and(|read| onward::answer(read, &self.asked, (out, is_last)))
        });
        incoming.begin();
        let coding = match head.framing {
            Framing::Nothing | Framing::Length(_) => Coding::Plain,
            Framing::Chunked | Framing::Close => Coding::Chunked,
        };
        if let Some(length) = incoming.take_whole(SMALL, out) {
            self.sent_bytes = length as u64;
            self.state = State::Over;
            return self.end(true, self.answered);
        }
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
            State::Trying(..) | State::Asking(_) | State::Over => return Poll::Ready(Ok(false)),
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
        self.end(true, self.edge.clock().elapsed());
        Poll::Ready(Ok(false))
    }

    /// Counts and logs it, once.
    fn end(&mut self, is_whole: bool, now: Duration) {
        let Some((pass, under_way)) = self.held.take() else { return };
        let edge = &self.edge;
        let took = now.saturating_sub(self.started);
        let outcome = if self.server.is_some() { Outcome::Pass.as_str() } else { "none" };
        let (stats, bytes) = (edge.stats(), self.sent_bytes);
        stats.answered(outcome, self.status, bytes, took);
        self.group.count(Outcome::Pass, bytes);
        drop(pass);
        under_way.end(now);
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
        if self.held.is_some() {
            self.end(false, self.edge.clock().elapsed());
        }
    }
}

/// Whether an answer with this status is passed back whoever else could be asked.
fn may_pass(status: StatusCode) -> bool {
    status != StatusCode::SWITCHING_PROTOCOLS && !is_bad(status)
}

/// It is read only, and may be sent again.
const GET: (bool, bool) = (true, true);
