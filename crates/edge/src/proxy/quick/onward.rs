//! The heads of an errand: what the back end is asked, and what the visitor is answered.

use std::io::Write;

use bytes::Bytes;
use http::{HeaderMap, StatusCode, header};
use httparse::Header;

use super::asked::Asked;
use crate::{
    cache::{self, Passed, date},
    peer,
    proxy::fetch,
    upstream::{Framing, Head},
};

/// What the edge tells back ends about the visitors of one connection.
#[derive(Debug)]
pub(super) struct Introduction {
    /// Fields that are the same for each request.
    fields: String,
    node: String,
    scheme: &'static str,
}

impl Introduction {
    pub(super) fn new(client: std::net::IpAddr, scheme: &'static str) -> Self {
        let fields = format!(
            "x-forwarded-for: {}\r\nx-forwarded-proto: {scheme}\r\nvia: 1.1 throng\r\n\
             surrogate-capability: {}\r\n",
            client.to_canonical(),
            cache::CAPABILITY,
        );
        Self { fields, node: peer::node(client), scheme }
    }

    /// The request for `target` as it goes to the back end.
    pub(super) fn ask(
        &self,
        (target, fields): (&str, &[Header<'_>]),
        passed: Passed<'_>,
        (id, time_ms): ([u8; 16], i64),
    ) -> Asked {
        let length: usize =
            fields.iter().map(|field| field.name.len() + field.value.len() + 4).sum();
        let more = target.len() + self.fields.len() + 2 * passed.host.len() + self.node.len();
        let mut head = Vec::with_capacity(length + more + 160);
        head.extend_from_slice(b"GET ");
        head.extend_from_slice(target.as_bytes());
        head.extend_from_slice(b" HTTP/1.1\r\nhost: ");
        let host = head.len()..head.len() + passed.host.len();
        head.extend_from_slice(passed.host.as_bytes());
        head.extend_from_slice(b"\r\n");
        for field in fields.iter().filter(|field| goes_on(field.name)) {
            add(&mut head, field.name.as_bytes(), field.value);
        }
        head.extend_from_slice(self.fields.as_bytes());
        add(&mut head, b"x-forwarded-host", passed.host.as_bytes());
        for part in ["forwarded: for=", &self.node, ";host=\"", passed.host, "\";proto="] {
            head.extend_from_slice(part.as_bytes());
        }
        head.extend_from_slice(self.scheme.as_bytes());
        head.extend_from_slice(b"\r\n");
        add(&mut head, b"x-request-id", &id);
        head.extend_from_slice(b"\r\n");
        let target = GET..GET + target.len();
        Asked { head: Bytes::from(head), target, host, id, time_ms, detail: passed.detail }
    }
}

/// Whether a field of the request is for the back end. A peer that is believed never comes here.
fn goes_on(name: &str) -> bool {
    let is = |other: &str| name.eq_ignore_ascii_case(other);
    let is_known = match name.len() {
        2 => is("te"),
        4 => is("host"),
        10 => is("connection") || is("keep-alive"),
        12 => is("x-request-id"),
        16 => is("proxy-connection"),
        18 => is("proxy-authenticate"),
        19 => is("proxy-authorization"),
        20 => is("surrogate-capability"),
        25 => is("proxy-authentication-info"),
        _ => false,
    };
    !is_known && !peer::is_claim(name)
}

/// Writes an answer with this head, and says whether it is a stream of events.
pub(super) fn answer(
    (head, fields): (Head, &[Header<'_>]),
    asked: &Asked,
    (out, is_last): (&mut Vec<u8>, bool),
) -> bool {
    let is = |field: &Header<'_>, name: &str| field.name.eq_ignore_ascii_case(name);
    let named = fields.iter().filter(|field| is(field, "connection")).map(|field| field.value);
    let named: Vec<&[u8]> = named.filter(|value| !is_usual(value)).collect();
    let (mut is_events, mut has_date, mut has_id) = (false, false, false);
    begin(out, head.status);
    for field in fields.iter().filter(|field| !stays(field.name, &named)) {
        match field.name.len() {
            4 => has_date |= is(field, "date"),
            12 if is(field, "content-type") => is_events |= fetch::is_events(field.value),
            12 => has_id |= is(field, "x-request-id"),
            14 if head.status == StatusCode::NO_CONTENT && is(field, "content-length") => continue,
            _ => {}
        }
        add(out, field.name.as_bytes(), field.value);
    }
    if !has_date {
        add(out, b"date", date::text(asked.time_ms).as_bytes());
    }
    if !has_id {
        add(out, b"x-request-id", &asked.id);
    }
    if matches!(head.framing, Framing::Chunked | Framing::Close) {
        out.extend_from_slice(CHUNKED);
    }
    end(out, asked, (head.status, is_last));
    is_events
}

/// As [`answer`], of a page that the edge made itself, whose body has `length` bytes.
pub(super) fn page(
    (status, headers): (StatusCode, &HeaderMap),
    (asked, length): (&Asked, Option<u64>),
    (out, is_last): (&mut Vec<u8>, bool),
) {
    begin(out, status);
    let framed = [header::CONTENT_LENGTH, header::TRANSFER_ENCODING, header::CONNECTION];
    for (name, value) in headers.iter().filter(|(name, _)| !framed.contains(name)) {
        add(out, name.as_str().as_bytes(), value.as_bytes());
    }
    if !headers.contains_key(header::DATE) {
        add(out, b"date", date::text(asked.time_ms).as_bytes());
    }
    match length {
        Some(length) => add(out, b"content-length", length.to_string().as_bytes()),
        None => out.extend_from_slice(CHUNKED),
    }
    if is_last {
        out.extend_from_slice(CLOSE);
    }
    out.extend_from_slice(b"\r\n");
}

fn begin(out: &mut Vec<u8>, status: StatusCode) {
    match status {
        StatusCode::OK => out.extend_from_slice(b"HTTP/1.1 200 OK\r\n"),
        status => {
            let reason = status.canonical_reason().unwrap_or_default();
            // Writing to memory does not fail.
            let _ = write!(out, "HTTP/1.1 {} {reason}\r\n", status.as_u16());
        }
    }
}

fn end(out: &mut Vec<u8>, asked: &Asked, (status, is_last): (StatusCode, bool)) {
    let detail = asked.detail;
    for part in ["cache-status: throng; fwd=bypass; fwd-status=", status.as_str(), "; detail="] {
        out.extend_from_slice(part.as_bytes());
    }
    out.extend_from_slice(detail.as_bytes());
    out.extend_from_slice(b"\r\n");
    if is_last {
        out.extend_from_slice(CLOSE);
    }
    out.extend_from_slice(b"\r\n");
}

/// Whether a field of the answer is not for visitors. `named` are the Connection fields that name
/// others.
fn stays(name: &str, named: &[&[u8]]) -> bool {
    let is = |other: &str| name.eq_ignore_ascii_case(other);
    let is_known = match name.len() {
        2 => is("te"),
        7 => is("trailer") || is("upgrade"),
        9 => is("cache-tag"),
        10 => is("connection") || is("keep-alive"),
        13 => is("surrogate-key"),
        16 => is("proxy-connection"),
        17 => is("surrogate-control") || is("transfer-encoding"),
        18 => is("proxy-authenticate"),
        19 => is("proxy-authorization"),
        25 => is("proxy-authentication-info"),
        _ => false,
    };
    is_known
        || !named.is_empty() && !is("content-length") && named.iter().any(|list| has(list, name))
}

fn has(list: &[u8], name: &str) -> bool {
    let mut all = list.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
    all.any(|one| one.eq_ignore_ascii_case(name.as_bytes()))
}

/// Whether a Connection field speaks of the connection alone.
fn is_usual(value: &[u8]) -> bool {
    value.eq_ignore_ascii_case(b"keep-alive") || value.eq_ignore_ascii_case(b"close")
}

fn add(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    for part in [name, b": ", value, b"\r\n"] {
        out.extend_from_slice(part);
    }
}

const GET: usize = "GET ".len();
const CHUNKED: &[u8] = b"transfer-encoding: chunked\r\n";
const CLOSE: &[u8] = b"connection: close\r\n";
