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

/// A back end that answers every request with `page`; its URL.
fn back_end(page: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let mut head = [0; 4096];
            if matches!(stream.read(&mut head), Ok(1..)) {
                let head = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length:";
                let _ = write!(stream, "{head} {}\r\n\r\n{page}", page.len());
            }
        }
    });
    url
}

/// Where an edge listens, and what it logs after that.
fn address(running: &mut Running) -> (String, impl Iterator<Item = String> + use<>) {
    let mut lines = BufReader::new(running.0.stderr.take().unwrap()).lines().map_while(Result::ok);
    let address = lines
        .find_map(|line| {
            Some(line.split("listens on http://").nth(1)?.split('"').next()?.to_owned())
        })
        .expect("the address in the log");
    (address, lines)
}

fn get(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    let host = "host: example.org\r\nconnection: close";
    write!(stream, "GET {path} HTTP/1.1\r\n{host}\r\n\r\n").unwrap();
    let mut all = String::new();
    stream.read_to_string(&mut all).unwrap();
    all
}

#[test]
fn the_edge_command_serves_caches_logs_and_stops_when_asked() {
    let upstream = back_end("hello");
    let arguments = ["--listen", "127.0.0.1:0", "--access-log", "--upstream", &upstream];
    let mut running = Running(edge(&arguments).spawn().unwrap());
    let (address, _lines) = address(&mut running);
    assert!(get(&address, "/a").ends_with("hello"));
    assert!(get(&address, "/a").contains("cache-status: throng; hit"));

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

#[test]
fn an_edge_follows_its_file_and_keeps_the_old_one_when_the_new_one_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("edge.toml");
    let write = |upstream: &str, more: &str| {
        let head = "listen = \"127.0.0.1:0\"\n[policy]\ndefault_ttl_ms = 0\ngrace_ms = 0\n";
        std::fs::write(&file, format!("{head}[[upstream]]\nurl = \"{upstream}\"\n{more}")).unwrap();
    };
    let (one, two) = (back_end("one"), back_end("two"));
    write(&one, "");
    let mut running = Running(edge(&["--file", file.to_str().unwrap()]).spawn().unwrap());
    let (address, mut lines) = address(&mut running);
    assert!(get(&address, "/").ends_with("one"));

    let id = running.0.id().to_string();
    let mut hear = |words: &str| {
        assert!(Command::new("kill").args(["-HUP", &id]).status().unwrap().success());
        lines.find(|line| line.contains(words)).expect("the edge logs until it ends");
    };
    write(&two, "wait = 5");
    hear("edge.toml:7: unknown field `wait`, expected one of `url`, `weight`, `drain`");
    assert!(get(&address, "/").ends_with("one"));
    write(&two, "");
    hear("read again, 1 back ends");
    assert!(get(&address, "/").ends_with("two"));
    write(&two, "[limits]\nretries = 1");
    hear("the rest waits for a restart");
}

#[test]
fn a_file_is_checked_without_starting_anything() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("edge.toml");
    let check = |text: &str| {
        std::fs::write(&file, text).unwrap();
        let output = edge(&["check", file.to_str().unwrap()]).output().unwrap();
        let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        (output.status.code(), said)
    };
    let (code, said) = check("[[upstream]]\nurl = \"http://127.0.0.1:1\"\n");
    assert_eq!(code, Some(0));
    assert!(said.contains("edge.toml: good, 1 back ends"), "{said}");
    let (code, said) = check("[[upstream]]\nurl = \"http://127.0.0.1:1\"\nweigth = 3\n");
    assert_eq!(code, Some(2));
    assert!(said.contains("edge.toml:3: unknown field `weigth`, expected one of"), "{said}");
    let (code, said) =
        check("[limits]\nmax_connections = 0\n[[upstream]]\nurl = \"http://127.0.0.1:1\"");
    assert_eq!(code, Some(2));
    assert!(said.contains("cannot use max_connections = 0"), "{said}");
}
