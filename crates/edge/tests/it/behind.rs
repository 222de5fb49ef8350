//! Back ends that are spoken to over TLS: who is believed, and for which name.

use std::{path::PathBuf, time::Duration};

use throng_core::{Clock, Shutdown, Trigger};
use throng_edge::{Certificates, Edge, Listener, Trust, Upstream};
use tokio::{net::TcpListener, task::JoinHandle};

use crate::{
    tls::Issuer,
    wire::{BackEnd, bypass, ok, start},
};

/// A back end that speaks TLS alone, with a certificate for these names.
struct Secured {
    url: String,
    _trigger: Trigger,
    task: JoinHandle<throng_edge::Result<()>>,
}

impl Drop for Secured {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn secured(issuer: &Issuer, names: &[&str], back_end: &BackEnd) -> Secured {
    let certificates = Certificates::from_files([issuer.issue("back", names)]).unwrap();
    let upstream = Upstream::http(&back_end.url()).unwrap();
    let edge = Edge::new(bypass(), vec![upstream], &Clock::system()).unwrap();
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", socket.local_addr().unwrap());
    let (trigger, shutdown) = Shutdown::pair();
    let listeners = [Listener::tls(socket, &certificates)];
    let task =
        tokio::spawn(async move { edge.serve_on(listeners, shutdown, Duration::ZERO).await });
    Secured { url, _trigger: trigger, task }
}

/// What a visitor gets from an edge before one back end, over the ways that there are.
async fn got(url: &str, trust: &Trust) -> String {
    let upstream = Upstream::trusted(url, trust).unwrap();
    let running = start(Edge::new(bypass(), vec![upstream], &Clock::system()).unwrap()).await;
    running.get("/page").await
}

#[tokio::test]
async fn a_back_end_is_spoken_to_over_tls_whatever_is_asked_and_however_long_the_answer() {
    let issuer = Issuer::new();
    let long: &'static str = Box::leak("0123456789abcdef".repeat(100_000).into_boxed_str());
    let back_end = BackEnd::new(move |request| match request.starts_with("POST") {
        true => ok("", "posted"),
        false if request.contains("/long") => ok("", long),
        false => ok("Cache-Control: max-age=60\r\n", "a page"),
    })
    .await;
    let site = secured(&issuer, &["127.0.0.1"], &back_end).await;
    let trust = Trust { ca: Some(issuer.path("ca.pem")), ..Trust::default() };
    for config in [bypass(), throng_edge::Config::default()] {
        let upstream = Upstream::trusted(&site.url, &trust).unwrap();
        let running = start(Edge::new(config, vec![upstream], &Clock::system()).unwrap()).await;
        let mut client = running.connect().await;
        for _ in 0..3 {
            assert!(client.get("/page", "").await.ends_with("a page"));
            let answer = client.get("/long", "Cookie: sessionid=1\r\n").await;
            assert!(answer.ends_with(long), "{} bytes", answer.len());
        }
        let post = "POST /form HTTP/1.1\r\nhost: example.org\r\ncontent-length: 4\r\n\r\na=bc";
        assert!(client.ask(post).await.ends_with("posted"));
    }
    assert!(back_end.last().contains("\r\n\r\na=bc"), "{}", back_end.last());
}

#[tokio::test]
async fn a_certificate_for_another_name_or_by_somebody_else_is_no_answer_unless_any_will_do() {
    let (issuer, stranger) = (Issuer::new(), Issuer::new());
    let back_end = BackEnd::page("", "hello").await;
    let site = secured(&issuer, &["app.internal"], &back_end).await;
    let trust = |issuer: &Issuer, name: Option<&str>| Trust {
        ca: Some(issuer.path("ca.pem")),
        name: name.map(str::to_owned),
        ..Trust::default()
    };
    assert!(got(&site.url, &trust(&issuer, Some("app.internal"))).await.ends_with("hello"));
    for refused in [
        trust(&issuer, None),
        trust(&issuer, Some("other.internal")),
        trust(&stranger, Some("app.internal")),
        Trust { name: Some("app.internal".to_owned()), ..Trust::default() },
    ] {
        let answer = got(&site.url, &refused).await;
        assert!(answer.starts_with("HTTP/1.1 50"), "{refused:?}: {answer}");
    }
    assert_eq!(back_end.requests(), 1, "nobody else was told anything");
    let blind = Trust { is_blind: true, ..Trust::default() };
    assert!(got(&site.url, &blind).await.ends_with("hello"));
}

#[test]
fn what_nobody_could_be_believed_by_is_told_before_anything_starts() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str, text: &str| -> PathBuf {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let said = |url: &str, trust: &Trust| Upstream::trusted(url, trust).unwrap_err().to_string();
    let by = |ca: PathBuf| Trust { ca: Some(ca), ..Trust::default() };
    for (trust, words) in [
        (by(folder.path().join("none.pem")), "none.pem`: No such file"),
        (by(path("empty.pem", "")), "empty.pem` holds no `BEGIN CERTIFICATE`"),
        (
            Trust { name: Some("no name".to_owned()), ..Trust::default() },
            "`no name` is no name that a certificate can be for",
        ),
    ] {
        let said = said("https://10.0.0.1", &trust);
        assert!(said.contains("cannot speak HTTPS with upstream `https://10.0.0.1`: "), "{said}");
        assert!(said.contains(words), "{said}");
    }
    let plain = said("http://10.0.0.1", &by(path("ca.pem", "")));
    assert!(plain.contains("only `https://` has certificates to be believed by"), "{plain}");
}
