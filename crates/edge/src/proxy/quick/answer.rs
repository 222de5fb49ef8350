//! One head: answered from memory, or told how much of the connection it is.

use std::{mem::MaybeUninit, net::IpAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use httparse::{Header, Request, Status};

use super::{Output, SMALL, Turn, errand::Errand, onward::Introduction};
use crate::{
    cache::{Glance, Memo, Outcome},
    log::{self, Line},
    peer,
    proxy::Edge,
};

/// What is at the beginning of the input.
pub(super) enum Head {
    /// A request of this many bytes that is answered.
    Answered(usize),
    /// A request of this many bytes that is passed on.
    Passed(usize, Box<Errand>),
    /// A request of this many bytes, and no body after it.
    Whole(usize),
    /// The beginning of a head.
    Partial,
    /// Anything else: a request with a body, another protocol, nonsense.
    Other,
}

/// What is known of a connection from request to request.
#[derive(Debug)]
pub(super) struct Memory {
    edge: Edge,
    client: IpAddr,
    client_text: Arc<str>,
    introduction: Introduction,
    /// Whether it speaks for others, who are to be believed.
    is_trusted: bool,
    memo: Memo,
    /// When the last request was answered.
    pub(super) now: Duration,
}

impl Memory {
    pub(super) fn new(edge: &Edge, client: IpAddr, scheme: &'static str) -> Self {
        let mut trusted = edge.inner.config.trusted_peers.iter();
        Self {
            edge: edge.clone(),
            client,
            client_text: client.to_string().into(),
            introduction: Introduction::new(client, scheme),
            is_trusted: trusted.any(|network| network.contains(client)),
            memo: Memo::default(),
            now: Duration::ZERO,
        }
    }

    /// Reads the head at the beginning of `input`, and writes its answer where there is one.
    pub(super) fn read(&mut self, input: &[u8], output: &mut Output, turn: &Turn) -> Head {
        let mut fields = [const { MaybeUninit::uninit() }; MOST_FIELDS];
        let mut request = Request::new(&mut []);
        let length = match request.parse_with_uninit_headers(input, &mut fields) {
            Ok(Status::Complete(length)) => length,
            Ok(Status::Partial) => return Head::Partial,
            Err(_) => return Head::Other,
        };
        let Request { method: Some(method), path: Some(target), version, headers } = request else {
            return Head::Other;
        };
        if method == "CONNECT" || headers.iter().any(has_more) {
            return Head::Other;
        }
        let is_read = version == Some(1) && (method == "GET" || method == "HEAD");
        if !is_read {
            return Head::Whole(length);
        }
        let now = self.edge.inner.clock.elapsed();
        if self.answer((method, target), (headers, now), output).is_some() {
            return Head::Answered(length);
        }
        if method == "GET" && length <= self.edge.inner.config.max_head_bytes {
            let errand = self.errand(target, (headers, now), turn);
            return errand
                .map_or(Head::Whole(length), |errand| Head::Passed(length, Box::new(errand)));
        }
        Head::Whole(length)
    }

    fn errand(
        &self,
        target: &str,
        (fields, now): (&[Header<'_>], Duration),
        turn: &Turn,
    ) -> Option<Errand> {
        let edge = &self.edge;
        let inner = &edge.inner;
        let passed = inner.cache.passes(Glance { target, fields })?;
        let is_claim = |field: &Header<'_>| speaks_for_others(field) || peer::is_claim(field.name);
        if fields.len() > inner.config.max_fields
            || self.is_trusted && fields.iter().any(is_claim)
            || target.starts_with(CHALLENGES)
            || !inner.fleet.is_remote()
        {
            return None;
        }
        // Who asks too much is told so in full.
        let pass = inner.clients.enter(self.client, now).ok()?;
        let mut id = [0; 16];
        edge.write_id(&mut id);
        let when = inner.clock.now_ms();
        let asked = self.introduction.ask((target, fields), passed, (id, when));
        let held = (pass, turn.begin());
        Some(Errand::new(edge, asked, (&self.client_text, now), held, turn.interims()))
    }

    fn answer(
        &mut self,
        (method, target): (&str, &str),
        (fields, now): (&[Header<'_>], Duration),
        output: &mut Output,
    ) -> Option<()> {
        let edge = &self.edge;
        if self.is_trusted && fields.iter().any(speaks_for_others) {
            return None;
        }
        let ready = edge.inner.cache.glance(Glance { target, fields }, &mut self.memo, now)?;
        // Who asks too much is told so in full.
        let _pass = edge.inner.clients.enter(self.client, now).ok()?;
        let mut hex = [0; 16];
        let id = edge.write_id(&mut hex);
        ready.write_head(&mut output.head, id);
        let body = if method == "HEAD" { Bytes::new() } else { ready.body() };
        let bytes = body.len() as u64;
        match body.len() {
            0..=SMALL => output.head.extend_from_slice(&body),
            _ => output.body = body,
        }
        self.now = now;
        let took = edge.inner.clock.elapsed().saturating_sub(now);
        let (stats, status) = (edge.stats(), ready.status().as_u16());
        let cache = Outcome::Hit.as_str();
        stats.answered(cache, status, bytes, took);
        ready.count(bytes);
        if let Some(log) = edge.log() {
            let host = fields.iter().find(|field| field.name.eq_ignore_ascii_case("host"));
            let host = host.and_then(|host| std::str::from_utf8(host.value).ok());
            let line = Line {
                time_ms: edge.inner.clock.now_ms(),
                id,
                client: &self.client_text,
                method,
                host: host.unwrap_or_default(),
                target,
                status,
                bytes,
                took_us: log::micros(took),
                cache,
                server: None,
                broken: false,
            };
            if !log.write(&line) {
                stats.lost_lines.add(1);
            }
        }
        Some(())
    }
}

/// Whether more belongs to a request with this field than its head.
fn has_more(field: &Header<'_>) -> bool {
    let is = |name: &str| field.name.eq_ignore_ascii_case(name);
    match field.name.len() {
        6 => is("expect"),
        7 => is("upgrade"),
        14 => is("content-length"),
        17 => is("transfer-encoding"),
        _ => false,
    }
}

fn speaks_for_others(field: &Header<'_>) -> bool {
    let is = |name: &str| field.name.eq_ignore_ascii_case(name);
    is("x-forwarded-for") || is("forwarded") || is("x-request-id")
}

const MOST_FIELDS: usize = 48;
/// What an authority that certifies names may ask for.
const CHALLENGES: &str = "/.well-known/acme-challenge/";
