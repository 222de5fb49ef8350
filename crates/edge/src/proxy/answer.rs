//! From a request to its answer.

use std::{
    net::IpAddr,
    sync::{Arc, atomic::Ordering},
};

use http::{HeaderValue, Method, Request, Response, StatusCode, Version, header, request::Parts};
use http_body::Body as _;
use hyper::upgrade::OnUpgrade;

use super::{Edge, head, pages, send::Refusal, tunnel};
use crate::{
    Body,
    cache::{self, Outcome, Question, Served, Step, Woken},
    limit::Limited,
    peer::{self, Arrival},
    upstream::Message,
};

/// How a request came.
#[derive(Clone, Copy)]
pub(super) struct Came<'a> {
    pub(super) peer: IpAddr,
    pub(super) is_trusted: bool,
    pub(super) scheme: &'static str,
    pub(super) id: &'a str,
}

/// An extension of a request that has to be asked again over HTTPS, at this port.
#[derive(Clone, Copy, Debug)]
pub(super) struct AskOverHttps(pub(super) u16);

impl Edge {
    pub(super) async fn answer(&self, request: Request<Body>, came: Came<'_>) -> Response<Body> {
        let config = &self.inner.config;
        let host = match head::host(&request, config) {
            Ok(host) => host,
            Err(status) => {
                self.inner.stats.malformed.add(1);
                return pages::closing(status, came.id);
            }
        };
        #[cfg(feature = "acme")]
        if let Some(answer) = self.challenges().answer(request.uri().path()) {
            return pages::text(StatusCode::OK, answer);
        }
        if let Some(answer) = self.purge(&request, &host, came.id) {
            return answer;
        }
        if let Some(AskOverHttps(port)) = request.extensions().get() {
            return pages::over_https(&host, *port, request.uri());
        }
        let is_safe = [Method::GET, Method::HEAD, Method::OPTIONS].contains(request.method());
        if !is_safe && self.inner.is_read_only.load(Ordering::Relaxed) {
            return pages::read_only(config.retry_after_s, came.id);
        }
        let (mut parts, body) = request.into_parts();
        let upgrade = self.prepare(&mut parts, &host, came);
        let body = match body.is_end_stream() {
            true => body,
            false => {
                let (most, timeout_ms) = (config.max_body_bytes, config.body_timeout_ms);
                Body::new(Limited::new(body, most, &self.inner.clock, timeout_ms))
            }
        };
        match self.ask(parts, body, &host, upgrade).await {
            Ok(answer) => answer,
            Err(refusal) => {
                self.inner.stats.refused.add(1);
                pages::refused(refusal, config.retry_after_s, came.id)
            }
        }
    }

    /// Makes the head what the back end may see. Returns the visitor's side of an upgrade.
    fn prepare(&self, parts: &mut Parts, host: &str, came: Came<'_>) -> Option<OnUpgrade> {
        let wanted = head::upgrade(&parts.headers);
        cache::strip_hop(&mut parts.headers);
        head::join_cookies(&mut parts.headers);
        // It was the server's of this connection to heed, and it has.
        parts.headers.remove(header::EXPECT);
        let (peer, is_trusted, scheme) = (came.peer, came.is_trusted, came.scheme);
        peer::forward(&mut parts.headers, Arrival { peer, is_trusted, scheme, host });
        for (name, value) in [(header::HOST, host), (head::X_REQUEST_ID, came.id)] {
            if let Ok(value) = HeaderValue::from_str(value) {
                parts.headers.insert(name, value);
            }
        }
        let via = match parts.version {
            Version::HTTP_2 => "2.0 throng",
            Version::HTTP_10 => "1.0 throng",
            _ => "1.1 throng",
        };
        parts.headers.append(header::VIA, HeaderValue::from_static(via));
        let wanted = wanted?;
        parts.headers.insert(header::UPGRADE, wanted);
        parts.extensions.remove::<OnUpgrade>()
    }

    async fn ask(
        &self,
        parts: Parts,
        body: Body,
        host: &str,
        upgrade: Option<OnUpgrade>,
    ) -> Result<Response<Body>, Refusal> {
        let Parts { method, uri, headers, mut extensions, .. } = parts;
        let uri = head::origin_form(&uri);
        let policy = self.inner.cache.policy();
        let question = Arc::new(Question::new(policy, host, method, uri, headers));
        let mut has_waited = false;
        loop {
            match self.inner.cache.ask(&question, has_waited) {
                Step::Serve(served) => return Ok(answer(served)),
                Step::Refresh(served, fetch) => {
                    // Without a place, `fetch` ends here, and the next visitor tries.
                    if let Ok(place) = Arc::clone(&self.inner.refreshes).try_acquire_owned() {
                        let edge = self.clone();
                        self.inner.tasks.spawn(async move {
                            edge.refresh(fetch).await;
                            drop(place);
                        });
                    }
                    return Ok(answer(served));
                }
                // The back end answers whoever waits by then, also when this visitor has left.
                Step::Fetch(fetch) => return self.fetch(fetch, extensions).await,
                Step::Wait(wait) => match wait.over().await {
                    Woken::Again => has_waited = true,
                    Woken::Failed => return Err(Refusal::Collapsed),
                },
                Step::OnlyIfCached => return Err(Refusal::OnlyIfCached),
                Step::Pass(pass) => {
                    let mut headers = pass.headers();
                    if headers.contains_key(header::UPGRADE) {
                        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
                    }
                    if let Some(upgrade) = &upgrade {
                        // A service in this process takes the connection over itself.
                        extensions.insert(upgrade.clone());
                    }
                    let question = pass.question();
                    let head = (question.uri().clone(), headers);
                    let message = Message::new(question.method().clone(), head, body, extensions);
                    let mut response = self.send(message, question.key()).await?;
                    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
                        return Ok(tunnel::open(self, response, upgrade));
                    }
                    let status = response.status();
                    cache::strip_hop(response.headers_mut());
                    let kept = pass.answered(status, response.headers_mut());
                    response.extensions_mut().insert(Outcome::Pass);
                    let (parts, body) = response.into_parts();
                    if let Some((served, filling)) = kept {
                        return Ok(self.keep(served, filling, (parts.extensions, body)));
                    }
                    let body = self.patient(&parts.headers, body);
                    return Ok(Response::from_parts(parts, body));
                }
            }
        }
    }
}

/// What the cache serves, as a response.
pub(super) fn answer(served: Served) -> Response<Body> {
    let Served { status, headers, body, outcome, .. } = served;
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response.extensions_mut().insert(outcome);
    response
}
