//! Ten thousand HTTP calls at once in one worker, to a server that answers each after a second. Server
//! and worker are processes of their own: this program, started again.

use std::{
    convert::Infallible,
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use http_body_util::{BodyExt, Empty, Full};
use hyper::{Request, Response, body::Bytes, server::conn::http1, service::service_fn};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioIo},
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use throng_core::{Clock, Shutdown};
use throng_db::Db;
use throng_queue::{Delivery, MIGRATIONS, Message, Outcome, Policy, Queue, Worker, WorkerConfig};
use tokio::net::TcpSocket;

/// What the worker's process measured of itself.
pub(crate) struct Figures {
    /// From the start of the worker until the last answer was there.
    pub(crate) took_s: f64,
    /// What the process weighed at most.
    pub(crate) peak_mb: f64,
    /// What a call cost it, task and all.
    pub(crate) cpu_us: f64,
}

/// Pushes the tasks to the queue `name` at `url` and lets one worker do them.
pub(crate) async fn measure(queue: &Queue, url: &str, name: &str) -> anyhow::Result<Figures> {
    let (server, address) = serve()?;
    let messages = (0..CALLS).map(|_| Ok(Message::new("call", &address)?.queue(name)));
    queue.push_all(messages.collect::<throng_queue::Result<_>>()?).await?;
    let figures = said_by(again(CALL, &[url, name]));
    stop(server)?;
    figures
}

/// The same calls without a queue: what the client alone needs.
pub(crate) fn bare() -> anyhow::Result<Figures> {
    let (server, address) = serve()?;
    let figures = said_by(again(BARE, &[&address]));
    stop(server)?;
    figures
}

fn said_by(mut worker: Command) -> anyhow::Result<Figures> {
    let said = String::from_utf8(worker.output()?.stdout)?;
    let figures: Vec<f64> = said.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    let [took_s, peak_mb, cpu_us] = figures[..] else { anyhow::bail!("the worker said: {said}") };
    Ok(Figures { took_s, peak_mb, cpu_us })
}

/// A server in a process of its own, and its address.
pub(crate) fn serve() -> anyhow::Result<(Child, String)> {
    let mut server = again(ANSWER, &[]).stdout(Stdio::piped()).spawn()?;
    let mut address = String::new();
    let said = server.stdout.take().ok_or_else(|| anyhow::anyhow!("the server has no output"))?;
    BufReader::new(said).read_line(&mut address)?;
    Ok((server, address.trim().to_owned()))
}

pub(crate) fn stop(mut server: Child) -> anyhow::Result<()> {
    server.kill()?;
    server.wait()?;
    Ok(())
}

/// Plays the part that the arguments name, if they name one.
pub(crate) async fn play() -> anyhow::Result<bool> {
    let mut arguments = std::env::args().skip(1);
    match arguments.next().as_deref() {
        Some(ANSWER) => answer().await.map(|()| true),
        Some(CALL) => {
            let rest: Vec<String> = arguments.collect();
            let [url, name] = &rest[..] else { anyhow::bail!("wrong arguments: {rest:?}") };
            call(url, name).await.map(|()| true)
        }
        Some(BARE) => {
            let address = arguments.next().unwrap_or_default();
            call_bare(&address).await.map(|()| true)
        }
        _ => Ok(false),
    }
}

fn again(part: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap_or_default());
    command.arg(part).args(arguments);
    command
}

async fn answer() -> anyhow::Result<()> {
    raise_open_files();
    let socket = TcpSocket::new_v4()?;
    socket.bind(([127, 0, 0, 1], 0).into())?;
    let listener = socket.listen(4096)?;
    println!("{}", listener.local_addr()?);
    loop {
        let (stream, _) = listener.accept().await?;
        let reply = service_fn(async |_| {
            tokio::time::sleep(Duration::from_secs(1)).await;
            Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(b"done"))))
        });
        let served = http1::Builder::new().serve_connection(TokioIo::new(stream), reply);
        drop(tokio::spawn(served));
    }
}

async fn call(url: &str, name: &str) -> anyhow::Result<()> {
    raise_open_files();
    let folder = tempfile::tempdir()?;
    let db = Db::sqlite(folder.path().join("site.db")).await?;
    let _ = db.migrate(&[MIGRATIONS]).await?;
    let queue = Queue::open(url, db, Clock::system()).await?;
    let client = client();
    let answered = Arc::new(AtomicUsize::new(0));
    let count = answered.clone();
    let config = WorkerConfig {
        queues: vec![name.to_owned()],
        concurrency: CALLS,
        ..WorkerConfig::default()
    };
    let run = move |delivery: Delivery| {
        let (client, count) = (client.clone(), count.clone());
        async move {
            let address: String = match delivery.arguments() {
                Ok(address) => address,
                Err(error) => return error.into(),
            };
            match ask(&client, &address).await {
                Ok(()) => {
                    count.fetch_add(1, Ordering::Relaxed);
                    Outcome::done()
                }
                Err(error) => Outcome::retry(error.to_string()),
            }
        }
    };
    let worker = Worker::new(queue.clone()).config(config).on("call", Policy::default(), run);
    let (stop, shutdown) = Shutdown::pair();
    let (begun, cpu_before) = (Instant::now(), cpu_s());
    let running = tokio::spawn(worker.run(shutdown));
    while answered.load(Ordering::Relaxed) < CALLS && begun.elapsed() < LIMIT {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let took = begun.elapsed().as_secs_f64();
    stop.request();
    let report = running.await??;
    anyhow::ensure!(report.ran == CALLS as u64, "{} runs of {CALLS} calls", report.ran);
    tell(took, cpu_s() - cpu_before);
    Ok(())
}

async fn call_bare(address: &str) -> anyhow::Result<()> {
    raise_open_files();
    let client = client();
    let (begun, cpu_before) = (Instant::now(), cpu_s());
    let calls = (0..CALLS).map(|_| {
        let (client, address) = (client.clone(), address.to_owned());
        tokio::spawn(async move { ask(&client, &address).await })
    });
    for call in calls.collect::<Vec<_>>() {
        call.await??;
    }
    tell(begun.elapsed().as_secs_f64(), cpu_s() - cpu_before);
    Ok(())
}

type HttpClient = Client<HttpConnector, Empty<Bytes>>;

/// As a site would: one client for all tasks, which keeps what connections it can. Answers are small,
/// and room for larger ones would be most of the memory: hyper's own choice is 8 KiB a connection.
fn client() -> HttpClient {
    Client::builder(TokioExecutor::new()).http1_read_buf_exact_size(1 << 10).build_http()
}

async fn ask(client: &HttpClient, address: &str) -> anyhow::Result<()> {
    let request = Request::get(format!("http://{address}/")).body(Empty::new())?;
    let body = client.request(request).await?.into_body().collect().await?;
    anyhow::ensure!(body.to_bytes() == "done", "another answer");
    Ok(())
}

fn tell(took_s: f64, cpu_s: f64) {
    println!("{took_s} {} {}", peak_mb(), cpu_s * 1e6 / CALLS as f64);
}

/// As many files as the machine lets this process have: every call is a socket.
fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
}

/// What this process has used of the processors, as Linux counts it, in hundredths of a second.
fn cpu_s() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    let times = after_name.split_whitespace().skip(11).take(2);
    times.filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / 100.0
}

/// The most that this process has held in memory, as Linux says.
fn peak_mb() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kb = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
    kb.unwrap_or(0.0) / 1024.0
}

pub(crate) const CALLS: usize = 10_000;
const ANSWER: &str = "answer-calls";
const CALL: &str = "make-calls";
const BARE: &str = "make-bare-calls";
const LIMIT: Duration = Duration::from_secs(60);
