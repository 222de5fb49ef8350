//! What becomes of a request over a connection that had been at rest, when the back end breaks off, is
//! slow, or is gone.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use throng_core::{Clock, Hand};
use throng_edge::{Config, Edge, Status, Upstream};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use crate::wire::{BackEnd, Client, Running, bypass, ok, run, start};

/// Answers the first request on each connection well, and says `then` to the others; `<close>` at its
/// end ends the connection.
struct Moody {
    upstream: String,
    /// Requests that were the second or later on their connection.
    later: Arc<AtomicUsize>,
    connections: Arc<AtomicUsize>,
}

impl Moody {
    async fn new(then: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let upstream = format!("http://{}", listener.local_addr().unwrap());
        let (later, connections) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let (counted, opened) = (Arc::clone(&later), Arc::clone(&connections));
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (later, connections) = (Arc::clone(&counted), Arc::clone(&opened));
                tokio::spawn(async move {
                    let mut bytes = [0; 4096];
                    let mut is_first = true;
                    while let Ok(1..) = stream.read(&mut bytes).await {
                        let page = ok("", "page");
                        let say = if is_first { &page } else { then };
                        // Checks open connections as well, and say nothing.
                        match is_first {
                            true => connections.fetch_add(1, Ordering::SeqCst),
                            false => later.fetch_add(1, Ordering::SeqCst),
                        };
                        let text = say.trim_end_matches("<close>");
                        if stream.write_all(text.as_bytes()).await.is_err() || text != say {
                            return;
                        }
                        is_first = false;
                    }
                });
            }
        });
        Self { upstream, later, connections }
    }

    /// An edge before it that tries nothing twice by itself, and a visitor whose next request goes
    /// over the connection of the first, whenever that is.
    async fn visited(&self) -> (Running, Client, Hand) {
        let config = Config { retries: 0, ..bypass() };
        let upstream = Upstream::http(&self.upstream).unwrap();
        let (clock, hand) = Clock::manual(1_700_000_000_000);
        let site = start(Edge::new(config, vec![upstream], &clock).unwrap()).await;
        let mut client = site.connect().await;
        assert!(client.get("/", "").await.ends_with("page"));
        (site, client, hand)
    }

    fn counts(&self) -> (usize, usize) {
        (self.connections.load(Ordering::SeqCst), self.later.load(Ordering::SeqCst))
    }
}

#[tokio::test]
async fn a_connection_closed_just_as_a_get_is_written_costs_nobody_an_answer() {
    let moody = Moody::new("<close>").await;
    let (_site, mut client, _hand) = moody.visited().await;
    for round in 1..=20 {
        let answer = client.get("/", "").await;
        assert!(answer.ends_with("page"), "{round}: {answer}");
        assert_eq!(moody.counts(), (1 + round, round), "asked once more, over a new connection");
    }
}

#[tokio::test]
async fn what_cannot_be_repeated_is_not_when_its_connection_is_closed() {
    let moody = Moody::new("<close>").await;
    let (_site, mut client, _hand) = moody.visited().await;
    let post = "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\nhi";
    let answer = client.ask(post).await;
    // It may have worked on it.
    assert!(answer.starts_with("HTTP/1.1 502"), "{answer}");
    assert_eq!(moody.counts(), (1, 1), "asked once");
}

#[tokio::test]
async fn a_get_whose_answer_has_begun_is_not_asked_again_over_another_connection() {
    for begun in [
        "H<close>",
        "HTTP/1.1 200 OK\r\ncontent-le<close>",
        "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n<close>",
        "nonsense\r\n\r\n<close>",
    ] {
        let moody = Moody::new(begun).await;
        let (_site, mut client, _hand) = moody.visited().await;
        let answer = client.get("/", "").await;
        let answer = match answer.starts_with("HTTP/1.1 103") {
            true => client.answer().await,
            false => answer,
        };
        assert!(answer.starts_with("HTTP/1.1 502"), "{begun}: {answer}");
        assert_eq!(moody.counts(), (1, 1), "{begun}");
        let next = client.get("/", "").await;
        assert!(next.ends_with("page"), "{begun}: {next}");
    }
}

#[tokio::test]
async fn an_answer_that_breaks_off_half_way_is_cut_and_nothing_follows_it() {
    for (half, ends_with) in [
        ("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n01234<close>", "01234"),
        ("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n<close>", "\r\n\r\n"),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\na\r\n01234<close>", "01234\r\n"),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\n012\r\n<close>", "012\r\n"),
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\n012\r\n0\r\n<close>",
            "012\r\n",
        ),
    ] {
        let moody = Moody::new(half).await;
        let (_site, mut client, _hand) = moody.visited().await;
        // Another request waits behind it.
        let two = "GET / HTTP/1.1\r\nhost: a\r\n\r\nGET /next HTTP/1.1\r\nhost: a\r\n\r\n";
        client.stream.write_all(two.as_bytes()).await.unwrap();
        let come = client.rest().await;
        assert!(come.starts_with("HTTP/1.1 200"), "{half}: {come}");
        assert!(come.ends_with(ends_with), "{half}: {come}");
        assert_eq!(moody.counts(), (1, 1), "{half}");
    }
}

#[tokio::test]
async fn a_late_answer_is_given_up_on_and_never_given_to_the_next() {
    // Nothing at all, and half of a head.
    for nothing in ["", "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n"] {
        let moody = Moody::new(nothing).await;
        let (site, mut client, hand) = moody.visited().await;
        for round in 1..=3 {
            let get = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";
            client.stream.write_all(get.as_bytes()).await.unwrap();
            let answer = loop {
                tokio::select! {
                    answer = client.answer() => break answer,
                    () = tokio::time::sleep(Duration::from_millis(5)) => {}
                }
                if moody.counts() == (round, round) {
                    hand.advance(Duration::from_secs(10));
                }
            };
            assert!(answer.starts_with("HTTP/1.1 504"), "{answer}");
            assert_eq!(moody.counts(), (round, round));
            // The other connection, which nobody hears of any more, would say nothing good either.
            assert!(client.get("/", "").await.ends_with("page"));
        }
        assert_eq!(site.edge.servers()[0].working_on, 0);
    }
}

#[tokio::test]
async fn an_answer_in_pieces_with_pauses_is_the_same() {
    let slow = "HTTP/1.1 200 O<pause>ms=30;K\r\ncontent-le<pause>ms=150;ngth: 5\r\n\r<pause>ms=30;\n\
                <pause>ms=150;he<pause>ms=30;llo";
    let back_end = BackEnd::new(move |head| match head.starts_with("GET /slow") {
        true => slow.to_owned(),
        false => ok("", "quick"),
    })
    .await;
    let site = run(bypass(), &[&back_end]).await;
    let mut client = site.connect().await;
    for round in 0..3 {
        let three = ["/quick", "/slow", "/quick"]
            .map(|target| format!("GET {target} HTTP/1.1\r\nhost: a\r\n\r\n"));
        client.stream.write_all(three.concat().as_bytes()).await.unwrap();
        for body in ["quick", "hello", "quick"] {
            let answer = client.answer().await;
            let is_whole = answer.ends_with(&format!("\r\n\r\n{body}"));
            assert!(is_whole && answer.starts_with("HTTP/1.1 200 OK\r\n"), "{round}: {answer}");
        }
    }
}

#[tokio::test]
async fn a_get_that_waits_for_a_server_whose_checks_begin_to_fail_goes_to_another() {
    let hangs = Arc::new(AtomicBool::new(false));
    let stuck = {
        let hangs = Arc::clone(&hangs);
        BackEnd::new(move |_| match hangs.load(Ordering::SeqCst) {
            true => format!("<pause>ms=600000;{}", ok("", "never")),
            false => ok("", "first"),
        })
        .await
    };
    let well = BackEnd::page("", "second").await;
    let site = run(bypass(), &[&stuck, &well]).await;
    let names = site.edge.servers().into_iter().map(|server| server.name).collect::<Vec<_>>();
    assert!(site.edge.set_weight(&names[1], 0));
    let mut client = site.connect().await;
    assert!(client.get("/", "").await.ends_with("first"));
    hangs.store(true, Ordering::SeqCst);
    client.stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    while stuck.requests() < 2 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(site.edge.set_weight(&names[1], 100));
    stuck.abort();
    let answer = client.answer().await;
    assert!(answer.ends_with("second"), "{answer}");
    assert_eq!(site.edge.servers()[0].status, Status::Down);
}
