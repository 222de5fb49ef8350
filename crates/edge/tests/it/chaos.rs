//! Back ends that are killed, stopped, slow, broken and started again, under load.

use std::{
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use throng_core::Clock;
use throng_edge::{Config, Edge, Status, Upstream};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::wire::{Client, Running, bypass, free_port, start};

/// Not a test of anything: a process of its own that answers on the port it is told, so that it can
/// be killed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn back_end_process() {
    let Ok(port) = std::env::var("THRONG_EDGE_BACK_END") else { return };
    let listener = TcpListener::bind(format!("127.0.0.1:{port}")).await.unwrap();
    let mode = Arc::new(Mutex::new("well".to_owned()));
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mode = Arc::clone(&mode);
        tokio::spawn(async move {
            let mut bytes = [0; 8192];
            while let Ok(count @ 1..) = stream.read(&mut bytes).await {
                let head = String::from_utf8_lossy(&bytes[..count]).into_owned();
                if let Some(rest) = head.strip_prefix("GET /mode/") {
                    let name = rest.split(' ').next().unwrap();
                    name.clone_into(&mut mode.lock().unwrap());
                }
                let mode = mode.lock().unwrap().clone();
                let is_check = head.starts_with("GET /health");
                let answer: &[u8] = match mode.as_str() {
                    "error" if !is_check => b"HTTP/1.1 500 No\r\ncontent-length: 2\r\n\r\nno",
                    "half" if !is_check => return,
                    _ => b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nwell",
                };
                if mode == "slow" && !is_check {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                if stream.write_all(answer).await.is_err() {
                    return;
                }
            }
        });
    }
}

struct Process {
    child: Child,
    port: u16,
}

impl Process {
    async fn start(port: u16) -> Self {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "chaos::back_end_process", "--nocapture"])
            .env("THRONG_EDGE_BACK_END", port.to_string())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut process = Self { child, port };
        while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            assert!(process.child.try_wait().unwrap().is_none(), "it cannot listen on {port}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        process
    }

    fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args([name, &id]).status().unwrap().success());
    }

    async fn mode(&self, name: &str) {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).await.unwrap();
        let request = format!("GET /mode/{name} HTTP/1.1\r\nhost: a\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let _ = stream.read(&mut [0; 100]).await.unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits for a status, and says how long that took.
async fn becomes(site: &Running, index: usize, status: Status) -> Duration {
    let since = Instant::now();
    while site.edge.servers()[index].status != status {
        assert!(since.elapsed() < Duration::from_secs(20), "{:?}", site.edge.servers());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    since.elapsed()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_visitor_notices_what_happens_to_one_of_two_back_ends() {
    let _quiet = crate::wire::QUIET.lock().await;
    let (first, second) = (free_port(), free_port());
    let (mut one, two) = (Process::start(first).await, Process::start(second).await);
    let mut config = bypass();
    config.health.path = Some("/health".into());
    let upstreams =
        [first, second].map(|port| Upstream::http(&format!("http://127.0.0.1:{port}")).unwrap());
    let site = start(Edge::new(config, upstreams.into(), &Clock::system()).unwrap()).await;

    let is_over = Arc::new(AtomicBool::new(false));
    let (good, failures) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(Vec::new())));
    let visitors: Vec<_> = (0..16)
        .map(|_| {
            let (address, is_over) = (site.address.clone(), Arc::clone(&is_over));
            let (good, failures) = (Arc::clone(&good), Arc::clone(&failures));
            tokio::spawn(async move {
                let stream = TcpStream::connect(address).await.unwrap();
                let mut client = Client::over(stream);
                while !is_over.load(Ordering::Relaxed) {
                    let got = client.get("/", "").await;
                    match got.ends_with("well") {
                        true => drop(good.fetch_add(1, Ordering::Relaxed)),
                        false => failures.lock().unwrap().push(got),
                    }
                }
            })
        })
        .collect();
    let pause = || tokio::time::sleep(Duration::from_millis(300));
    let mut times = Vec::new();

    pause().await;
    drop(one); // kill -9
    times.push(("killed, out", becomes(&site, 0, Status::Down).await));
    one = Process::start(first).await;
    times.push(("started, in", becomes(&site, 0, Status::Up).await));
    two.signal("-STOP");
    times.push(("stopped, out", becomes(&site, 1, Status::Down).await));
    pause().await;
    two.signal("-CONT");
    times.push(("continued, in", becomes(&site, 1, Status::Up).await));
    for (mode, out, in_again) in
        [("error", "answers 500, out", "in again"), ("half", "closes half-way, out", "in again")]
    {
        one.mode(mode).await;
        times.push((out, becomes(&site, 0, Status::Ejected).await));
        one.mode("well").await;
        times.push((in_again, becomes(&site, 0, Status::Up).await));
    }
    one.mode("slow").await;
    pause().await;
    one.mode("well").await;
    for _ in 0..3 {
        drop(one);
        pause().await;
        one = Process::start(first).await;
    }

    is_over.store(true, Ordering::Relaxed);
    for visitor in visitors {
        visitor.await.unwrap();
    }
    println!("{} good, none failed, {times:?}", good.load(Ordering::Relaxed));
    let failures = failures.lock().unwrap();
    assert!(failures.is_empty(), "{} failed, the first: {}", failures.len(), failures[0]);
    assert!(good.load(Ordering::Relaxed) > 100);
}

#[tokio::test]
async fn pages_are_served_while_every_back_end_is_dead() {
    let port = free_port();
    let process = Process::start(port).await;
    let mut config = Config::default();
    config.health.path = Some("/health".into());
    config.policy.default_ttl_ms = 1;
    let upstream = Upstream::http(&format!("http://127.0.0.1:{port}")).unwrap();
    let site = start(Edge::new(config, vec![upstream], &Clock::system()).unwrap()).await;
    assert!(site.get("/page").await.ends_with("well"));
    drop(process); // kill -9
    becomes(&site, 0, Status::Down).await;
    for _ in 0..50 {
        let got = site.get("/page").await;
        assert!(got.starts_with("HTTP/1.1 200") && got.ends_with("well"), "{got}");
        assert!(site.get("/other").await.starts_with("HTTP/1.1 50"));
    }
    let _process = Process::start(port).await;
    becomes(&site, 0, Status::Up).await;
    while !site.get("/other").await.ends_with("well") {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
