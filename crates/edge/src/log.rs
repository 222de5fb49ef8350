//! One line of JSON for each request.

use std::{net::IpAddr, time::Duration};

use http::{Request, Response, header};
use serde::Serialize;
use throng_core::Clock;
use tokio::{
    io::{AsyncWrite, AsyncWriteExt},
    sync::mpsc,
};

use crate::{Body, Edge, body::Ending, cache::Outcome, proxy::ServedBy};

/// Takes lines for a [`LogWriter`]. When that falls behind by 8,192 lines, further ones are dropped
/// and counted rather than that a visitor waits.
#[derive(Clone, Debug)]
pub struct AccessLog {
    lines: mpsc::Sender<String>,
}

/// Writes the lines of an [`AccessLog`].
#[derive(Debug)]
pub struct LogWriter {
    lines: mpsc::Receiver<String>,
}

impl AccessLog {
    /// A log and its writer, which somebody has to [`run`](LogWriter::run).
    #[must_use]
    pub fn pair() -> (Self, LogWriter) {
        let (sender, receiver) = mpsc::channel(MOST_LINES);
        (Self { lines: sender }, LogWriter { lines: receiver })
    }
}

impl LogWriter {
    /// Writes to `out` until the edge is gone.
    pub async fn run(mut self, mut out: impl AsyncWrite + Unpin + Send) -> std::io::Result<()> {
        let mut lines = Vec::new();
        while self.lines.recv_many(&mut lines, 256).await > 0 {
            let text: String = lines.drain(..).collect();
            out.write_all(text.as_bytes()).await?;
            out.flush().await?;
        }
        Ok(())
    }
}

/// What is known of a request while it is answered.
#[derive(Debug)]
pub(crate) struct Visit {
    line: Line,
    started: Duration,
}

#[derive(Debug, Default, Serialize)]
struct Line {
    time_ms: i64,
    id: String,
    client: String,
    method: String,
    host: String,
    target: String,
    status: u16,
    bytes: u64,
    took_us: u64,
    cache: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    server: Option<String>,
    /// Whether the body broke off, at either side.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    broken: bool,
}

impl Visit {
    pub(crate) fn begin(request: &Request<Body>, who: (IpAddr, &str), clock: &Clock) -> Self {
        let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
        let authority = request.uri().authority().map(|authority| authority.as_str());
        let line = Line {
            time_ms: clock.now_ms(),
            id: who.1.to_owned(),
            client: who.0.to_string(),
            method: request.method().to_string(),
            host: authority.or(host).unwrap_or_default().to_owned(),
            target: request.uri().path_and_query().map_or("/", |t| t.as_str()).to_owned(),
            cache: "none",
            ..Line::default()
        };
        Self { line, started: clock.elapsed() }
    }

    pub(crate) fn answered(&mut self, response: &Response<Body>) {
        self.line.status = response.status().as_u16();
        if let Some(outcome) = response.extensions().get::<Outcome>() {
            self.line.cache = outcome.as_str();
        }
        let server = response.extensions().get::<ServedBy>();
        self.line.server = server.map(|served| served.0.name.clone());
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
    fn ended(mut self: Box<Self>, bytes: u64, is_whole: bool) {
        let took = self.edge.clock().elapsed().saturating_sub(self.visit.started);
        let line = &mut self.visit.line;
        (line.bytes, line.broken) = (bytes, !is_whole);
        line.took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let stats = self.edge.stats();
        stats.answered(line.cache, line.status, bytes, took);
        let Some(log) = self.edge.log() else { return };
        let Ok(mut text) = serde_json::to_string(line) else { return };
        text.push('\n');
        if log.lines.try_send(text).is_err() {
            stats.lost_lines.add(1);
        }
    }
}

const MOST_LINES: usize = 8_192;
