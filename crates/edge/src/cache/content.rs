//! The bytes of a stored body: written once by whoever fetches, read by many while they come.

use std::{
    collections::{HashMap, VecDeque},
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker},
};

use bytes::{Bytes, BytesMut};

/// A body that is whole, or still comes in.
///
/// While it is kept for the store, it holds everything since its first byte. Once it turns out too
/// large to keep, it holds only what the slowest reader has not seen, and its writer waits for that
/// reader.
#[derive(Debug)]
pub(super) struct Content {
    whole: OnceLock<Bytes>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Chunks after the position of their first byte.
    chunks: VecDeque<(u64, Bytes)>,
    length: u64,
    phase: Phase,
    is_kept: bool,
    /// Bytes that the store counts for this body while it is in there.
    charged: Option<u64>,
    /// Where each reader is.
    readers: HashMap<u64, u64>,
    next_reader: u64,
    waiting: Vec<Waker>,
    writer: Option<Waker>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Coming,
    Whole,
    Broken,
}

/// The origin broke off, so that what came is not the whole body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the answer of the back end broke off")]
pub struct Broken;

impl Content {
    pub(super) fn coming() -> Arc<Self> {
        let state = State {
            chunks: VecDeque::new(),
            length: 0,
            phase: Phase::Coming,
            is_kept: true,
            charged: None,
            readers: HashMap::new(),
            next_reader: 0,
            waiting: Vec::new(),
            writer: None,
        };
        Arc::new(Self { whole: OnceLock::new(), state: Mutex::new(state) })
    }

    /// One that is whole, of these runs of bytes.
    pub(super) fn whole(runs: &[Bytes]) -> Arc<Self> {
        let content = Self::coming();
        let uncounted = AtomicU64::new(0);
        for run in runs {
            content.push(run.clone(), &uncounted);
        }
        content.finish();
        content
    }

    /// The whole body, once it is there.
    pub(super) fn get(&self) -> Option<&Bytes> {
        self.whole.get()
    }

    /// How many bytes have come.
    pub(super) fn length(&self) -> u64 {
        self.lock().length
    }

    /// Whether a reader who comes now can have all of it.
    pub(super) fn is_readable(&self) -> bool {
        self.get().is_some() || {
            let state = self.lock();
            state.is_kept && state.phase != Phase::Broken
        }
    }

    /// Reads from the first byte. Ask only while it [`is_readable`](Self::is_readable).
    pub(super) fn read(self: &Arc<Self>) -> Reader {
        let mut state = self.lock();
        let id = state.next_reader;
        state.next_reader += 1;
        state.readers.insert(id, 0);
        Reader { content: Arc::clone(self), id, at: 0 }
    }

    /// Adds bytes; returns how long it is now.
    pub(super) fn push(&self, chunk: Bytes, total: &AtomicU64) -> u64 {
        let (length, waiting) = {
            let mut state = self.lock();
            let (at, more) = (state.length, chunk.len() as u64);
            state.length += more;
            state.chunks.push_back((at, chunk));
            if let Some(charged) = &mut state.charged {
                *charged += more;
                total.fetch_add(more, Ordering::Relaxed);
            }
            (state.length, std::mem::take(&mut state.waiting))
        };
        waiting.into_iter().for_each(Waker::wake);
        length
    }

    /// Ends it well, and makes one piece of it.
    pub(super) fn finish(&self) {
        let waiting = {
            let mut state = self.lock();
            if state.is_kept {
                let bytes = match state.chunks.len() {
                    0 => Bytes::new(),
                    // A piece of a large read buffer would keep all of the buffer alive.
                    _ => {
                        let mut all = BytesMut::with_capacity(state.length as usize);
                        state.chunks.iter().for_each(|(_, chunk)| all.extend_from_slice(chunk));
                        all.freeze()
                    }
                };
                let _ = self.whole.set(bytes);
                state.chunks.clear();
            }
            state.phase = Phase::Whole;
            std::mem::take(&mut state.waiting)
        };
        waiting.into_iter().for_each(Waker::wake);
    }

    /// Ends it badly: its readers get an error after what came. Nothing happens to one that ended.
    pub(super) fn abort(&self) {
        let waiting = {
            let mut state = self.lock();
            if state.phase == Phase::Coming {
                state.phase = Phase::Broken;
            }
            std::mem::take(&mut state.waiting)
        };
        waiting.into_iter().for_each(Waker::wake);
    }

    /// From now on only its present readers get it, and its writer waits for the slowest.
    pub(super) fn let_go(&self) {
        let mut state = self.lock();
        state.is_kept = false;
        state.forget_read();
    }

    /// For the writer: ready while there is room; an error when nobody reads any more.
    pub(super) fn poll_room(&self, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        let mut state = self.lock();
        if state.is_kept {
            return Poll::Ready(Ok(()));
        }
        let Some(slowest) = state.readers.values().min().copied() else {
            return Poll::Ready(Err(Broken));
        };
        if state.length - slowest < WINDOW_BYTES {
            return Poll::Ready(Ok(()));
        }
        state.writer = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Counts it in `total`, with `more` for what is stored beside it.
    pub(super) fn charge(&self, more: u64, total: &AtomicU64) {
        let mut state = self.lock();
        if state.charged.is_none() {
            let bytes = state.length + more;
            state.charged = Some(bytes);
            total.fetch_add(bytes, Ordering::Relaxed);
        }
    }

    /// Takes back what [`charge`](Self::charge) and [`push`](Self::push) counted.
    pub(super) fn discharge(&self, total: &AtomicU64) {
        if let Some(bytes) = self.lock().charged.take() {
            total.fetch_sub(bytes, Ordering::Relaxed);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn forget_read(&mut self) {
        if self.is_kept {
            return;
        }
        let slowest = self.readers.values().min().copied().unwrap_or(self.length);
        while self.chunks.front().is_some_and(|(at, chunk)| at + chunk.len() as u64 <= slowest) {
            self.chunks.pop_front();
        }
        if self.length - slowest < WINDOW_BYTES
            && let Some(writer) = self.writer.take()
        {
            writer.wake();
        }
    }
}

/// Reads what is kept of a response from its start, waiting for what has not come.
#[derive(Debug)]
pub struct Reader {
    content: Arc<Content>,
    id: u64,
    at: u64,
}

impl Reader {
    /// The next bytes; `None` at the end.
    pub fn poll_next(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Broken>>> {
        let this = self.get_mut();
        if let Some(whole) = this.content.get() {
            return Poll::Ready(rest(whole, &mut this.at).map(Ok));
        }
        let mut state = this.content.lock();
        // It may have come to its end since, and then its pieces are gone.
        if let Some(whole) = this.content.get() {
            return Poll::Ready(rest(whole, &mut this.at).map(Ok));
        }
        if this.at < state.length {
            let index = state.chunks.partition_point(|(at, _)| *at <= this.at);
            let Some((at, chunk)) = index.checked_sub(1).and_then(|index| state.chunks.get(index))
            else {
                return Poll::Ready(Some(Err(Broken)));
            };
            let bytes = chunk.slice((this.at - at) as usize..);
            this.at += bytes.len() as u64;
            state.readers.insert(this.id, this.at);
            state.forget_read();
            return Poll::Ready(Some(Ok(bytes)));
        }
        match state.phase {
            Phase::Whole => Poll::Ready(None),
            Phase::Broken => Poll::Ready(Some(Err(Broken))),
            Phase::Coming => {
                if !state.waiting.iter().any(|other| other.will_wake(cx.waker())) {
                    state.waiting.push(cx.waker().clone());
                }
                Poll::Pending
            }
        }
    }
}

/// What of `whole` was not read yet.
fn rest(whole: &Bytes, at: &mut u64) -> Option<Bytes> {
    let rest = whole.slice((*at as usize).min(whole.len())..);
    *at = whole.len() as u64;
    (!rest.is_empty()).then_some(rest)
}

impl Drop for Reader {
    fn drop(&mut self) {
        let writer = {
            let mut state = self.content.lock();
            state.readers.remove(&self.id);
            state.forget_read();
            // The last reader of a body that nobody keeps tells its writer to stop.
            state.readers.is_empty().then(|| state.writer.take()).flatten()
        };
        if let Some(writer) = writer {
            writer.wake();
        }
    }
}

/// How far the writer of a body that is not kept may be ahead of its slowest reader.
const WINDOW_BYTES: u64 = 256 << 10;
