//! Certificates from pebble, the ACME server that Let's Encrypt tests its clients with.

use std::{
    process::{Child, Command, Stdio},
    time::Duration,
};

use throng_core::{Clock, Shutdown};
use throng_edge::{Acme, Certificates, Edge, Listener, Upstream};
use tokio::net::{TcpListener, TcpStream};

use crate::{
    tls::Issuer,
    wire::{BackEnd, bypass, free_port},
};

/// Programs that end with the test.
struct Programs(Vec<Child>);

impl Drop for Programs {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn is_installed(program: &str) -> bool {
    let found = Command::new(program).arg("-h").stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    match found {
        Ok(mut child) => child.wait().is_ok(),
        Err(_) if std::env::var_os("CI").is_some() => panic!("{program} is not installed"),
        Err(_) => {
            println!("skip: {program} is not installed");
            false
        }
    }
}

/// An authority that asks for proof at `http_port`; where its directory is.
async fn authority(issuer: &Issuer, http_port: u16) -> (Programs, String) {
    let (dns, management) = (free_port(), free_port());
    let (port, other) = (free_port(), free_port());
    let files = issuer.issue("authority", &["localhost"]);
    let config = format!(
        r#"{{"pebble": {{
            "listenAddress": "127.0.0.1:{port}", "managementListenAddress": "127.0.0.1:{other}",
            "certificate": "{}", "privateKey": "{}", "httpPort": {http_port}, "tlsPort": 1,
            "ocspResponderURL": "", "externalAccountBindingRequired": false
        }}}}"#,
        files.chain.display(),
        files.key.display()
    );
    let path = issuer.path("pebble.json");
    std::fs::write(&path, config).unwrap();
    let quiet = |command: &mut Command| {
        command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    };
    let names = quiet(Command::new("pebble-challtestsrv").args([
        "-dns01",
        &format!("127.0.0.1:{dns}"),
        "-management",
        &format!("127.0.0.1:{management}"),
        "-http01",
        "",
        "-https01",
        "",
        "-tlsalpn01",
        "",
        "-defaultIPv6",
        "",
    ]));
    let pebble = quiet(
        Command::new("pebble")
            .arg("-config")
            .arg(&path)
            .args(["-dnsserver", &format!("127.0.0.1:{dns}")])
            .env("PEBBLE_VA_NOSLEEP", "1"),
    );
    let programs = Programs(vec![names, pebble]);
    for port in [port, management] {
        while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    (programs, format!("https://localhost:{port}/dir"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_is_ordered_kept_and_ordered_anew() {
    if !is_installed("pebble") || !is_installed("pebble-challtestsrv") {
        return;
    }
    let now_ms = Clock::system().now_ms();
    let (clock, hand) = Clock::manual(now_ms);
    let back_end = BackEnd::page("", "hello").await;
    let upstream = Upstream::http(&back_end.url()).unwrap();
    let edge = Edge::new(bypass(), vec![upstream], &clock).unwrap();
    let plain = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let secure = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let http_port = plain.local_addr().unwrap().port();
    let issuer = Issuer::new();
    let (_programs, directory) = authority(&issuer, http_port).await;

    let certificates = Certificates::to_come().unwrap();
    let mut acme = Acme::new(vec!["a.example".into(), "b.example".into()], issuer.path("acme"));
    acme.directory = directory;
    acme.root = Some(issuer.path("ca.pem"));
    let (trigger, shutdown) = Shutdown::pair();
    let listeners =
        [Listener::plain(plain).sending_to_https(443), Listener::tls(secure, &certificates)];
    let serving = {
        let (edge, shutdown) = (edge.clone(), shutdown.clone());
        tokio::spawn(async move { edge.serve_on(listeners, shutdown, Duration::ZERO).await })
    };
    let keeping = {
        let (edge, acme, certificates) = (edge.clone(), acme.clone(), certificates.clone());
        let shutdown = shutdown.clone();
        tokio::spawn(async move { edge.keep_certified(&acme, &certificates, shutdown).await })
    };
    let until = async |is_there: &dyn Fn() -> bool| {
        for look in 1_u32.. {
            if is_there() {
                return;
            }
            assert!(!keeping.is_finished());
            // An order that failed is tried again a minute later, and after one that came none
            // leaves for an hour.
            let is_long = look.is_multiple_of(100);
            let step =
                if is_long { Duration::from_secs(3_600) } else { Duration::from_millis(200) };
            hand.advance(step);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    until(&|| !certificates.status().is_empty()).await;
    let first = certificates.status();
    let mut names = first[0].names.clone();
    names.sort();
    assert_eq!(names, ["a.example", "b.example"]);
    let files = acme.files();
    let mode = |path: &std::path::Path| {
        std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(path).unwrap().permissions())
    };
    assert_eq!(mode(&files.key) & 0o777, 0o600);
    assert_eq!(back_end.requests(), 0, "the authority is answered by the edge");

    // Another process finds it, and waits.
    let other = Certificates::to_come().unwrap();
    acme.bring(&other).unwrap();
    assert_eq!(other.status(), first);

    // When two thirds of its time are over there is another.
    let old = std::fs::read(&files.chain).unwrap();
    let lasts_s = u64::try_from(first[0].ends_s - first[0].begins_s).unwrap();
    hand.advance(Duration::from_secs(lasts_s / 3 * 2));
    until(&|| std::fs::read(&files.chain).unwrap() != old).await;
    trigger.request();
    let _ = serving.await;
}
