//! `throng edge` as a process, before a back end of a few lines.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use crate::running::Running;

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

/// Where an edge listens, and what it logs after that: until it ends or says nothing for a minute.
fn address(running: &mut Running) -> (String, impl Iterator<Item = String> + use<>) {
    let logged = BufReader::new(running.0.stderr.take().unwrap()).lines().map_while(Result::ok);
    let (heard, lines) = std::sync::mpsc::channel();
    thread::spawn(move || logged.for_each(|line| drop(heard.send(line))));
    let mut lines = std::iter::from_fn(move || lines.recv_timeout(Duration::from_secs(60)).ok());
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
fn an_address_that_cannot_be_listened_on_is_told_with_its_flag() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    for (listen, reason) in [
        (taken.as_str(), "another program listens there"),
        ("127.0.0.1", "invalid socket address, which is written `127.0.0.1:8080`"),
    ] {
        let arguments = ["--upstream", "http://127.0.0.1:1", "--listen", listen];
        let output = edge(&arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        let said = String::from_utf8(output.stderr).unwrap();
        let wants = format!("cannot listen on `{listen}`: {reason}; `--listen` sets another");
        assert!(said.contains(&wants), "{said}");
    }
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
        lines.find(|line| line.contains(words)).expect("the edge says it");
    };
    write(&two, "wait = 5");
    hear("edge.toml:7: `upstream[0].wait`: there is no such key here; there are `url`, `ca`");
    assert!(get(&address, "/").ends_with("one"));
    write(&two, "");
    hear("read again, back ends: 1");
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
    assert!(said.contains("edge.toml: good, 1 back end"), "{said}");
    let (code, said) = check("[[upstream]]\nurl = \"http://127.0.0.1:1\"\nweigth = 3\n");
    assert_eq!(code, Some(2));
    assert!(
        said.contains(
            "edge.toml:3: `upstream[0].weigth`: there is no such key; did you mean `weight`?"
        ),
        "{said}"
    );
    let (code, said) = check("[[upstream]]\nurl = \"https://127.0.0.1:1\"\nca = \"none.pem\"\n");
    assert_eq!(code, Some(2));
    let wrong = "edge.toml:2: `upstream[0].url`: cannot speak HTTPS with upstream `https://127.0.0.1:1`: cannot read `";
    assert!(said.contains(wrong) && said.contains("none.pem`: No such file"), "{said}");
    let (code, said) =
        check("[limits]\nmax_connections = 0\n[[upstream]]\nurl = \"http://127.0.0.1:1\"");
    assert_eq!(code, Some(2));
    assert!(said.contains("edge.toml:2: `limits.max_connections`: 0: nothing could"), "{said}");
    let output = edge(&["check", "--json", file.to_str().unwrap()]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let said: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&said["line"], &said["is_good"]), (&2.into(), &false.into()));
    assert_eq!(said["key"], "limits.max_connections");
    let pages = folder.path().join("pages");
    let (code, _) = check(&format!("disk_folder = {pages:?}\n[[upstream]]\nurl = \"http://a:1\""));
    assert!(code == Some(0) && !pages.exists());
}

/// Asks over and over, over connections that live as long as the edge lets them; how often it got
/// its page, and everything else that it got.
fn visitor(address: String, is_over: Arc<AtomicBool>) -> thread::JoinHandle<(usize, Vec<String>)> {
    thread::spawn(move || {
        let (mut good, mut failures) = (0, Vec::new());
        let mut connection: Option<(BufReader<TcpStream>, Instant)> = None;
        while !is_over.load(Ordering::Relaxed) {
            // Like any client, it does not trust a connection that has rested for long.
            let rested = connection.take().filter(|(_, since)| since.elapsed() < REST);
            let mut stream = rested.map(|(stream, _)| stream).unwrap_or_else(|| {
                BufReader::new(TcpStream::connect(&address).expect("nobody is refused"))
            });
            let ask = b"GET /page HTTP/1.1\r\nhost: example.org\r\n\r\n";
            stream.get_mut().write_all(ask).unwrap();
            let mut head = String::new();
            while !head.ends_with("\r\n\r\n") {
                match stream.read_line(&mut head) {
                    Ok(1..) => {}
                    ended => {
                        failures.push(format!("{ended:?} after {head:?}"));
                        break;
                    }
                }
            }
            let mut page = [0; 5];
            match stream.read_exact(&mut page) {
                Ok(()) if &page == b"hello" => good += 1,
                read => failures.push(format!("{read:?}: {head}")),
            }
            if !head.contains("connection: close") {
                connection = Some((stream, Instant::now()));
            }
        }
        (good, failures)
    })
}

const REST: Duration = Duration::from_millis(300);

/// Ends a process that a test knows by its id alone.
struct Stopped(String);

impl Drop for Stopped {
    fn drop(&mut self) {
        let _ = Command::new("kill").args(["-TERM", &self.0]).status();
    }
}

#[test]
fn a_restart_under_load_costs_no_visitor_anything_and_one_that_fails_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (file, pid) = (folder.path().join("edge.toml"), folder.path().join("edge.pid"));
    let upstream = back_end("hello");
    let good = format!("listen = \"127.0.0.1:0\"\n[[upstream]]\nurl = \"{upstream}\"\n");
    std::fs::write(&file, &good).unwrap();
    let arguments = ["--file", file.to_str().unwrap(), "--pid-file", pid.to_str().unwrap()];
    let mut running = Running(edge(&arguments).spawn().unwrap());
    let (address, mut said) = address(&mut running);
    let is_over = Arc::new(AtomicBool::new(false));
    let visitors: Vec<_> = (0..8).map(|_| visitor(address.clone(), Arc::clone(&is_over))).collect();

    let first = running.0.id().to_string();
    std::fs::write(&file, format!("{good}wrong = 1\n")).unwrap();
    assert!(Command::new("kill").args(["-USR2", &first]).status().unwrap().success());
    let carries_on = said.find(|line| line.contains("this one carries on"));
    assert!(carries_on.unwrap().contains("exit status: 2"));

    std::fs::write(&file, good).unwrap();
    let reload = || {
        let said = edge(&["reload", "--pid-file", pid.to_str().unwrap()]).output().unwrap();
        assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
        std::fs::read_to_string(&pid).unwrap().trim().to_owned()
    };
    let second = Stopped(reload());
    assert_ne!(second.0, first);
    assert!(running.0.wait().unwrap().success(), "the first one has finished what it had");
    let third = Stopped(reload());
    assert!(get(&address, "/page").ends_with("hello"));

    is_over.store(true, Ordering::Relaxed);
    let mut served = 0;
    for visitor in visitors {
        let (good, failures) = visitor.join().unwrap();
        assert!(failures.is_empty(), "{} failed, the first: {}", failures.len(), failures[0]);
        served += good;
    }
    println!("{served} served while {first}, {} and {} took turns", second.0, third.0);
    assert!(served > 100);
}

#[test]
fn https_comes_from_flags_as_well_as_from_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let rcgen::CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(["a.example".to_owned()]).unwrap();
    std::fs::write(path("a.pem"), cert.pem()).unwrap();
    std::fs::write(path("a.key"), signing_key.serialize_pem()).unwrap();
    let upstream = back_end("hello");
    let plain = ["--listen", "127.0.0.1:0", "--upstream", &upstream];
    let (chain, key) = (path("a.pem"), path("a.key"));
    let secure = ["--tls-listen", "127.0.0.1:0", "--certificate", &chain, "--key", &key];
    let all = [&plain[..], &secure, &["--redirect-https"]].concat();
    let mut running = Running(edge(&all).spawn().unwrap());
    let (address, mut lines) = address(&mut running);
    let port = |line: String| {
        Some(line.split("listens on https://127.0.0.1:").nth(1)?.split('"').next()?.to_owned())
    };
    let port = lines.find_map(port).unwrap();
    assert!(get(&address, "/a").contains(&format!("location: https://example.org:{port}/a\r\n")));

    let file = folder.path().join("edge.toml");
    let check = |tls: &str| {
        let text = format!("[[upstream]]\nurl = \"{upstream}\"\n[tls]\n{tls}");
        std::fs::write(&file, text).unwrap();
        let output = edge(&["check", file.to_str().unwrap()]).output().unwrap();
        String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
    };
    let pair = |chain: &str, key: &str| {
        format!("[[tls.certificate]]\nchain = \"{chain}\"\nkey = \"{key}\"\n")
    };
    assert!(check(&pair("a.pem", "a.key")).contains("good"), "{}", check(&pair("a.pem", "a.key")));
    assert!(check("").contains("`[tls]` has no certificate; add `[[tls.certificate]]`"));
    let said = check(&pair("b.pem", "a.key"));
    let wants = "edge.toml:5: `tls.certificate[0]`: cannot use the certificate in";
    assert!(said.contains(wants), "{said}");
    assert!(check(&pair("a.pem", "a.pem")).contains("no private key"));
    let odd = edge(&[&plain[..], &secure, &["--key", &key]].concat()).output().unwrap();
    let said = String::from_utf8(odd.stderr).unwrap();
    assert!(said.contains("--certificate is there 1 times and --key 2 times"), "{said}");
}
