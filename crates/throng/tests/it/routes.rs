//! Where the database's statements of a request went, and why: in the log, in the header, and in what
//! `db status` tells of a running process.

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};

use serde_json::Value;
use throng::testing::Boot;

use crate::{
    cli,
    clusters::{self, postgres::Postgres},
    process::Site,
    site::app,
};

/// What an answer's header says, and what the log says about the same request.
fn told(site: &mut Site, request: &str) -> (String, Value) {
    let mut stream = TcpStream::connect(&site.address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    write!(stream, "{request} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer x\r\n").unwrap();
    write!(stream, "content-length: 0\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let header = |name: &str| answer.lines().find_map(|line| line.strip_prefix(name));
    let id = header("x-request-id: ").unwrap();
    let line = site.wait_for(&format!(r#""request.id":"{id}""#));
    let line: Value = serde_json::from_str(&line).unwrap();
    (header("x-throng-route: ").unwrap_or_default().to_owned(), line["db.routes"].clone())
}

#[test]
fn log_header_and_db_status_say_where_statements_went_and_why() {
    let Some(cluster) = Postgres::start(1) else { return clusters::skip("`initdb` is missing") };
    let url = cluster.url("");
    let vars = [("THRONG_DATABASE_URL", url.as_str()), ("THRONG_LOG_FORMAT", "json")];
    let mut site = Site::start(&vars);
    let [primary, replica] = [0, 1].map(|at| format!("127.0.0.1:{}", cluster.servers[at].port));
    let (header, line) = loop {
        let seen = told(&mut site, "GET /ping");
        if seen.0.contains("fresh") {
            break seen;
        }
        assert!(seen.0.starts_with(&primary), "until the replica is known: {}", seen.0);
    };
    assert_eq!(header, format!("{replica} fresh 1"));
    assert_eq!(line, header);
    let (header, line) = told(&mut site, "POST /write");
    assert_eq!(header, format!("{primary} writes 1"));
    assert_eq!(line, header);
    assert_eq!(told(&mut site, "GET /pid"), (String::new(), Value::Null), "it asks for nothing");

    let status = |site: &Site, words: &[&str]| {
        let output = cli::run(&site.folder, &[&["db", "status"], words].concat(), &vars[..1]);
        String::from_utf8(output.stdout).unwrap()
    };
    let said: Value = serde_json::from_str(&status(&site, &["--json"])).unwrap();
    let process = &said["processes"][0];
    assert_eq!(process["pid"], site.pid(), "{said:#}");
    assert_eq!(process["roles"], serde_json::json!(["web", "worker"]));
    let [first, second] = [0, 1].map(|at| &process["database"]["servers"][at]);
    assert!(first["routes"]["writes"].as_u64().unwrap() > 0, "{process:#}");
    assert!(second["routes"]["fresh"].as_u64().unwrap() > 0, "{process:#}");
    assert_eq!((&second["name"], &second["size"]), (&replica.as_str().into(), &10.into()));
    let said = status(&site, &[]);
    let line = said.lines().find(|line| line.contains("fresh")).unwrap();
    assert!(line.contains(&replica), "{said}");
    assert!(
        !status(&site, &["--url", &url]).contains("fresh"),
        "of another database nobody is asked"
    );
    site.kill();
    assert!(status(&site, &[]).contains("no process of the site"), "who was killed is not shown");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_production_the_header_tells_nothing() {
    let Some(cluster) = Postgres::start(0) else { return clusters::skip("`initdb` is missing") };
    for (env, wanted) in [("development", "no-replica 1"), ("production", "")] {
        let boot = Boot::default().set("database.url", &cluster.url("")).set("env", env);
        let site = boot.system_clock().boot(app()).await;
        let answer = site.get("/ping").await;
        assert_eq!(answer.status(), 200);
        let header = answer.header("x-throng-route");
        assert!(header.ends_with(wanted) && header.is_empty() == wanted.is_empty(), "{header}");
        site.finish().await;
    }
}
