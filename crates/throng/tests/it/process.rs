//! Real processes: started, stopped, restarted under load.
//!
//! The test program starts itself again: with `THRONG_TEST_SITE` set, the test `site_process` is the
//! site of these tests and not a test.

use std::{
    ffi::OsString,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    process::{Child, ChildStderr, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc::{self, Receiver},
    },
    thread,
    time::Duration,
};

use tempfile::TempDir;

use crate::site::app;

#[test]
fn site_process() {
    if std::env::var_os("THRONG_TEST_SITE").is_some() {
        let words = std::env::var("THRONG_TEST_WORDS").unwrap_or_default();
        let words = words.split_terminator('\u{1f}').map(OsString::from);
        let _ = app().run_with(std::iter::once("shop".into()).chain(words));
    }
}

/// A running site.
pub(crate) struct Site {
    child: Child,
    pub(crate) address: String,
    lines: Receiver<String>,
    seen: Vec<String>,
    pub(crate) folder: TempDir,
}

impl Site {
    pub(crate) fn start(vars: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "process::site_process", "--nocapture"])
            .current_dir(&folder)
            .env("THRONG_TEST_SITE", "1")
            .env("THRONG_WEB_LISTEN", "127.0.0.1:0")
            .envs(vars.iter().copied())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = read_lines(child.stderr.take().unwrap());
        let address = String::new();
        let mut site = Self { child, address, lines, seen: Vec::new(), folder };
        let line = site.wait_for("listening on http://");
        let (_, rest) = line.split_once("http://").unwrap();
        site.address = rest.split([' ', '"']).next().unwrap().to_owned();
        site
    }

    /// The next log line that holds `words`.
    pub(crate) fn wait_for(&mut self, words: &str) -> String {
        loop {
            let line = self.lines.recv_timeout(Duration::from_secs(60));
            let line = line.unwrap_or_else(|_| panic!("no {words:?} in {:#?}", self.seen));
            self.seen.push(line.clone());
            if line.contains(words) {
                return line;
            }
        }
    }

    /// Closes the pipe that the log goes into, at the next line.
    fn stop_reading_the_log(&mut self) {
        self.lines = mpsc::channel().1;
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    fn signal(&self, signal: rustix::process::Signal) {
        kill(self.pid(), signal);
    }

    /// Asks the process to stop, and waits until it has: its exit code.
    pub(crate) fn stop(&mut self) -> Option<i32> {
        self.signal(rustix::process::Signal::TERM);
        self.exit_code()
    }

    /// Waits until the process has ended.
    fn exit_code(&mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }

    pub(crate) fn get(&self, path: &str) -> (u16, String) {
        get(&mut TcpStream::connect(&self.address).unwrap(), path, "close").unwrap()
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn kill(pid: u32, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_raw(pid.cast_signed()).unwrap();
    rustix::process::kill_process(pid, signal).unwrap();
}

fn read_lines(stderr: ChildStderr) -> Receiver<String> {
    let (sender, lines) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    lines
}

/// One request over a connection: status and the whole head and body, or nothing if it broke.
fn get(stream: &mut TcpStream, path: &str, connection: &str) -> Option<(u16, String)> {
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: {connection}\r\n\r\n");
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream.write_all(request.as_bytes()).ok()?;
    let mut text = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        let read = stream.read(&mut chunk).ok()?;
        text.extend_from_slice(&chunk[..read]);
        let seen = String::from_utf8_lossy(&text).into_owned();
        if let Some((head, body)) = seen.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            let length: Option<usize> = length.and_then(|length| length.parse().ok());
            if read == 0 || length.is_some_and(|length| body.len() >= length) {
                let status = head.split(' ').nth(1)?.parse().ok()?;
                return Some((status, seen));
            }
        } else if read == 0 {
            return None;
        }
    }
}

#[test]
fn a_site_says_what_it_runs_on_answers_and_stops_when_asked() {
    let mut site = Site::start(&[]);
    let rooms = site.seen.join("\n");
    for room in [
        "database is sqlite:data/site.db",
        "cache is memory:",
        "queue is database:",
        "bus is memory:",
    ] {
        assert_eq!(rooms.matches(room).count(), 1, "{rooms}");
    }
    let (status, text) = site.get("/shows/7");
    assert_eq!(status, 200);
    let line = site.wait_for("GET /shows/{id} 200");
    let id = text.lines().find_map(|line| line.strip_prefix("x-request-id: ")).unwrap();
    assert!(line.contains(id), "{line}");
    site.signal(rustix::process::Signal::TERM);
    assert_eq!(site.exit_code(), Some(0));
}

#[test]
fn a_broken_page_is_logged_once_under_the_id_that_the_visitor_sees() {
    let mut site = Site::start(&[("THRONG_LOG_FORMAT", "json")]);
    for (path, words) in [("/broken", "the disk is on fire"), ("/panic", "a defect")] {
        let (status, text) = site.get(path);
        assert_eq!(status, 500);
        let id = text.split_once("<code>").unwrap().1.split_once("</code>").unwrap().0.to_owned();
        site.wait_for(&format!("GET {path} 500"));
        let told: Vec<serde_json::Value> = site
            .seen
            .iter()
            .filter_map(|line| serde_json::from_str(line).ok())
            .filter(|line: &serde_json::Value| line["request.id"] == id && line["level"] == "ERROR")
            .collect();
        assert_eq!(told.len(), 1, "{:#?}", site.seen);
        assert!(told[0]["message"].as_str().unwrap().contains(words), "{told:#?}");
    }
}

#[test]
fn strangers_rubbish_does_not_fill_the_log() {
    let mut site = Site::start(&[
        ("THRONG_LOG_REQUESTS", "false"),
        ("THRONG_LOG_LEVEL", "debug,throng_db=info,throng_queue=info,sqlx=info"),
    ]);
    let before = site.seen.len();
    for number in 0..200 {
        let mut stream = TcpStream::connect(&site.address).unwrap();
        let rubbish = match number % 4 {
            0 => {
                "GET /name HTTP/1.1\r\nhost: x\r\ncookie: sessionid=forged:x:y\r\nconnection: close\r\n\r\n"
            }
            1 => {
                "POST /name HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\nconnection: close\r\n\r\na=b"
            }
            2 => "\x16\x03\x01 this is not HTTP\r\n\r\n",
            _ => "GET /%ff%fe HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
        };
        stream.write_all(rubbish.as_bytes()).unwrap();
        let _ = stream.read_to_end(&mut Vec::new());
    }
    site.signal(rustix::process::Signal::TERM);
    site.wait_for("stopped");
    let said = site.seen.len() - before;
    assert!(said < 20, "{:#?}", site.seen);
}

#[test]
fn a_site_whose_log_nobody_reads_any_more_goes_on() {
    let mut site = Site::start(&[]);
    site.stop_reading_the_log();
    for page in ["/", "/panic", "/broken", "/", "/"] {
        let status = if matches!(page, "/") { 200 } else { 500 };
        assert_eq!(site.get(page).0, status);
    }
    assert_eq!(site.stop(), Some(0));
}

#[test]
fn what_is_under_way_finishes_and_streams_end_when_the_site_stops() {
    let mut site = Site::start(&[]);
    let address = site.address.clone();
    let slow = thread::spawn({
        let address = address.clone();
        move || get(&mut TcpStream::connect(address).unwrap(), "/slow", "close")
    });
    let mut stream = TcpStream::connect(&address).unwrap();
    stream.write_all(b"GET /ticks HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    let mut first = [0; 512];
    assert!(stream.read(&mut first).unwrap() > 0);
    // The stream runs and so, very likely, does the slow page; if not yet, it is still accepted.
    site.signal(rustix::process::Signal::TERM);
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).unwrap();
    assert!(rest.ends_with(b"0\r\n\r\n"), "the stream ends as it should");
    let (status, text) = slow.join().unwrap().expect("the slow page came");
    assert!(status == 200 && text.ends_with("finished"), "{text}");
    assert_eq!(site.exit_code(), Some(0));
}

#[test]
fn a_restart_under_load_loses_no_request() {
    let mut site = Site::start(&[("THRONG_LOG_REQUESTS", "false")]);
    let is_over = Arc::new(AtomicBool::new(false));
    let (done, failed) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(Vec::new())));
    let visitors: Vec<_> = (0..6)
        .map(|number| {
            let (address, is_over) = (site.address.clone(), is_over.clone());
            let (done, failed) = (done.clone(), failed.clone());
            // Half keep their connection as long as the site does, half open one for each request.
            let connection = if number % 2 == 0 { "keep-alive" } else { "close" };
            thread::spawn(move || visit(&address, connection, &is_over, &done, &failed))
        })
        .collect();

    let mut processes = vec![site.pid()];
    for _ in 0..2 {
        let enough = done.load(Ordering::Relaxed) + 300;
        while done.load(Ordering::Relaxed) < enough {
            thread::yield_now();
        }
        kill(*processes.last().unwrap(), rustix::process::Signal::HUP);
        let line = site.wait_for("started the process that takes over");
        let (_, pid) = line.split_once("pid=").unwrap();
        processes.push(pid.split(' ').next().unwrap().parse().unwrap());
        site.wait_for("taking over from process");
        site.wait_for("stopped");
    }
    assert_eq!(site.exit_code(), Some(0), "the first process is gone");
    let enough = done.load(Ordering::Relaxed) + 300;
    while done.load(Ordering::Relaxed) < enough {
        thread::yield_now();
    }
    let (_, text) = site.get("/pid");
    assert!(text.ends_with(&processes[2].to_string()), "the third process answers: {text}");
    is_over.store(true, Ordering::Relaxed);
    visitors.into_iter().for_each(|visitor| visitor.join().unwrap());
    kill(processes[2], rustix::process::Signal::TERM);
    site.wait_for("stopped");
    let failed = failed.lock().unwrap();
    assert!(
        failed.is_empty(),
        "{} of {} requests: {failed:?}",
        failed.len(),
        done.load(Ordering::Relaxed)
    );
}

/// Asks for pages until it is over, as a browser would: on a new connection when the old one closed.
fn visit(
    address: &str,
    connection: &str,
    is_over: &AtomicBool,
    done: &AtomicUsize,
    failed: &Mutex<Vec<String>>,
) {
    let mut stream: Option<TcpStream> = None;
    while !is_over.load(Ordering::Relaxed) {
        let open = stream.take().map_or_else(|| TcpStream::connect(address), Ok);
        let mut open = match open {
            Ok(open) => open,
            Err(error) => return failed.lock().unwrap().push(error.to_string()),
        };
        match get(&mut open, "/pid", connection) {
            Some((200, text)) => {
                done.fetch_add(1, Ordering::Relaxed);
                let is_closed = text.contains("connection: close") || connection == "close";
                stream = (!is_closed).then_some(open);
            }
            other => failed.lock().unwrap().push(format!("{other:?}")),
        }
    }
}

#[test]
fn a_new_program_that_does_not_start_leaves_the_old_one_serving() {
    let mut site = Site::start(&[]);
    std::fs::write(site.folder.path().join("throng.toml"), "colour = 1").unwrap();
    site.signal(rustix::process::Signal::HUP);
    site.wait_for("did not take over");
    assert_eq!(site.get("/").0, 200);
    std::fs::remove_file(site.folder.path().join("throng.toml")).unwrap();
    site.signal(rustix::process::Signal::TERM);
    assert_eq!(site.exit_code(), Some(0));
}
