//! Real processes of boxoffice, and what they answer.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};

use crate::house::boxoffice;

/// A process of boxoffice that listens; ends with the test.
pub(crate) struct Process {
    child: std::process::Child,
    /// Where it listens.
    pub(crate) address: String,
}

impl Process {
    /// The web role, on a port of its own.
    pub(crate) fn web(folder: &Path, settings: &[(&str, &str)]) -> Self {
        let listen = ("THRONG_WEB_LISTEN", "127.0.0.1:0");
        Self::start(folder, &["web"], &[settings, &[listen]].concat())
    }

    /// Any command that listens.
    pub(crate) fn start(folder: &Path, arguments: &[&str], settings: &[(&str, &str)]) -> Self {
        let mut command = boxoffice(folder).into_std();
        command
            .args(arguments)
            .envs(settings.iter().copied())
            .env("THRONG_LOG_LEVEL", "info")
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let listens = |line: String| {
            let (_, rest) = line.split_once("listen")?.1.split_once(" on http://")?;
            Some(rest.split([' ', '"', '\u{1b}']).next()?.to_owned())
        };
        let address = lines.by_ref().map_while(Result::ok).find_map(listens);
        // What it says later is not to fill the pipe.
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, address: address.expect("it listens") }
    }

    /// How many files and sockets it has open.
    pub(crate) fn open_files(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.child.id())).unwrap().count()
    }

    /// Asks it to stop, and waits until it has: its exit code.
    pub(crate) fn stop(mut self) -> Option<i32> {
        terminate(self.child.id());
        self.child.wait().unwrap().code()
    }

    /// The session cookie of a member of the demo.
    pub(crate) fn sign_in(&self) -> String {
        let body = r#"{"username": "jonas", "password": "boxoffice-demo"}"#;
        let (status, answer) = self.ask("POST", "/api/v1/session", "", body);
        assert_eq!(status, 200, "{answer}");
        let cookie = answer.lines().find_map(|line| line.strip_prefix("set-cookie: sessionid="));
        format!("sessionid={}", cookie.unwrap().split(';').next().unwrap())
    }

    /// A page, which must come.
    pub(crate) fn get(&self, path: &str) -> String {
        let (status, answer) = self.ask("GET", path, "", "");
        assert_eq!(status, 200, "{path}: {answer}");
        answer.split_once("\r\n\r\n").unwrap().1.to_owned()
    }

    /// Reads until the words are there. Without a bus, a process keeps its copy for two seconds; the
    /// page's own time would be thirty, and a minute in a page cache.
    pub(crate) fn wait_for(&self, path: &str, words: &str) {
        let begun = Instant::now();
        while !self.get(path).contains(words) {
            assert!(begun.elapsed() < Duration::from_secs(20), "{words} is not seen");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Status, and the whole answer.
    pub(crate) fn ask(&self, method: &str, path: &str, cookie: &str, body: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        let (address, len) = (&self.address, body.len());
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncookie: {cookie}\r\n\
             content-type: application/json\r\ncontent-length: {len}\r\n\r\n{body}"
        );
        stream.write_all(head.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
        (status.unwrap(), answer)
    }
}

/// Asks a process to stop, as an operator does.
pub(crate) fn terminate(pid: u32) {
    let pid = rustix::process::Pid::from_raw(pid.cast_signed()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
