//! Answers before the answer (102, 103), on their way from a back end to the visitor of HTTP/1.1 who
//! waits for it.

use std::{
    io::Write,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::Waker,
};

use http::StatusCode;
use httparse::Header;

use crate::upstream::{UNREAD, parse_head};

/// The interim answers on one connection of a visitor. Clones are of the same connection.
#[derive(Clone, Debug, Default)]
pub(crate) struct Interims(Arc<Mutex<State>>);

/// Tells of interim answers to one request: an extension of the request, where its visitor may be
/// told. Clones are of the same request.
#[derive(Clone, Debug)]
pub(crate) struct Teller {
    interims: Interims,
    number: u64,
}

#[derive(Debug, Default)]
struct State {
    /// As they are to be written.
    waiting: Vec<u8>,
    /// Of the task that writes to the visitor.
    writer: Option<Waker>,
    /// Which request of the connection it is.
    number: u64,
    is_open: bool,
}

impl Interims {
    /// For the request that was read just now.
    pub(crate) fn open(&self) -> Teller {
        let mut state = self.lock();
        state.number += 1;
        state.is_open = true;
        Teller { interims: self.clone(), number: state.number }
    }

    /// The answer itself has come: what comes later is of no use.
    pub(crate) fn close(&self) {
        self.lock().is_open = false;
    }

    /// Puts what waits at the end of `out`.
    pub(crate) fn take(&self, out: &mut Vec<u8>) {
        out.append(&mut self.lock().waiting);
    }

    /// As [`take`](Self::take); `writer` is woken when more comes.
    pub(crate) fn take_all(&self, out: &mut Vec<u8>, writer: &Waker) {
        let mut state = self.lock();
        if !state.waiting.is_empty() {
            out.append(&mut state.waiting);
        }
        if !state.writer.as_ref().is_some_and(|other| other.will_wake(writer)) {
            state.writer = Some(writer.clone());
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Teller {
    /// A back end has sent the interim head at the beginning of `input`.
    pub(crate) fn tell(&self, input: &[u8]) {
        let mut room = UNREAD;
        let Ok(Some((head, fields))) = parse_head(input, &mut room, false) else { return };
        // What the visitor sends is waited for by the edge.
        if head.status == StatusCode::CONTINUE {
            return;
        }
        let mut state = self.interims.lock();
        let is_late = !state.is_open || state.number != self.number;
        if is_late || state.waiting.len() + head.length > MOST_WAITING {
            return;
        }
        let (status, out) = (head.status, &mut state.waiting);
        let reason = status.canonical_reason().unwrap_or_default();
        // Writing to memory does not fail.
        let _ = write!(out, "HTTP/1.1 {} {reason}\r\n", status.as_u16());
        for Header { name, value } in fields.iter().filter(|field| goes_on(field.name)) {
            for part in [name.as_bytes(), b": ", value, b"\r\n"] {
                out.extend_from_slice(part);
            }
        }
        out.extend_from_slice(b"\r\n");
        let writer = state.writer.take();
        drop(state);
        if let Some(writer) = writer {
            writer.wake();
        }
    }
}

/// Whether a field is about the page, and not about a connection or a body.
fn goes_on(name: &str) -> bool {
    !NOT_FOR_VISITORS.iter().any(|other| name.eq_ignore_ascii_case(other))
}

const NOT_FOR_VISITORS: [&str; 11] = [
    "connection",
    "content-length",
    "keep-alive",
    "proxy-authenticate",
    "proxy-connection",
    "surrogate-key",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "cache-tag",
];
/// Of one request, until the visitor takes them.
const MOST_WAITING: usize = 64 << 10;
