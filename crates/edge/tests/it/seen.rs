//! What the edge tells those who watch it.

use std::net::SocketAddr;

use serde_json::Value;
use throng_core::{Secret, Shutdown};
use throng_edge::Config;
use tokio::io::AsyncWriteExt;

use crate::{
    peers,
    wire::{BackEnd, Client, ok, run},
};

#[tokio::test]
async fn figures_tell_what_was_asked_how_it_fared_and_what_was_purged() {
    let back_end = BackEnd::new(|request| {
        let is_private = request.contains("/own/");
        let control = if is_private { "private" } else { "max-age=60" };
        ok(&format!("Cache-Control: {control}\r\nSurrogate-Key: k\r\n"), "0123456789")
    })
    .await;
    let config = Config { purge_token: Some(Secret::new("token")), ..Config::default() };
    let running = run(config, &[&back_end]).await;
    let listen: SocketAddr = format!("127.0.0.1:{}", peers::free_port()).parse().unwrap();
    let (_trigger, shutdown) = Shutdown::pair();
    let edge = running.edge.clone();
    let telling = tokio::spawn(async move { edge.serve_figures(listen, shutdown).await });

    let mut client = running.connect().await;
    for (target, times) in [("/events/7", 5), ("/events/8", 3), ("/own/1", 2), ("/", 2)] {
        for _ in 0..times {
            client.get(target, "").await;
        }
    }
    let purge = "PURGE / HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer token\r\nSurrogate-Key: k\r\n\
                 Soft-Purge: 1\r\n\r\n";
    client.ask(purge).await;
    running.edge.cache().ban("*/never", false);

    let told = async |target: &str| {
        let mut client = loop {
            match tokio::net::TcpStream::connect(listen).await {
                Ok(stream) => break Client::over(stream),
                Err(_) => tokio::task::yield_now().await,
            }
        };
        let answer = client.get(target, "").await;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 200") && head.contains("no-store"), "{head}");
        body.to_owned()
    };
    let json = async |target: &str| serde_json::from_str::<Value>(&told(target).await).unwrap();

    let top = json("/top").await;
    assert_eq!(top[0], serde_json::json!({ "page": "example.org/events/7", "hits": 4 }));
    assert_eq!(top[1]["hits"], 2);
    let patterns = json("/patterns").await;
    let events = &patterns[0];
    assert_eq!(
        (&events["pattern"], &events["stored"], &events["fetched"]),
        (&"/events/*".into(), &6.into(), &2.into())
    );
    assert_eq!(events["sent_bytes"], 80);
    assert!(patterns.to_string().contains(r#""pattern":"/own/*""#), "{patterns}");
    let purges = json("/purges").await;
    assert_eq!((&purges[0]["kind"], &purges[0]["what"]), (&"pattern".into(), &"*/never".into()));
    assert_eq!((&purges[1]["what"], &purges[1]["is_soft"]), (&"k".into(), &true.into()));
    let prometheus = told("/metrics").await;
    assert!(prometheus.contains("throng_edge_requests_total{cache=\"hit\"} 7"), "{prometheus}");

    let csv = told("/haproxy;csv").await;
    let mut lines = csv.lines();
    let columns: Vec<&str> = lines.next().unwrap().trim_start_matches("# ").split(',').collect();
    let rows: Vec<Vec<&str>> = lines.map(|line| line.split(',').collect()).collect();
    let of = |row: usize, name: &str| {
        rows[row][columns.iter().position(|column| *column == name).unwrap()]
    };
    assert_eq!(rows.len(), 3);
    assert_eq!((of(0, "svname"), of(0, "stot"), of(0, "hrsp_2xx")), ("FRONTEND", "13", "13"));
    assert_eq!((of(1, "pxname"), of(1, "status"), of(1, "lbtot")), ("site", "UP", "5"));
    assert_eq!((of(2, "svname"), of(2, "act"), of(2, "hrsp_2xx")), ("BACKEND", "1", "5"));
    assert_eq!((of(0, "cache_lookups"), of(0, "cache_hits")), ("13", "7"));
    assert!(rows.iter().all(|row| row.len() == columns.len()), "{csv}");
    telling.abort();
}

#[tokio::test]
async fn the_columns_are_those_of_haproxy() {
    let port = peers::free_port();
    let folder = std::env::temp_dir().join(format!("throng-edge-columns-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let setting = peers::Setting { origin: 1, folder: &folder, cache_mib: 16, under: &[] };
    let more = format!("listen figures\n bind 127.0.0.1:{port}\n stats enable\n stats uri /\n");
    let Some(peer) = peers::Peer::haproxy_with(&setting, &more) else { return };
    let stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let mut client = Client::over(stream);
    client
        .stream
        .write_all(b"GET /;csv HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        .await
        .unwrap();
    let theirs = client.rest().await;
    drop(peer);
    let _ = std::fs::remove_dir_all(&folder);
    let ours = throng_edge::Edge::new(
        Config::default(),
        vec![throng_edge::Upstream::http("http://127.0.0.1:1").unwrap()],
        &throng_core::Clock::system(),
    );
    let ours = ours.unwrap().haproxy_csv();
    let ours = ours.lines().next().unwrap();
    assert!(theirs.contains(ours), "{ours}\n{theirs}");
}
