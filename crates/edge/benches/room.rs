//! What the edge costs beside Debian's "varnishd", "nginx" and "haproxy": one JSON object a line, read
//! by `cargo xtask bench edge`.
//!
//! Each server has one core by "taskset", "wrk" and the origin have the other. Logs are on everywhere:
//! ours as JSON in a file, nginx's buffered in a file, HAProxy's in a ring in memory, Varnish's in
//! shared memory; pages vary on Accept-Encoding and carry tags. CPU time is that of the server with all
//! its processes, from /proc, and of several rounds in turn the best counts.

#![expect(clippy::unwrap_used, reason = "a bench stops at the first thing that goes wrong")]

#[path = "../tests/it/peers.rs"]
mod peers;
#[path = "room/purge.rs"]
mod purge;
#[path = "room/serve.rs"]
mod serve;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use peers::{Peer, Setting, free_port};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["origin", port] => return serve::origin(port.parse().unwrap()),
        ["edge", port, origin, log, mib] => {
            return serve::edge(
                port.parse().unwrap(),
                origin,
                Path::new(log),
                mib.parse().unwrap(),
            );
        }
        _ => {}
    }
    let folder = PathBuf::from(format!("/dev/shm/edge-bench-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let only = std::env::var("EDGE_BENCH_ONLY").unwrap_or_default();
    let wants = |case: &str| only.is_empty() || case.starts_with(&only);
    if wants("hit") || wants("pass") || wants("mix") {
        loads(&folder, &wants);
    }
    if wants("purge") {
        purge::run();
    }
    let _ = fs::remove_dir_all(&folder);
}

/// A load on every server.
struct Case {
    name: &'static str,
    path: &'static str,
    fields: &'static [&'static str],
    /// What `wrk` runs in the place of one path.
    script: Option<&'static str>,
    /// Of the ratio of CPU, ours to theirs.
    target: &'static str,
    with_varnish: bool,
}

const CASES: [Case; 4] = [
    Case {
        name: "hit 1 KB",
        path: "/s/1000/a",
        fields: &["Accept-Encoding: gzip, deflate, br"],
        script: None,
        target: "ratio <= 0.9",
        with_varnish: true,
    },
    Case {
        name: "hit 10 KB",
        path: "/s/10000/a",
        fields: &["Accept-Encoding: gzip, deflate, br"],
        script: None,
        target: "ratio <= 0.9",
        with_varnish: true,
    },
    Case {
        name: "pass 1 KB",
        path: "/s/1000/a",
        fields: &["Cookie: sessionid=abc"],
        script: None,
        target: "ratio <= 1.0",
        with_varnish: false,
    },
    Case {
        name: "mix 95/5, 10 KB",
        path: "/",
        fields: &[],
        script: Some(MIX),
        target: "",
        with_varnish: true,
    },
];

/// A thousand pages that everybody wants, and a tail of two gigabytes.
const MIX: &str = "math.randomseed(7)
request = function()
  local path
  if math.random() < 0.95 then path = '/s/10000/hot' .. math.random(1000)
  else path = '/s/10000/tail' .. math.random(200000) end
  return wrk.format('GET', path)
end
";

fn loads(folder: &Path, wants: &dyn Fn(&str) -> bool) {
    let own = std::env::current_exe().unwrap();
    let (origin, port) = (free_port(), free_port());
    let _origin = Own::start(
        Command::new("taskset").args(["-c", "1"]).arg(&own).args(["origin", &origin.to_string()]),
    );
    let log = folder.join("edge.log");
    let _edge = Own::start(
        Command::new("taskset")
            .args(["-c", "0"])
            .arg(&own)
            .args(["edge", &port.to_string(), &format!("http://127.0.0.1:{origin}")])
            .arg(&log)
            .arg(CACHE_MIB.to_string()),
    );
    let setting = Setting { origin, folder, cache_mib: CACHE_MIB, under: &["taskset", "-c", "0"] };
    let peers = [Peer::varnish(&setting), Peer::nginx(&setting), Peer::haproxy(&setting)];
    let peers: Vec<Peer> = peers.into_iter().flatten().collect();
    let ours = (port, _edge.0.id());
    for case in CASES.iter().filter(|case| wants(case.name)) {
        let servers: Vec<(&str, u16, u32)> = std::iter::once(("throng", ours.0, ours.1))
            .chain(peers.iter().map(|peer| (peer.name, peer.port, peer.pid())))
            .filter(|(name, ..)| case.with_varnish || *name != "Varnish")
            .collect();
        let mut best = vec![(f64::MAX, 0_f64); servers.len()];
        for round in 0..=ROUNDS {
            for (at, (_, port, pid)) in servers.iter().enumerate() {
                let (cpu_us, rate) = load(case, *port, *pid, folder);
                // The first fills caches.
                if round > 0 {
                    best[at] = (best[at].0.min(cpu_us), best[at].1.max(rate));
                }
            }
            let _ = fs::File::create(&log);
        }
        for (at, (name, ..)) in servers.iter().enumerate().skip(1) {
            let line = |what: &str, unit: &str, ours: f64, peer: f64, target: &str| {
                let case = format!("{}, {what}", case.name);
                let line = serde_json::json!({
                    "case": case, "unit": unit, "ours": ours, "peer": peer, "peer_name": name,
                    "target": target,
                });
                println!("{line}");
            };
            line("CPU", "us", best[0].0, best[at].0, case.target);
            line("rate", "requests/s", best[0].1, best[at].1, "");
        }
    }
}

/// Microseconds of CPU for each request, and requests a second.
fn load(case: &Case, port: u16, pid: u32, folder: &Path) -> (f64, f64) {
    let mut wrk = Command::new("taskset");
    wrk.args(["-c", "1", "wrk", "-t1", "-c64", "-d2s"]);
    for field in case.fields {
        wrk.args(["-H", field]);
    }
    if let Some(script) = case.script {
        let file = folder.join("mix.lua");
        fs::write(&file, script).unwrap();
        wrk.arg("-s").arg(file);
    }
    let before = cpu(pid);
    let output = wrk.arg(format!("http://127.0.0.1:{port}{}", case.path)).output().unwrap();
    let spent = cpu(pid).saturating_sub(before);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(!text.contains("Non-2xx"), "{text}");
    let requests = text.lines().find_map(|line| line.trim().split_once(" requests in "));
    let rate = text.lines().find_map(|line| line.strip_prefix("Requests/sec:"));
    let (Some((requests, _)), Some(rate)) = (requests, rate) else { panic!("wrk said {text}") };
    let requests: f64 = requests.parse().unwrap();
    (spent.as_secs_f64() * 1e6 / requests, rate.trim().parse().unwrap())
}

/// CPU time of a process and its living descendants.
fn cpu(pid: u32) -> Duration {
    let mut processes = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Ok(text) = fs::read_to_string(entry.path().join("stat")) else { continue };
        let Some((own, rest)) = text.split_once(" (") else { continue };
        let Some((_, rest)) = rest.rsplit_once(") ") else { continue };
        let fields: Vec<&str> = rest.split(' ').collect();
        let number = |at: usize| fields[at].parse::<u64>().unwrap_or(0);
        processes.push((own.parse::<u64>().unwrap_or(0), number(1), number(11) + number(12)));
    }
    let (mut family, mut ticks) = (vec![u64::from(pid)], 0);
    while let Some(pid) = family.pop() {
        ticks += processes.iter().filter(|one| one.0 == pid).map(|one| one.2).sum::<u64>();
        family.extend(processes.iter().filter(|one| one.1 == pid).map(|one| one.0));
    }
    Duration::from_millis(ticks * 10)
}

/// A process of ours, ended when dropped.
struct Own(Child);

impl Own {
    fn start(command: &mut Command) -> Self {
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let mut own = Self(child);
        // It says one word when it listens.
        let mut word = [0; 1];
        let stdout = own.0.stdout.as_mut().unwrap();
        std::io::Read::read_exact(stdout, &mut word).unwrap();
        own
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Elapsed milliseconds.
fn ms(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}

const ROUNDS: usize = 3;
const CACHE_MIB: u64 = 256;
