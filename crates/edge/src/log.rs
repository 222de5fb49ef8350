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
use tokio::{
    io::{AsyncWrite, AsyncWriteExt},
    sync::Notify,
};

use crate::{
    Body, Edge,
    body::Ending,
    cache::{Group, Outcome},
    upstream::Server,
};

/// Which server answered; an extension of the response.
#[derive(Clone, Debug)]
pub(crate) struct ServedBy(pub(crate) Arc<Server>);

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
        if before > MOST_BYTES {
            return false;
        }
        line.write(&mut text);
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
#[derive(Debug, Default)]
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
    pub(crate) server: Option<&'a str>,
    /// Whether the body broke off, at either side.
    pub(crate) broken: bool,
}

impl Line<'_> {
    /// Puts it at the end of `out`, as JSON and with the end of the line.
    fn write(&self, out: &mut Vec<u8>) {
        let mut field = |name: &str, value: Value<'_>| {
            out.extend_from_slice(name.as_bytes());
            // Writing to memory does not fail.
            let _ = match value {
                Value::Text(text) if text.bytes().all(is_itself) => {
                    for part in ["\"", text, "\""] {
                        out.extend_from_slice(part.as_bytes());
                    }
                    Ok(())
                }
                Value::Text(text) => serde_json::to_writer(&mut *out, text),
                Value::Number(number) => serde_json::to_writer(&mut *out, &number),
            };
        };
        field("{\"time_ms\":", Value::Number(self.time_ms));
        field(",\"id\":", Value::Text(self.id));
        field(",\"client\":", Value::Text(self.client));
        field(",\"method\":", Value::Text(self.method));
        field(",\"host\":", Value::Text(self.host));
        field(",\"target\":", Value::Text(self.target));
        field(",\"status\":", Value::Number(self.status.into()));
        field(",\"bytes\":", Value::Number(self.bytes.try_into().unwrap_or(i64::MAX)));
        field(",\"took_us\":", Value::Number(self.took_us.try_into().unwrap_or(i64::MAX)));
        field(",\"cache\":", Value::Text(self.cache));
        if let Some(server) = self.server {
            field(",\"server\":", Value::Text(server));
        }
        out.extend_from_slice(if self.broken { b",\"broken\":true}\n" } else { b"}\n" });
    }
}

#[derive(Clone, Copy, Debug)]
enum Value<'a> {
    Text(&'a str),
    Number(i64),
}

/// Whether a byte stands for itself in a string of JSON.
fn is_itself(byte: u8) -> bool {
    byte >= b' ' && byte != b'"' && byte != b'\\'
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_json_whatever_a_visitor_asks_for() {
        for target in ["/", "/a?b=c", "/\"", "/\\", "/\u{1}\u{7f}", "/é\u{2028}\n"] {
            for (server, broken) in [(None, false), (Some("a\tb"), true)] {
                let (time_ms, status, bytes, took_us) = (-1, 200, u64::from(u32::MAX) + 1, 7);
                let line = Line {
                    time_ms,
                    id: "0123",
                    client: "::1",
                    method: "GET",
                    host: "a.example",
                    target,
                    status,
                    bytes,
                    took_us,
                    cache: "pass",
                    server,
                    broken,
                };
                let mut out = b"before\n".to_vec();
                line.write(&mut out);
                let text = String::from_utf8(out).unwrap();
                let text = text.strip_prefix("before\n").unwrap().strip_suffix('\n').unwrap();
                assert!(!text.contains('\n'), "{text}");
                let mut expected = serde_json::json!({
                    "time_ms": time_ms, "id": "0123", "client": "::1", "method": "GET",
                    "host": "a.example", "target": target, "status": status, "bytes": bytes,
                    "took_us": took_us, "cache": "pass",
                });
                if let Some(server) = server {
                    expected["server"] = server.into();
                }
                if broken {
                    expected["broken"] = true.into();
                }
                assert_eq!(serde_json::from_str::<serde_json::Value>(text).unwrap(), expected);
            }
        }
    }
}
