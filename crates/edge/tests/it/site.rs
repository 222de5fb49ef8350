//! A cache with a clock moved by hand, and an origin that is a closure.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use throng_core::{Clock, clock::Hand};
use throng_edge::cache::{
    Answered, Cache, Fetch, Filling, Outcome, Policy, Question, Served, Step, Stored,
};

/// 2023-11-14 22:13:20 UTC.
pub(crate) const START_MS: i64 = 1_700_000_000_000;

pub(crate) struct Site {
    pub(crate) cache: Cache,
    pub(crate) hand: Hand,
}

/// What the origin says: status, fields, body.
pub(crate) type Said = (u16, Vec<(&'static str, String)>, &'static str);

/// What a visitor gets.
#[derive(Debug)]
pub(crate) struct Got {
    pub(crate) outcome: Outcome,
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// How often the origin was asked for it, behind the visitor's back too.
    pub(crate) asked: Vec<HeaderMap>,
}

impl Got {
    pub(crate) fn field(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

impl Site {
    pub(crate) fn new(policy: Policy) -> Self {
        let (clock, hand) = Clock::manual(START_MS);
        Self { cache: Cache::new(policy, clock, 64 << 20), hand }
    }

    pub(crate) fn wait(&self, ms: u64) {
        self.hand.advance(Duration::from_millis(ms));
    }

    pub(crate) fn question(
        &self,
        method: &str,
        target: &str,
        fields: &[(&str, &str)],
    ) -> Arc<Question> {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            headers.append(name, HeaderValue::from_str(value).unwrap());
        }
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let target = target.parse().unwrap();
        Arc::new(Question::new(self.cache.policy(), "example.org", method, target, headers))
    }

    /// A GET without anything special.
    pub(crate) fn get(&self, target: &str, origin: impl Fn() -> Option<Said>) -> Got {
        self.ask("GET", target, &[], |_| origin())
    }

    /// One request, whose origin answers at once, or not at all for `None`.
    pub(crate) fn ask(
        &self,
        method: &str,
        target: &str,
        fields: &[(&str, &str)],
        origin: impl Fn(&HeaderMap) -> Option<Said>,
    ) -> Got {
        let question = self.question(method, target, fields);
        let mut asked = Vec::new();
        match self.cache.ask(&question, false) {
            Step::Serve(served) => got(served, asked),
            Step::Refresh(served, fetch) => {
                let _ = run(fetch, &origin, &mut asked);
                got(served, asked)
            }
            Step::Fetch(fetch) => match run(fetch, &origin, &mut asked) {
                Some(Ok(served)) => got(served, asked),
                Some(Err((status, headers, body))) => {
                    Got { outcome: Outcome::Miss, status, headers, body, asked }
                }
                None => nothing(502, asked),
            },
            Step::Pass(pass) => {
                asked.push(pass.headers());
                let Some(said) = origin(&asked[0]) else { return nothing(502, asked) };
                let (status, mut headers, body) = message(said);
                if let Some((served, filling)) = pass.answered(status, &mut headers) {
                    fill(filling, &body);
                    return got(served, asked);
                }
                Got { outcome: Outcome::Pass, status: status.as_u16(), headers, body, asked }
            }
            Step::OnlyIfCached => nothing(504, asked),
            Step::Wait(_) => panic!("nobody else is asking"),
        }
    }
}

type Forwarded = (u16, HeaderMap, Bytes);

fn run(
    fetch: Fetch,
    origin: &impl Fn(&HeaderMap) -> Option<Said>,
    asked: &mut Vec<HeaderMap>,
) -> Option<Result<Served, Forwarded>> {
    asked.push(fetch.headers());
    let Some(said) = origin(asked.last().unwrap()) else { return fetch.failed().map(Ok) };
    let (status, headers, body) = message(said);
    Some(match fetch.answered(status, headers) {
        Answered::Again(fetch) => return run(fetch, origin, asked),
        Answered::Serve(served) => Ok(served),
        Answered::Forward(headers) => Err((status.as_u16(), headers, body)),
        Answered::Fill(served, filling) => {
            fill(filling, &body);
            Ok(served)
        }
    })
}

/// In two pieces, as bodies come.
fn fill(mut filling: Filling, body: &Bytes) {
    filling.push(body.slice(..body.len() / 2));
    filling.push(body.slice(body.len() / 2..));
    filling.finish();
}

pub(crate) fn message((status, fields, body): Said) -> (StatusCode, HeaderMap, Bytes) {
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        headers.append(HeaderName::from_static(name), HeaderValue::from_str(&value).unwrap());
    }
    (StatusCode::from_u16(status).unwrap(), headers, Bytes::from_static(body.as_bytes()))
}

/// All of a body; `None` when it broke off.
pub(crate) fn read(body: Stored) -> Option<Bytes> {
    match body {
        Stored::Whole(bytes) => Some(bytes),
        Stored::Runs(runs) => Some(runs.concat().into()),
        Stored::Coming(mut reader) => {
            let mut all = Vec::new();
            let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
            loop {
                match std::pin::Pin::new(&mut reader).poll_next(&mut cx) {
                    std::task::Poll::Ready(Some(Ok(bytes))) => all.extend_from_slice(&bytes),
                    std::task::Poll::Ready(Some(Err(_))) => return None,
                    std::task::Poll::Ready(None) => return Some(all.into()),
                    std::task::Poll::Pending => panic!("the body has not ended"),
                }
            }
        }
    }
}

fn got(served: Served, asked: Vec<HeaderMap>) -> Got {
    let Served { status, headers, body, outcome, .. } = served;
    let body = read(body).expect("a whole body");
    Got { outcome, status: status.as_u16(), headers, body, asked }
}

fn nothing(status: u16, asked: Vec<HeaderMap>) -> Got {
    let (headers, body) = (HeaderMap::new(), Bytes::new());
    Got { outcome: Outcome::Miss, status, headers, body, asked }
}

/// A page with these fields.
pub(crate) fn page(fields: &[(&'static str, &str)]) -> Option<Said> {
    let fields = fields.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
    Some((200, fields, "0123456789"))
}

/// A page that is fresh for a minute.
pub(crate) fn minute() -> Option<Said> {
    page(&[("cache-control", "max-age=60")])
}

pub(crate) fn date(unix_ms: i64) -> String {
    let since = Duration::from_millis(unix_ms as u64);
    httpdate::fmt_http_date(std::time::UNIX_EPOCH + since)
}

pub(crate) const CACHE_CONTROL: &str = "cache-control";
