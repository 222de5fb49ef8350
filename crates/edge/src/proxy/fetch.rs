//! Fetches for the cache, which go on when the visitor who caused them has left.

use http::{Extensions, HeaderMap, Response, header};
use http_body::Body as _;
use http_body_util::BodyExt;
use tokio::sync::oneshot;

use super::{Edge, answer::answer, send::Refusal};
use crate::{
    Body,
    cache::{self, Answered, Fetch, Filling, Outcome, Served},
    limit::Limited,
    upstream::Message,
};

impl Edge {
    /// Fetches, and answers as soon as there is a head.
    pub(super) async fn fetch(
        &self,
        fetch: Fetch,
        extensions: Extensions,
    ) -> Result<Response<Body>, Refusal> {
        let (tell, told) = oneshot::channel();
        let edge = self.clone();
        self.inner.tasks.spawn(async move {
            let filling = edge.exchange(fetch, extensions, |told| drop(tell.send(told))).await;
            if let Some((body, filling)) = filling {
                edge.fill(body, filling).await;
            }
        });
        // The task tells in every case, except when it is stopped with the edge.
        told.await.unwrap_or(Err(Refusal::Stopping))
    }

    /// Fetches for nobody in particular.
    pub(super) async fn refresh(&self, fetch: Fetch) {
        let filling = self.exchange(fetch, Extensions::new(), drop).await;
        if let Some((body, filling)) = filling {
            self.fill(body, filling).await;
        }
    }

    /// Answers with what others are to get as well, and stores it while it comes.
    pub(super) fn keep(
        &self,
        served: Served,
        filling: Filling,
        (extensions, body): (Extensions, Body),
    ) -> Response<Body> {
        let edge = self.clone();
        self.inner.tasks.spawn(async move { edge.fill(body, filling).await });
        let mut response = answer(served);
        response.extensions_mut().extend(extensions);
        response
    }

    async fn exchange(
        &self,
        mut fetch: Fetch,
        mut extensions: Extensions,
        tell: impl FnOnce(Result<Response<Body>, Refusal>),
    ) -> Option<(Body, Filling)> {
        if let Some(disk) = self.inner.disk.as_ref().filter(|_| fetch.is_cold())
            && let Some(kept) = disk.find(fetch.question()).await
            && let Some(served) = fetch.restored(kept)
        {
            tell(Ok(answer(served)));
            return None;
        }
        loop {
            let question = fetch.question();
            let head = (question.uri().clone(), fetch.headers());
            let method = question.method().clone();
            let extensions = match fetch.may_ask_again() {
                true => extensions.clone(),
                false => std::mem::take(&mut extensions),
            };
            let message = Message::new(method, head, Body::empty(), extensions);
            let response = match self.send(message, question.key()).await {
                Ok(response) => response,
                Err(refusal) => {
                    tell(fetch.failed().map(answer).ok_or(refusal));
                    return None;
                }
            };
            let (mut parts, body) = response.into_parts();
            cache::strip_hop(&mut parts.headers);
            match fetch.answered(parts.status, std::mem::take(&mut parts.headers)) {
                Answered::Fill(served, filling) => {
                    let mut response = answer(served);
                    response.extensions_mut().extend(parts.extensions);
                    tell(Ok(response));
                    return Some((body, filling));
                }
                Answered::Serve(served) => {
                    tell(Ok(answer(served)));
                    return None;
                }
                Answered::Forward(headers) => {
                    parts.headers = headers;
                    parts.extensions.insert(Outcome::Miss);
                    let body = self.patient(&parts.headers, body);
                    tell(Ok(Response::from_parts(parts, body)));
                    return None;
                }
                Answered::Again(again) => fetch = again,
            }
        }
    }

    /// Puts a body into the store, no faster than it may.
    async fn fill(&self, body: Body, mut filling: Filling) {
        let mut body = self.patient(&HeaderMap::new(), body);
        loop {
            if filling.room().await.is_err() {
                return; // nobody reads what is not kept
            }
            match body.frame().await {
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        filling.push(data);
                    }
                }
                Some(Err(error)) => {
                    tracing::debug!("the body of an answer broke off: {error}");
                    return;
                }
                None => return filling.finish(),
            }
        }
    }

    /// The body of an answer with these fields. It must not rest for too long, unless it is a stream
    /// of events.
    pub(super) fn patient(&self, headers: &HeaderMap, body: Body) -> Body {
        let kind = headers.get(header::CONTENT_TYPE);
        self.unless_stuck(kind.is_some_and(|kind| is_events(kind.as_bytes())), body)
    }

    /// As [`patient`](Self::patient), where it is known whether it is a stream of events.
    pub(super) fn unless_stuck(&self, is_events: bool, body: Body) -> Body {
        if is_events || body.is_end_stream() {
            return body;
        }
        let timeout_ms = self.inner.config.body_timeout_ms;
        Body::new(Limited::new(body, u64::MAX, &self.inner.clock, timeout_ms))
    }
}

/// Whether a body of this Content-Type rests for as long as it likes.
pub(super) fn is_events(kind: &[u8]) -> bool {
    let events = b"text/event-stream";
    kind.get(..events.len()).is_some_and(|start| start.eq_ignore_ascii_case(events))
}
