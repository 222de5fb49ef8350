//! An edge on a socket, back ends that say what a closure says, and a client that writes bytes.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use throng_core::{Clock, Shutdown, Trigger};
use throng_edge::{
    Config, Edge, Upstream,
    cache::{Action, Rule},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

pub(crate) use crate::port::free_port;

/// Nothing is cached, so that each request reaches a back end.
pub(crate) fn bypass() -> Config {
    let mut config = Config::default();
    config.policy.rules = vec![Rule { pattern: "*".into(), action: Action::Bypass }];
    config
}

/// Held by tests that need the machine, so that they do not disturb each other.
pub(crate) static QUIET: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// What a back end sends for one request, given its bytes up to the end of its head.
type Answer = dyn Fn(&str) -> String + Send + Sync;

/// A back end that reads heads and small bodies of known length, and remembers all of it.
pub(crate) struct BackEnd {
    pub(crate) address: String,
    pub(crate) seen: Arc<Mutex<Vec<String>>>,
    pub(crate) count: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl BackEnd {
    pub(crate) async fn new(answer: impl Fn(&str) -> String + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (seen, count) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicUsize::new(0)));
        let answer: Arc<Answer> = Arc::new(answer);
        let (all_seen, counted) = (Arc::clone(&seen), Arc::clone(&count));
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (answer, seen) = (Arc::clone(&answer), Arc::clone(&all_seen));
                tokio::spawn(serve(stream, answer, seen, Arc::clone(&counted)));
            }
        });
        Self { address, seen, count, task }
    }

    /// Answers 200 with this body, and these fields, each with its line end.
    pub(crate) async fn page(fields: &'static str, body: &'static str) -> Self {
        Self::new(move |_| ok(fields, body)).await
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Stops listening.
    pub(crate) fn abort(&self) {
        self.task.abort();
    }

    pub(crate) fn requests(&self) -> usize {
        self.count.load(Ordering::SeqCst)
    }

    pub(crate) fn last(&self) -> String {
        self.seen.lock().unwrap().last().cloned().unwrap_or_default()
    }
}

impl Drop for BackEnd {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(
    mut stream: TcpStream,
    answer: Arc<Answer>,
    seen: Arc<Mutex<Vec<String>>>,
    count: Arc<AtomicUsize>,
) {
    let mut bytes = Vec::new();
    loop {
        let Some(request) = read_message(&mut stream, &mut bytes).await else { return };
        count.fetch_add(1, Ordering::SeqCst);
        let said = answer(&request);
        seen.lock().unwrap().push(request);
        // A pause that the closure asks for, before the head or within the body.
        for part in said.split("<pause>") {
            let (milliseconds, part) = match part.strip_prefix("ms=") {
                Some(rest) => rest.split_once(';').unwrap(),
                None => ("0", part),
            };
            tokio::time::sleep(Duration::from_millis(milliseconds.parse().unwrap())).await;
            if stream.write_all(part.as_bytes()).await.is_err() {
                return;
            }
        }
        if said.contains("connection: close") {
            return;
        }
    }
}

pub(crate) fn ok(fields: &str, body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\n{fields}content-length: {}\r\n\r\n{body}", body.len())
}

/// A head and what Content-Length says follows it; `None` at the end.
async fn read_message(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> Option<String> {
    loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&bytes[..end + 4]).to_ascii_lowercase();
            let length = head
                .split("\r\ncontent-length: ")
                .nth(1)
                .map_or(0, |rest| rest.split("\r\n").next().unwrap().parse::<usize>().unwrap());
            let is_bodiless = head.starts_with("http/1.1 304") || head.starts_with("http/1.1 101");
            let length = if is_bodiless { 0 } else { length };
            if bytes.len() >= end + 4 + length {
                let rest = bytes.split_off(end + 4 + length);
                let message = String::from_utf8_lossy(bytes).into_owned();
                *bytes = rest;
                return Some(message);
            }
        }
        let mut chunk = [0; 16 << 10];
        match stream.read(&mut chunk).await {
            Ok(0) | Err(_) => return None,
            Ok(count) => bytes.extend_from_slice(&chunk[..count]),
        }
    }
}

/// An edge that serves until it is dropped.
pub(crate) struct Running {
    pub(crate) edge: Edge,
    pub(crate) address: String,
    pub(crate) trigger: Option<Trigger>,
    pub(crate) task: JoinHandle<throng_edge::Result<()>>,
}

pub(crate) async fn run(config: Config, back_ends: &[&BackEnd]) -> Running {
    let upstreams = back_ends.iter().map(|one| Upstream::http(&one.url()).unwrap()).collect();
    start(Edge::new(config, upstreams, &Clock::system()).unwrap()).await
}

pub(crate) async fn start(edge: Edge) -> Running {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (trigger, shutdown) = Shutdown::pair();
    let serving = edge.clone();
    let grace = Duration::from_secs(10);
    let task = tokio::spawn(async move { serving.serve(listener, shutdown, grace).await });
    Running { edge, address, trigger: Some(trigger), task }
}

impl Running {
    pub(crate) async fn connect(&self) -> Client {
        Client::over(TcpStream::connect(&self.address).await.unwrap())
    }

    /// One GET over a connection of its own.
    pub(crate) async fn get(&self, target: &str) -> String {
        self.connect().await.get(target, "").await
    }

    /// Everything that comes back for these bytes, until the edge closes.
    pub(crate) async fn raw(&self, bytes: &[u8]) -> String {
        let mut client = self.connect().await;
        let _ = client.stream.write_all(bytes).await;
        client.rest().await
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    bytes: Vec<u8>,
}

impl Client {
    pub(crate) fn over(stream: TcpStream) -> Self {
        Self { stream, bytes: Vec::new() }
    }

    pub(crate) async fn get(&mut self, target: &str, fields: &str) -> String {
        self.ask(&format!("GET {target} HTTP/1.1\r\nhost: example.org\r\n{fields}\r\n")).await
    }

    pub(crate) async fn ask(&mut self, request: &str) -> String {
        self.stream.write_all(request.as_bytes()).await.unwrap();
        self.answer().await
    }

    pub(crate) async fn answer(&mut self) -> String {
        let all = read_message(&mut self.stream, &mut self.bytes).await;
        all.expect("an answer")
    }

    /// What comes until the other side closes.
    pub(crate) async fn rest(mut self) -> String {
        let _ = self.stream.read_to_end(&mut self.bytes).await;
        String::from_utf8_lossy(&self.bytes).into_owned()
    }
}
