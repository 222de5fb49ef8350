//! One line of JSON for each request, gathered in memory and written by somebody else.

use std::{
    net::IpAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use http::{HeaderValue, Method, Request, Response, Uri, header};
use serde::Serialize;
use tokio::{
    io::{AsyncWrite, AsyncWriteExt},
    sync::Notify,
};

use crate::{
    Body, Edge,
    body::Ending,
    cache::{Group, Outcome},
    proxy::ServedBy,
    upstream::Server,
};

/// Takes lines for a [`LogWriter`]. When that falls behind by 4 MiB, further ones are dropped and
/// counted rather than that a visitor waits.
#[derive(Clone, Debug)]
pub struct AccessLog {
    open: Arc<Open>,
}

/// Writes the lines of an [`AccessLog`], a tenth of a second after they came or sooner.
#[derive(Debug)]
pub struct LogWriter {
    lines: Arc<Lines>,
}

#[derive(Debug, Default)]
struct Lines {
    text: Mutex<Vec<u8>>,
    /// Told when there is much, and at the end.
    filled: Notify,
    is_over: AtomicBool,
}

/// Ends the log once nobody writes to it any more.
#[derive(Debug)]
struct Open(Arc<Lines>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.is_over.store(true, Ordering::Release);
        self.0.filled.notify_one();
    }
}

impl AccessLog {
    /// A log and its writer, which somebody has to [`run`](LogWriter::run).
    #[must_use]
    pub fn pair() -> (Self, LogWriter) {
        let lines = Arc::new(Lines::default());
        (Self { open: Arc::new(Open(Arc::clone(&lines))) }, LogWriter { lines })
    }

    /// Takes a line; false when it had to be dropped.
    pub(crate) fn write(&self, line: &Line<'_>) -> bool {
        let lines = &self.open.0;
        let mut text = lines.text.lock().unwrap_or_else(PoisonError::into_inner);
        let before = text.len();
        if before > MOST_BYTES || serde_json::to_writer(&mut *text, line).is_err() {
            text.truncate(before);
            return false;
        }
        text.push(b'\n');
        let is_much = before < MUCH_BYTES && text.len() >= MUCH_BYTES;
        drop(text);
        if is_much {
            lines.filled.notify_one();
        }
        true
    }
}

impl LogWriter {
    /// Writes to `out` until the edge is gone.
    pub async fn run(self, mut out: impl AsyncWrite + Unpin + Send) -> std::io::Result<()> {
        let mut spare = Vec::new();
        loop {
            // A batch, not a deadline: it is the machine's time that goes by.
            let _ = tokio::time::timeout(BATCH, self.lines.filled.notified()).await;
            let is_over = self.lines.is_over.load(Ordering::Acquire);
            {
                let mut text = self.lines.text.lock().unwrap_or_else(PoisonError::into_inner);
                std::mem::swap(&mut *text, &mut spare);
            }
            if !spare.is_empty() {
                out.write_all(&spare).await?;
                out.flush().await?;
                spare.clear();
                spare.shrink_to(2 * MUCH_BYTES);
            }
            if is_over {
                return Ok(());
            }
        }
    }
}

/// What is said about one request.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Line<'a> {
    pub(crate) time_ms: i64,
    pub(crate) id: &'a str,
    pub(crate) client: &'a str,
    pub(crate) method: &'a str,
    pub(crate) host: &'a str,
    pub(crate) target: &'a str,
    pub(crate) status: u16,
    pub(crate) bytes: u64,
    pub(crate) took_us: u64,
    pub(crate) cache: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) server: Option<&'a str>,
    /// Whether the body broke off, at either side.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) broken: bool,
}

/// What is known of a request while it is answered.
#[derive(Debug)]
pub(crate) struct Visit {
    started: Duration,
    status: u16,
    outcome: Option<Outcome>,
    group: Arc<Group>,
    server: Option<Arc<Server>>,
    /// Where there is a log.
    said: Option<Said>,
}

#[derive(Debug)]
struct Said {
    time_ms: i64,
    id: String,
    client: IpAddr,
    method: Method,
    host: Option<HeaderValue>,
    uri: Uri,
}

impl Visit {
    pub(crate) fn begin(request: &Request<Body>, who: (IpAddr, &str), edge: &Edge) -> Self {
        let clock = edge.clock();
        let is_logged = edge.log().is_some();
        let group = edge.cache().group(request.uri().path());
        let said = is_logged.then(|| Said {
            time_ms: clock.now_ms(),
            id: who.1.to_owned(),
            client: who.0,
            method: request.method().clone(),
            host: request.headers().get(header::HOST).cloned(),
            uri: request.uri().clone(),
        });
        Self { started: clock.elapsed(), status: 0, outcome: None, group, server: None, said }
    }

    pub(crate) fn answered(&mut self, response: &Response<Body>) {
        self.status = response.status().as_u16();
        self.outcome = response.extensions().get::<Outcome>().copied();
        let server = response.extensions().get::<ServedBy>();
        self.server = server.map(|served| Arc::clone(&served.0));
    }

    pub(crate) fn ending(self, edge: Edge) -> Finish {
        Finish { visit: self, edge }
    }
}

/// Writes the line when the body is over.
#[derive(Debug)]
pub(crate) struct Finish {
    visit: Visit,
    edge: Edge,
}

impl Ending for Finish {
    fn ended(self: Box<Self>, bytes: u64, is_whole: bool) {
        let Visit { started, status, outcome, group, server, said } = &self.visit;
        let cache = outcome.map_or("none", Outcome::as_str);
        let took = self.edge.clock().elapsed().saturating_sub(*started);
        let stats = self.edge.stats();
        stats.answered(cache, *status, bytes, took);
        group.count(outcome.unwrap_or(Outcome::Pass), bytes);
        let (Some(log), Some(said)) = (self.edge.log(), said) else { return };
        let host = said.host.as_ref().and_then(|host| host.to_str().ok());
        let authority = said.uri.authority().map(|authority| authority.as_str());
        let line = Line {
            time_ms: said.time_ms,
            id: &said.id,
            client: &said.client.to_string(),
            method: said.method.as_str(),
            host: authority.or(host).unwrap_or_default(),
            target: said.uri.path_and_query().map_or("/", |target| target.as_str()),
            status: *status,
            bytes,
            took_us: micros(took),
            cache,
            server: server.as_ref().map(|server| server.name.as_str()),
            broken: !is_whole,
        };
        if !log.write(&line) {
            stats.lost_lines.add(1);
        }
    }
}

pub(crate) fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// Lines that nobody has written yet.
const MOST_BYTES: usize = 4 << 20;
const MUCH_BYTES: usize = 128 << 10;
const BATCH: Duration = Duration::from_millis(100);
