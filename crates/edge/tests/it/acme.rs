//! Certificates from pebble, the ACME server that Let's Encrypt tests its clients with.

use std::time::Duration;

use throng_core::{Clock, Shutdown};
use throng_edge::{Acme, Certificates, Edge, Listener, Proof, Upstream};
use tokio::net::TcpListener;

use crate::{
    authority::Authority,
    tls::Issuer,
    wire::{BackEnd, bypass},
};

/// An authority that asks for proof at these ports.
fn authority(issuer: &Issuer, ports: [u16; 2]) -> Option<Authority> {
    let files = issuer.issue("authority", &["localhost"]);
    Authority::start(&issuer.path(""), [&files.chain, &files.key], ports, 90 * 86_400)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_is_ordered_kept_and_ordered_anew() {
    let now_ms = Clock::system().now_ms();
    let (clock, hand) = Clock::manual(now_ms);
    let back_end = BackEnd::page("", "hello").await;
    let upstream = Upstream::http(&back_end.url()).unwrap();
    let edge = Edge::new(bypass(), vec![upstream], &clock).unwrap();
    let plain = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let secure = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let http_port = plain.local_addr().unwrap().port();
    let issuer = Issuer::new();
    let Some(authority) = authority(&issuer, [http_port, 1]) else { return };

    let certificates = Certificates::to_come().unwrap();
    let mut acme = Acme::new(vec!["a.example".into(), "b.example".into()], issuer.path("acme"));
    acme.directory.clone_from(&authority.directory);
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_port_80_is_closed_a_handshake_shows_the_names_and_nobody_else_is_shown_it() {
    let clock = Clock::system();
    let back_end = BackEnd::page("", "hello").await;
    let upstream = Upstream::http(&back_end.url()).unwrap();
    let edge = Edge::new(bypass(), vec![upstream], &clock).unwrap();
    let secure = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, issuer) = (secure.local_addr().unwrap(), Issuer::new());
    let Some(authority) = authority(&issuer, [1, address.port()]) else { return };
    let certificates = Certificates::to_come().unwrap();
    let mut acme = Acme::new(vec!["a.example".into(), "b.example".into()], issuer.path("acme"));
    acme.directory.clone_from(&authority.directory);
    acme.root = Some(issuer.path("ca.pem"));
    acme.proof = Proof::TlsAlpn;
    let (trigger, shutdown) = Shutdown::pair();
    let listeners = [Listener::tls(secure, &certificates)];
    let serving = edge.serve_on(listeners, shutdown.clone(), Duration::ZERO);
    let keeping = edge.keep_certified(&acme, &certificates, shutdown);
    let looking = async {
        while certificates.status().is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let mut names = certificates.status()[0].names.clone();
        names.sort();
        assert_eq!(names, ["a.example", "b.example"]);
        // The proof is gone with the order: that protocol is nobody's now.
        let tcp = tokio::net::TcpStream::connect(address).await.unwrap();
        let shaken = issuer.connector(&["acme-tls/1"]);
        let name = rustls::pki_types::ServerName::try_from("a.example").unwrap();
        assert!(shaken.connect(name, tcp).await.is_err());
        trigger.request();
    };
    let all = async { tokio::join!(serving, keeping, looking).0 };
    tokio::time::timeout(Duration::from_secs(180), all).await.expect("it comes").unwrap();
}
