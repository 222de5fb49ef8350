//! `throng edge` as a process, before a back end of a few lines.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    thread,
};

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn edge(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_throng"));
    command.arg("edge").args(arguments).env_remove("THRONG_EDGE_PURGE_TOKEN");
    command
        .env("THRONG_LOG_FORMAT", "json")
        .env("THRONG_LOG_LEVEL", "info")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

#[test]
fn the_edge_command_serves_caches_logs_and_stops_when_asked() {
    let back_end = TcpListener::bind("127.0.0.1:0").unwrap();
    let upstream = format!("http://{}", back_end.local_addr().unwrap());
    thread::spawn(move || {
        for stream in back_end.incoming().map_while(Result::ok) {
            let mut stream = stream;
            let mut head = [0; 4096];
            if matches!(stream.read(&mut head), Ok(1..)) {
                let answer =
                    "HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello";
                let _ = stream.write_all(answer.as_bytes());
            }
        }
    });
    let arguments = ["--listen", "127.0.0.1:0", "--access-log", "--upstream", &upstream];
    let mut running = Running(edge(&arguments).spawn().unwrap());
    let errors = BufReader::new(running.0.stderr.take().unwrap());
    let address = errors
        .lines()
        .map_while(Result::ok)
        .find_map(|line| {
            Some(line.split("listens on http://").nth(1)?.split('"').next()?.to_owned())
        })
        .expect("the address in the log");

    let get = || {
        let mut stream = TcpStream::connect(&address).unwrap();
        stream
            .write_all(b"GET /a HTTP/1.1\r\nhost: example.org\r\nconnection: close\r\n\r\n")
            .unwrap();
        let mut all = String::new();
        stream.read_to_string(&mut all).unwrap();
        all
    };
    assert!(get().ends_with("hello"));
    assert!(get().contains("cache-status: throng; hit"));

    let id = running.0.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
    let mut lines = String::new();
    running.0.stdout.take().unwrap().read_to_string(&mut lines).unwrap();
    let caches: Vec<&str> =
        lines.lines().filter_map(|line| line.split("\"cache\":\"").nth(1)).collect();
    assert!(caches[0].starts_with("miss") && caches[1].starts_with("hit"), "{lines}");
    assert!(running.0.wait().unwrap().success());
}

#[test]
fn a_wrong_upstream_is_told_before_anything_starts() {
    let output = edge(&["--upstream", "localhost:8000"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        said.contains("cannot use upstream `localhost:8000`: only `http://host:port`"),
        "{said}"
    );
}
