//! Private memcached and Redis servers on free ports, which tests may kill, stop and start again.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// A fleet that ends with the test.
pub(crate) struct Servers {
    program: &'static str,
    ports: Vec<u16>,
    processes: Vec<Child>,
}

impl Servers {
    /// `None`, after saying so, where memcached is not installed; in CI that fails.
    pub(crate) fn start(count: usize) -> Option<Self> {
        Self::start_program("memcached", count)
    }

    /// The same with one Redis that speaks TLS besides, on the port that comes with it.
    #[cfg(feature = "redis")]
    pub(crate) fn start_redis_with_tls() -> Option<(Self, u16)> {
        let server = Self::start_redis()?;
        let tls = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/tls");
        let port = free_ports(1)[0];
        for (name, value) in [
            ("tls-ca-cert-file", format!("{tls}/ca.pem")),
            ("tls-key-file", format!("{tls}/server.key")),
            ("tls-cert-file", format!("{tls}/server.pem")),
            ("tls-auth-clients", "no".to_owned()),
            ("tls-port", port.to_string()),
        ] {
            let answer = server.ask(0, &format!("CONFIG SET {name} {value}\r\n"));
            assert_eq!(answer, "+OK\r\n", "this Redis is built with TLS: {name}");
        }
        Some((server, port))
    }

    /// The same with one Redis.
    #[cfg(feature = "redis")]
    pub(crate) fn start_redis() -> Option<Self> {
        Self::start_program("redis-server", 1)
    }

    fn start_program(program: &'static str, count: usize) -> Option<Self> {
        let found = Command::new(program).arg("--version").stdout(Stdio::null()).status();
        if found.is_err() {
            assert!(std::env::var("CI").is_err(), "{program} must be installed in CI");
            println!("skip: {program} is not installed");
            return None;
        }
        let ports: Vec<u16> = free_ports(count);
        let processes = ports.iter().map(|port| launch(program, *port)).collect();
        Some(Self { program, ports, processes })
    }

    /// The fleet as a URL with these options.
    pub(crate) fn url(&self, options: &str) -> String {
        format!("memcached://{}?{options}", self.addresses().join(","))
    }

    pub(crate) fn addresses(&self) -> Vec<String> {
        self.ports.iter().map(|port| format!("127.0.0.1:{port}")).collect()
    }

    /// Kills a server at once, as a crash does.
    pub(crate) fn kill(&mut self, server: usize) {
        self.processes[server].kill().expect("the server is ours to kill");
        self.processes[server].wait().expect("a killed server ends");
    }

    /// Starts it again, empty, where it was.
    pub(crate) fn start_again(&mut self, server: usize) {
        self.processes[server] = launch(self.program, self.ports[server]);
    }

    /// Stops a server (`STOP`) so that it keeps its connections and answers nothing, or lets it go
    /// on (`CONT`).
    pub(crate) fn signal(&self, server: usize, signal: &str) {
        let id = self.processes[server].id().to_string();
        let sent = Command::new("kill").args([&format!("-{signal}"), &id]).status();
        assert!(sent.expect("there is a kill").success());
        // The signal is sent; that all threads have stopped takes until they are scheduled.
        while signal == "STOP" && !is_stopped(&id) {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Does to a key what an expiry does, without waiting for its seconds to pass: it is due, and in
    /// its grace of a minute.
    pub(crate) fn expire(&self, server: usize, key: &str) {
        let (command, done) = match self.program {
            "memcached" => (format!("md {key} I\r\n"), "HD\r\n"),
            _ => (format!("PEXPIRE {key} 59999\r\n"), ":1\r\n"),
        };
        assert_eq!(self.ask(server, &command), done);
    }

    /// Waits until `key` holds something else than `old` on a server.
    pub(crate) fn wait_for_other(&self, server: usize, key: &str, old: &str) -> String {
        let started = Instant::now();
        loop {
            // memcached's classic `get` reads a stale item without taking its lease.
            let answer = self.ask(server, &format!("get {key}\r\n"));
            let value = answer.split("\r\n").nth(1).unwrap_or("").to_owned();
            if !value.is_empty() && value != "END" && value != old {
                return value;
            }
            assert!(started.elapsed() < Duration::from_secs(60), "`{key}` is loaded anew");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Asks a server itself, past the client.
    pub(crate) fn ask(&self, server: usize, command: &str) -> String {
        ask(self.ports[server], command).expect("the server answers")
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        for process in &mut self.processes {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

fn launch(program: &str, port: u16) -> Child {
    let mut command = Command::new(program);
    let port_text = port.to_string();
    let question = if program == "memcached" {
        command.args(["-l", "127.0.0.1", "-p", &port_text, "-U", "0", "-m", "64", "-t", "1"]);
        // As root it wants to be told who to be; otherwise it ignores the wish.
        command.args(["-u", "nobody"]);
        "version\r\n"
    } else {
        command.args(["--bind", "127.0.0.1", "--port", &port_text, "--save", ""]);
        "PING\r\n"
    };
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let process = command.spawn().expect("the server starts");
    let started = Instant::now();
    while ask(port, question).is_none_or(|answer| answer.is_empty()) {
        assert!(started.elapsed() < Duration::from_secs(20), "{program} answers on port {port}");
        std::thread::sleep(Duration::from_millis(10));
    }
    process
}

fn is_stopped(process: &str) -> bool {
    let threads = std::fs::read_dir(format!("/proc/{process}/task")).expect("it is running");
    threads.flatten().all(|thread| {
        let stat = std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('T'))
    })
}

fn ask(port: u16, command: &str) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    stream.write_all(command.as_bytes()).ok()?;
    let mut answer = [0; 4_096];
    let len = stream.read(&mut answer).ok()?;
    Some(String::from_utf8_lossy(&answer[..len]).into_owned())
}

/// Ports that are free now: all are held until all are known.
fn free_ports(count: usize) -> Vec<u16> {
    let bind = |_| TcpListener::bind("127.0.0.1:0").expect("there are free ports");
    let held: Vec<TcpListener> = (0..count).map(bind).collect();
    let port = |held: &TcpListener| held.local_addr().expect("it is bound").port();
    held.iter().map(port).collect()
}
