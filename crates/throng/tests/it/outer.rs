//! Page caches that are programs of their own: what a site tells them over HTTP.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener},
    sync::mpsc::{Receiver, Sender, channel},
    thread,
    time::Duration,
};

use throng::{
    App,
    testing::{Boot, Site},
};

/// Answers every request like an edge, and tells of it.
fn listen(listener: TcpListener, status: &'static str, heard: Sender<String>) {
    thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let (mut head, mut more) = (String::new(), [0; 4096]);
            while !head.ends_with("\r\n\r\n") {
                match stream.read(&mut more) {
                    Ok(count @ 1..) => head.push_str(&String::from_utf8_lossy(&more[..count])),
                    _ => break,
                }
            }
            let _ = write!(stream, "HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n");
            if heard.send(head).is_err() {
                return;
            }
        }
    });
}

fn edge() -> (SocketAddr, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, (tell, heard)) = (listener.local_addr().unwrap(), channel());
    listen(listener, "200 OK", tell);
    (address, heard)
}

/// The next request, while the site goes on and its clock with it.
async fn next(site: &Site, heard: &Receiver<String>) -> String {
    for _ in 0..2_000 {
        if let Ok(head) = heard.try_recv() {
            return head;
        }
        site.advance(Duration::from_millis(10));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("the edge heard nothing");
}

async fn boot(edges: &[SocketAddr]) -> Site {
    let urls: Vec<String> = edges.iter().map(|edge| format!("http://{edge}")).collect();
    let boot = Boot::default().set("edge.purge_urls", &urls.join(","));
    boot.set("edge.purge_token", "a token").boot(App::new("outer")).await
}

#[tokio::test]
async fn a_purge_is_told_to_every_edge_at_once_and_a_second_time() {
    let (edges, heard): (Vec<_>, Vec<_>) = (0..2).map(|_| edge()).unzip();
    let site = boot(&edges).await;
    site.ctx().purge("event-7").await;
    for (edge, heard) in edges.iter().zip(&heard) {
        let head = next(&site, heard).await;
        assert!(head.starts_with("PURGE / HTTP/1.1\r\n"), "{head}");
        assert!(head.contains(&format!("\r\nhost: {edge}\r\n")), "{head}");
        assert!(head.contains("\r\nauthorization: Bearer a token\r\n"), "{head}");
        assert!(head.contains("\r\nsurrogate-key: event-7\r\n"), "{head}");
        // A page may have been made meanwhile by a process that had an older copy of what it shows.
        assert!(next(&site, heard).await.contains("\r\nsurrogate-key: event-7\r\n"));
    }
    site.finish().await;
}

#[tokio::test]
async fn an_edge_that_is_away_or_refuses_hears_later_what_was_purged_meanwhile() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let edge = listener.local_addr().unwrap();
    drop(listener);
    let site = boot(&[edge]).await;
    for tag in ["event-1", "event-2", "topic/späte Musik"] {
        site.ctx().purge(tag).await;
    }
    site.advance(Duration::from_secs(1));
    let (tell, heard) = channel();
    listen(TcpListener::bind(edge).unwrap(), "200 OK", tell);
    let wanted = "\r\nsurrogate-key: event-1 event-2 topic/sp%C3%A4te%20Musik\r\n";
    let head = next(&site, &heard).await;
    assert!(head.contains(wanted), "{head}");
    site.finish().await;

    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let site = boot(&[listener.local_addr().unwrap()]).await;
    let (tell, heard) = channel();
    listen(listener, "403 Forbidden", tell);
    site.ctx().purge("event-1").await;
    for _ in 0..3 {
        assert!(next(&site, &heard).await.contains("event-1"), "it is tried again");
    }
    site.finish().await;
}

#[tokio::test]
async fn what_was_purged_last_is_told_before_the_process_ends() {
    let (edge, heard) = edge();
    let site = boot(&[edge]).await;
    site.ctx().purge("event-7").await;
    site.finish().await;
    assert!(heard.recv().unwrap().contains("surrogate-key: event-7"));
}
