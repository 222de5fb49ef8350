//! Requests and answers on their way between a visitor and a back end, where either side does something
//! that the other does not expect.

use std::time::Duration;

use throng_core::Clock;
use throng_edge::{Config, Edge, Upstream};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::wire::{BackEnd, bypass, ok, run, start};

#[tokio::test]
async fn hints_reach_the_visitor_before_the_page_and_are_not_stored_with_it() {
    let hinted = |_: &str| {
        let hint = "HTTP/1.1 103 Early Hints\r\nlink: </a.css>\r\nconnection: x\r\n\r\n";
        let continued = "HTTP/1.1 100 Continue\r\n\r\n";
        format!(
            "{continued}{hint}<pause>ms=300;{hint}{}",
            ok("cache-control: max-age=60\r\n", "page")
        )
    };
    let back_end = BackEnd::new(hinted).await;
    let hint = "HTTP/1.1 103 Early Hints\r\nlink: </a.css>\r\n\r\n";
    for (config, request) in [
        (bypass(), "GET /a HTTP/1.1\r\nhost: a\r\n\r\n"),
        (bypass(), "POST /a HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\nhi"),
        (Config::default(), "GET /a HTTP/1.1\r\nhost: a\r\n\r\n"),
    ] {
        let site = run(config, &[&back_end]).await;
        let mut client = site.connect().await;
        // Twice on one connection.
        for round in 0..2 {
            let first = client.ask(request).await;
            if first.contains("throng; hit") {
                assert!(round == 1 && first.ends_with("page"), "{request} {first}");
                continue;
            }
            assert_eq!(first, hint, "{request}");
            assert_eq!(client.answer().await, hint, "{request}");
            let page = client.answer().await;
            assert!(page.starts_with("HTTP/1.1 200 ") && page.ends_with("page"), "{page}");
            assert!(!page.contains("a.css"), "{page}");
        }
        let old = request.replace("HTTP/1.1", "HTTP/1.0").replace("/a ", "/b ");
        let answer = site.raw(old.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.0 200 ") && answer.ends_with("page"), "{answer}");
    }
}

#[tokio::test]
async fn an_answer_may_come_before_all_of_the_request_has_left() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let upstream = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut head = [0; 512];
                let _ = stream.read(&mut head).await;
                let refused = "HTTP/1.1 413 Too Large\r\ncontent-length: 3\r\n\r\nbig";
                let _ = stream.write_all(refused.as_bytes()).await;
                // It never reads the rest.
                tokio::time::sleep(Duration::from_secs(60)).await;
            });
        }
    });
    let upstream = Upstream::http(&upstream).unwrap();
    let site = start(Edge::new(bypass(), vec![upstream], &Clock::system()).unwrap()).await;
    let mut client = site.connect().await;
    let length = 50 << 20;
    let head = format!("POST /a HTTP/1.1\r\nhost: a\r\ncontent-length: {length}\r\n\r\n");
    client.stream.write_all(head.as_bytes()).await.unwrap();
    client.stream.write_all(&[b'x'; 1000]).await.unwrap();
    let answer = client.answer().await;
    assert!(answer.starts_with("HTTP/1.1 413 ") && answer.ends_with("big"), "{answer}");
}

#[tokio::test]
async fn both_sides_may_send_at_the_same_time() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let upstream = format!("http://{}", listener.local_addr().unwrap());
    // The check of the edge connects as well.
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(shout(stream));
        }
    });
    let upstream = Upstream::http(&upstream).unwrap();
    let site = start(Edge::new(bypass(), vec![upstream], &Clock::system()).unwrap()).await;
    let mut client = site.connect().await;
    let head = "POST /a HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n";
    client.stream.write_all(head.as_bytes()).await.unwrap();
    let mut come = String::new();
    for word in ["one", "two", "three"] {
        let chunk = format!("{:x}\r\n{word}\r\n", word.len());
        client.stream.write_all(chunk.as_bytes()).await.unwrap();
        while !come.contains(&word.to_uppercase()) {
            let mut bytes = [0; 4096];
            let count = client.stream.read(&mut bytes).await.unwrap();
            assert!(count > 0, "{come}");
            come.push_str(&String::from_utf8_lossy(&bytes[..count]));
        }
    }
}

/// Answers at once, and sends back what comes.
async fn shout(mut stream: TcpStream) {
    let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    let _ = stream.write_all(head.as_bytes()).await;
    let mut bytes = [0; 4096];
    while let Ok(count @ 1..) = stream.read(&mut bytes).await {
        let shouted = String::from_utf8_lossy(&bytes[..count]).to_uppercase();
        let chunk = format!("{:x}\r\n{shouted}\r\n", shouted.len());
        let _ = stream.write_all(chunk.as_bytes()).await;
    }
}

#[tokio::test]
async fn a_connection_that_the_back_end_has_closed_costs_no_request() {
    // It says nothing about closing, and closes after each answer.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let upstream = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut bytes = [0; 4096];
                let _ = stream.read(&mut bytes).await;
                let _ = stream.write_all(ok("", "page").as_bytes()).await;
            });
        }
    });
    let upstream = Upstream::http(&upstream).unwrap();
    let config = Config { retries: 0, ..bypass() };
    let site = start(Edge::new(config, vec![upstream], &Clock::system()).unwrap()).await;
    let mut client = site.connect().await;
    for round in 0..200 {
        let answer = client.get("/a", "").await;
        assert!(answer.ends_with("page"), "{round}: {answer}");
        let answer = client.ask("PUT /a HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n").await;
        assert!(answer.ends_with("page"), "{round}: {answer}");
    }
}

#[tokio::test]
async fn a_visitor_who_leaves_frees_the_back_end() {
    let back_end = BackEnd::new(|_| "<pause>ms=60000;".to_owned() + &ok("", "late")).await;
    let site = run(bypass(), &[&back_end]).await;
    let mut client = site.connect().await;
    client.stream.write_all(b"GET /a HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    while site.edge.servers()[0].working_on == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    drop(client);
    while site.edge.servers()[0].working_on > 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn what_is_passed_on_at_shutdown_is_answered_and_said_to_be_the_last() {
    let slow = |_: &str| format!("<pause>ms=2500;{}", ok("", "late"));
    let back_end = BackEnd::new(slow).await;
    let mut site = run(bypass(), &[&back_end]).await;
    let mut client = site.connect().await;
    client.stream.write_all(b"GET /a HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    while back_end.requests() == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    site.trigger.take().unwrap().request();
    let answer = client.rest().await;
    assert!(answer.contains("connection: close\r\n") && answer.ends_with("late"), "{answer}");
}
