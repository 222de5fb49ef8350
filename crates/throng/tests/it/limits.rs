//! Real sockets at their limits, roles in processes of their own, and tasks across them.

use std::{
    io::{Read, Write},
    net::TcpStream,
    process::{Child, Command, Output, Stdio},
    time::Duration,
};

use crate::process::Site;

/// Runs a command of the site beside a running one, in the same folder.
fn command(site: &Site, words: &[&str]) -> Output {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "process::site_process", "--nocapture"])
        .current_dir(&site.folder)
        .env("THRONG_TEST_SITE", "1")
        .env("THRONG_TEST_WORDS", words.join("\u{1f}"))
        .output()
        .unwrap()
}

/// A worker's process beside the site; its words have the separator between them.
fn worker(site: &Site, words: &str) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "process::site_process", "--nocapture"])
        .current_dir(&site.folder)
        .env("THRONG_TEST_SITE", "1")
        .env("THRONG_TEST_WORDS", words)
        .env("THRONG_BUS_ALLOW_SPLIT", "true")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

fn said(output: &Output) -> String {
    // The test program around the command has a few words of its own.
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn headers_that_do_not_come_and_connections_that_idle_are_closed() {
    let site = Site::start(&[("THRONG_WEB_HEADER_TIMEOUT_MS", "200")]);
    for begun in ["", "GET / HTTP/1.1\r\nhost: x\r\nx-slow: "] {
        let mut stream = TcpStream::connect(&site.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream.write_all(begun.as_bytes()).unwrap();
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).unwrap();
    }
    assert_eq!(site.get("/").0, 200);
}

#[test]
fn connections_over_the_limit_wait_for_their_turn() {
    let site = Site::start(&[("THRONG_WEB_MAX_CONNECTIONS", "2")]);
    let held: Vec<_> = (0..2)
        .map(|_| {
            let mut stream = TcpStream::connect(&site.address).unwrap();
            stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
            assert!(stream.read(&mut [0; 512]).unwrap() > 0);
            stream
        })
        .collect();
    let mut third = TcpStream::connect(&site.address).unwrap();
    third.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
    third.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    assert!(third.read(&mut [0; 512]).is_err(), "not served while two others are");
    drop(held);
    third.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    assert!(third.read(&mut [0; 512]).unwrap() > 0);
}

#[test]
fn tasks_are_pushed_waited_for_shown_and_retried_from_the_command_line() {
    let site = Site::start(&[]);
    let pushed = command(&site, &["task", "push", "note", r#"{"text": "hello"}"#, "--wait", "30"]);
    assert!(said(&pushed).contains(" done"), "{pushed:?}");
    let refused =
        command(&site, &["task", "push", "note", r#"{"text": "refuse"}"#, "--wait", "30"]);
    assert!(said(&refused).contains(" dead: no such note"), "{refused:?}");
    let dead = command(&site, &["task", "dead", "--json"]);
    let line = said(&dead).lines().find(|line| line.starts_with('{')).unwrap().to_owned();
    let dead: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(dead["arguments"], serde_json::json!({"text": "refuse"}));
    assert_eq!(dead["queue"], "notes");
    let id = dead["id"].as_str().unwrap();
    assert!(said(&command(&site, &["task", "show", id])).contains("state     dead"));
    assert!(said(&command(&site, &["task", "retry", id])).contains("queued"));
    assert!(said(&command(&site, &["task", "wait", id])).contains(" dead: no such note"));
    let wrong = command(&site, &["task", "push", "note", r#"{"test": "hello"}"#]);
    let complaint = String::from_utf8_lossy(&wrong.stderr).into_owned();
    assert!(
        complaint.contains("wrong arguments for task `note`: missing field `text`"),
        "{complaint}"
    );
    assert!(said(&command(&site, &["task", "list"])).contains("REASON"));
}

#[test]
fn roles_run_in_processes_of_their_own() {
    let split = [("THRONG_BUS_ALLOW_SPLIT", "true"), ("THRONG_TEST_WORDS", "web")];
    let web = Site::start(&split);
    let (status, text) = web.get("/name");
    assert_eq!(status, 200);
    let token = text.split_once("value=\"").unwrap().1.split('"').next().unwrap().to_owned();
    let cookie = text.split_once("csrftoken=").unwrap().1.split(';').next().unwrap().to_owned();
    let mut stream = TcpStream::connect(&web.address).unwrap();
    let post = format!(
        "POST /later HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncookie: csrftoken={cookie}\r\n\
         x-csrftoken: {token}\r\ncontent-length: 0\r\n\r\n"
    );
    stream.write_all(post.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let waiting = command(&web, &["task", "counts"]);
    assert!(said(&waiting).contains("queued"), "nobody runs it yet: {waiting:?}");

    let mut worker = worker(&web, "worker");
    let listed = said(&command(&web, &["task", "list", "--json"]));
    let line = listed.lines().find(|line| line.starts_with('{')).unwrap();
    let task: serde_json::Value = serde_json::from_str(line).unwrap();
    let done = command(&web, &["task", "wait", task["id"].as_str().unwrap()]);
    worker.kill().unwrap();
    worker.wait().unwrap();
    assert!(said(&done).contains(" done"), "{done:?}");
}

#[test]
fn a_worker_takes_the_tasks_that_its_flags_name() {
    let web = Site::start(&[("THRONG_BUS_ALLOW_SPLIT", "true"), ("THRONG_TEST_WORDS", "web")]);
    let push = |name: &str, arguments: &str| {
        let pushed = said(&command(&web, &["task", "push", name, arguments, "--json"]));
        let line = pushed.lines().find(|line| line.starts_with('{')).unwrap();
        let pushed: serde_json::Value = serde_json::from_str(line).unwrap();
        pushed["id"].as_str().unwrap().to_owned()
    };
    let state = |id: &str| said(&command(&web, &["task", "show", id, "--json"]));
    let (note, shout) = (push("note", r#"{"text": "hello"}"#), push("mail.shout", "{}"));
    let finish = |words: &str, id: &str| {
        let mut worker = worker(&web, words);
        let done = said(&command(&web, &["task", "wait", id]));
        worker.kill().unwrap();
        worker.wait().unwrap();
        assert!(done.contains(" done"), "{words}: {done}");
    };
    finish("worker\u{1f}--queues\u{1f}notes,mail\u{1f}--tasks\u{1f}mail.*", &shout);
    assert!(state(&note).contains(r#""state": "queued""#), "older, and not its business");
    finish("worker\u{1f}--not\u{1f}mail.*\u{1f}--concurrency\u{1f}1", &note);

    let wrong = command(&web, &["worker", "--tasks", "mail.*,mial.*"]);
    let words = String::from_utf8_lossy(&wrong.stderr);
    let complaint = "(`--tasks`) names `mial.*`, which is no task of this program; it has: \
                     `mail.shout`, `note`";
    assert!(words.contains(complaint), "{words}");
}
