//! Visitors by chance, most of whom leave at some byte of what they ask or are told, before back ends
//! that break off and stall, amid purges: nobody is told what is another's or older than the last
//! purge before he asked, nobody waits for ever, and when all have gone all is given back.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Method, Request};
use throng_core::Clock;
use throng_edge::{Config, Edge, Upstream};
use tokio::{io::AsyncWriteExt, net::TcpStream, task::JoinSet, time::timeout};

use crate::{
    asked::{About, Asked, HOST, Told, hear},
    fickle::{Draws, LATE_MS, PAGES, Pages, more, own, page, tag, until},
    wire::{Running, start},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn visitors_who_leave_and_back_ends_that_break_off_leave_the_edge_well() {
    let _quiet = crate::wire::QUIET.lock().await;
    let folder = tempfile::tempdir().unwrap();
    let storm = Storm::new(folder.path()).await;
    let mut purges = JoinSet::new();
    purges.spawn(storm.clone().purge());
    let mut visitors = JoinSet::new();
    for visitor in 0..VISITORS {
        let storm = storm.clone();
        visitors.spawn(async move {
            for visit in 0..visits() {
                let name = format!("{visitor}-{visit}");
                let visited = match storm.draws().below(5) {
                    0 | 1 => timeout(LONG, storm.http2(&name)).await,
                    2 => timeout(LONG, storm.websocket(&name)).await,
                    _ => timeout(LONG, storm.http1(&name)).await,
                };
                visited.unwrap_or_else(|_| panic!("visitor {name} waits"));
            }
        });
    }
    while let Some(visited) = visitors.join_next().await {
        visited.unwrap();
    }
    purges.shutdown().await;
    storm.is_over(folder.path()).await;
}

#[derive(Clone)]
struct Storm {
    site: Arc<Running>,
    pages: Arc<Pages>,
    /// The version of each page that was current when it was purged last.
    purged: Arc<[AtomicU64; PAGES]>,
    /// All that was asked for once: of what may not be stored, the cache knows that it may not.
    asked: Arc<Mutex<Vec<String>>>,
    _back_ends: Arc<JoinSet<()>>,
}

impl Storm {
    async fn new(folder: &std::path::Path) -> Self {
        let pages = Pages::new();
        let mut back_ends = JoinSet::new();
        let mut upstreams = Vec::new();
        for _ in 0..2 {
            upstreams.push(Upstream::http(&pages.serve(&mut back_ends).await).unwrap());
        }
        let mut config = Config {
            cache_bytes: 200_000,
            disk_folder: Some(folder.to_owned()),
            head_timeout_ms: 4 * LATE_MS as u64,
            body_timeout_ms: LATE_MS as u64,
            answer_timeout_ms: LATE_MS as u64,
            queue_timeout_ms: LATE_MS as u64,
            max_connections: PLACES,
            max_requests_per_server: 6,
            max_queue: 8,
            max_refreshes: REFRESHES,
            ..Config::default()
        };
        config.client.requests_at_a_time = 1_000;
        config.health.eject_after = 1_000;
        config.policy.max_object_bytes = 100_000;
        config.policy.sick_pause_ms = 20;
        config.policy.hit_for_miss_ms = 20;
        let edge = Edge::new(config, upstreams, &Clock::system()).unwrap();
        let site = Arc::new(start(edge).await);
        Self {
            site,
            pages,
            purged: Arc::default(),
            asked: Arc::default(),
            _back_ends: Arc::new(back_ends),
        }
    }

    fn draws(&self) -> &Draws {
        &self.pages.draws
    }

    /// Changes pages, and says so in each of the ways that there are.
    async fn purge(self) {
        let cache = self.site.edge.cache();
        loop {
            self.draws().pause(20).await;
            let number = self.draws().below(PAGES);
            let version = self.pages.versions[number].fetch_add(1, Ordering::SeqCst) + 1;
            match self.draws().below(4) {
                0 => cache.purge_tag(&format!("page-{number}"), false),
                1 => cache.ban(&format!("*/p/{number}*"), false),
                2 if self.draws().one_in(4) => cache.purge_all(false),
                _ => drop(cache.purge(HOST, &format!("/p/{number}"), false)),
            }
            self.purged[number].fetch_max(version, Ordering::SeqCst);
        }
    }

    fn asks(&self, name: &str) -> Asked {
        let draws = self.draws();
        if draws.one_in(3) {
            let id = format!("{name}-{}", draws.below(1 << 30));
            let (method, kind) = if draws.one_in(2) { ("POST", "e") } else { ("GET", "n") };
            let times = if kind == "e" { [0, 1, 20, 5_000][draws.below(4)] } else { 0 };
            let target = format!("/{kind}/{id}");
            self.asked.lock().unwrap().push(target.clone());
            return Asked {
                method: method.parse().unwrap(),
                target,
                fields: Vec::new(),
                body: own(&id, times),
                about: About::Own(id),
            };
        }
        let number = draws.below(PAGES);
        let least = self.purged[number].load(Ordering::SeqCst);
        let mut fields = Vec::new();
        let length = page(number, 0).len();
        if draws.one_in(3) {
            let from = draws.below(length);
            let to = from + draws.below(length - from);
            fields.push(("range", format!("bytes={from}-{to}")));
            if draws.one_in(4) {
                fields.push(("if-range", tag(number, least)));
            }
        } else if draws.one_in(6) {
            fields.push(("if-none-match", tag(number, least)));
        }
        if draws.one_in(10) {
            fields.push(("cache-control", "no-cache".to_owned()));
        }
        Asked {
            method: Method::GET,
            target: format!("/p/{number}"),
            fields,
            body: Vec::new(),
            about: About::Page(number, least),
        }
    }

    /// Some requests over one connection, one after the other or at once.
    async fn http1(&self, name: &str) {
        let draws = self.draws();
        let mut stream = self.connect().await;
        let mut come = Vec::new();
        for _ in 0..1 + draws.below(4) {
            let asks: Vec<Asked> =
                (0..=draws.below(3) * draws.below(2)).map(|_| self.asks(name)).collect();
            let mut bytes: Vec<u8> = Vec::new();
            asks.iter().for_each(|asked| asked.write(draws, &mut bytes));
            let cut = if draws.one_in(6) { draws.below(bytes.len()) } else { bytes.len() };
            let (mut reader, mut writer) = stream.split();
            // Who sends much has to hear meanwhile.
            let sends = async {
                let mut left = &bytes[..cut];
                while !left.is_empty() {
                    let most =
                        if draws.one_in(4) { 1 + draws.below(left.len()) } else { left.len() };
                    if writer.write_all(&left[..most]).await.is_err() {
                        return;
                    }
                    left = &left[most..];
                }
            };
            let leaves_at = if draws.one_in(5) { draws.below(40_000) } else { usize::MAX };
            let hears = async {
                for asked in &asks {
                    let told = hear(&mut reader, &mut come, leaves_at).await;
                    let is_last = told.as_ref().is_none_or(|told| {
                        let said = told.headers.get("connection");
                        said.is_some_and(|said| said == "close") || !told.is_whole
                    });
                    if let Some(told) = &told {
                        asked.check(told);
                    }
                    if is_last {
                        return false;
                    }
                }
                true
            };
            if cut < bytes.len() {
                sends.await;
                if draws.one_in(2) {
                    draws.pause(LATE_MS).await;
                }
                break;
            }
            let ((), goes_on) = tokio::join!(sends, hears);
            if !goes_on {
                break;
            }
        }
        self.leave(stream);
    }

    /// Some requests at once over one connection of HTTP/2.
    async fn http2(&self, name: &str) {
        let draws = self.draws();
        let stream = self.connect().await;
        let Ok((client, connection)) = h2::client::handshake(stream).await else { return };
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { drop(connection.await) });
        let Ok(mut client) = client.ready().await else { return };
        let mut streams = JoinSet::new();
        for number in 0..1 + draws.below(6) {
            let asked = self.asks(&format!("{name}-{number}"));
            let (request, has_body) = (asked.request(), !asked.body.is_empty());
            let Ok((answer, mut sends)) = client.send_request(request, !has_body) else { return };
            let draws = draws.clone();
            streams.spawn(async move {
                let whole = Bytes::from(asked.body.clone());
                let leaves_at = if draws.one_in(3) { draws.below(40_000) } else { usize::MAX };
                if has_body {
                    let cut = if draws.one_in(4) { draws.below(whole.len()) } else { whole.len() };
                    let is_all = cut == whole.len();
                    if sends.send_data(whole.slice(..cut), is_all).is_err() {
                        return;
                    }
                    if !is_all {
                        draws.pause(5).await;
                        return sends.send_reset(h2::Reason::CANCEL);
                    }
                }
                if draws.one_in(6) {
                    return draws.pause(5).await;
                }
                let Ok(answer) = answer.await else { return };
                let (head, mut body) = answer.into_parts();
                let mut told = Told {
                    status: head.status.as_u16(),
                    headers: head.headers,
                    body: Vec::new(),
                    is_whole: false,
                };
                loop {
                    match body.data().await {
                        None => told.is_whole = true,
                        Some(Ok(data)) if told.body.len() < leaves_at => {
                            let _ = body.flow_control().release_capacity(data.len());
                            told.body.extend_from_slice(&data);
                            continue;
                        }
                        Some(_) => {}
                    }
                    break;
                }
                asked.check(&told);
            });
        }
        if draws.one_in(4) {
            draws.pause(10).await;
            return;
        }
        while let Some(ended) = streams.join_next().await {
            ended.unwrap();
        }
    }

    /// A WebSocket, as far as the edge is concerned, over either protocol.
    async fn websocket(&self, name: &str) {
        let draws = self.draws();
        let said = own(name, 1 + draws.below(300));
        let mut stream = self.connect().await;
        if draws.one_in(2) {
            let Ok((client, connection)) = h2::client::handshake(stream).await else { return };
            let mut tasks = JoinSet::new();
            tasks.spawn(async move { drop(connection.await) });
            let Ok(mut client) = client.ready().await else { return };
            let mut request = Request::new(());
            *request.method_mut() = Method::CONNECT;
            *request.uri_mut() = format!("http://{HOST}/w/{name}").parse().unwrap();
            request.extensions_mut().insert(h2::ext::Protocol::from_static("websocket"));
            // It has not heard yet that it may, half of the time: then it is a plain CONNECT.
            while !client.is_extended_connect_protocol_enabled() {
                tokio::task::yield_now().await;
            }
            let Ok((answer, mut sends)) = client.send_request(request, false) else { return };
            if draws.one_in(5) {
                return draws.pause(5).await;
            }
            let Ok(answer) = answer.await else { return };
            if answer.status() != 200 {
                return assert!(answer.status().is_server_error(), "{}", answer.status());
            }
            let mut body = answer.into_body();
            let _ = sends.send_data(Bytes::from(said.clone()), draws.one_in(3));
            let leaves_at = draws.below(2 * said.len());
            let mut heard = Vec::new();
            while heard.len() < leaves_at.min(said.len())
                && let Some(Ok(data)) = body.data().await
            {
                let _ = body.flow_control().release_capacity(data.len());
                heard.extend_from_slice(&data);
            }
            assert!(said.starts_with(&heard), "what is heard is what was said");
            if draws.one_in(2) {
                sends.send_reset(h2::Reason::CANCEL);
            }
            return;
        }
        let head = format!(
            "GET /w/{name} HTTP/1.1\r\nhost: {HOST}\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        let mut asked = head.into_bytes();
        // Some do not wait for the answer.
        let is_hasty = draws.one_in(3);
        if is_hasty {
            asked.extend(&said);
        }
        let cut = if draws.one_in(5) { draws.below(asked.len()) } else { asked.len() };
        if stream.write_all(&asked[..cut]).await.is_err() || cut < asked.len() {
            return self.leave(stream);
        }
        let mut come = Vec::new();
        let Some(end) = until(&mut stream, &mut come, b"\r\n\r\n").await else { return };
        let head: Vec<u8> = come.drain(..end).collect();
        if !head.starts_with(b"HTTP/1.1 101") {
            let head = String::from_utf8_lossy(&head);
            return assert!(head.starts_with("HTTP/1.1 50"), "{head}");
        }
        if !is_hasty && stream.write_all(&said).await.is_err() {
            return;
        }
        let leaves_at = draws.below(2 * said.len());
        while come.len() < leaves_at.min(said.len()) && more(&mut stream, &mut come).await.is_some()
        {
        }
        assert!(said.starts_with(&come), "what is heard is what was said");
        self.leave(stream);
    }

    async fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(&self.site.address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        stream
    }

    /// Politely or not.
    fn leave(&self, stream: TcpStream) {
        if self.draws().one_in(2) {
            let _ = stream.set_zero_linger();
        }
        drop(stream);
    }

    /// All have gone.
    async fn is_over(&self, folder: &std::path::Path) {
        let edge = &self.site.edge;
        let zeroes = || {
            let said = format!("{edge:?}");
            let works = edge.servers().iter().map(|server| server.working_on).sum::<usize>();
            let permits = said.split("refreshes: Semaphore").nth(1).unwrap_or_default();
            let permits = permits.split("permits: ").nth(1).unwrap_or_default();
            let clients = said.split("working_on: [").nth(1).unwrap_or_default();
            let clients = clients.split(']').next().unwrap_or_default();
            [
                ("requests at back ends", works == 0),
                ("flights", !said.contains("Flight {")),
                ("places in the queue", said.contains(" waiting: 0,")),
                (
                    "refreshes",
                    permits.starts_with(&format!("{REFRESHES} "))
                        || permits.starts_with(&format!("{REFRESHES},")),
                ),
                ("requests of clients", clients.split(", ").all(|count| count == "0")),
            ]
        };
        let mut tries = 0;
        while zeroes().iter().any(|(_, is_zero)| !is_zero) {
            tokio::time::sleep(Duration::from_millis(10)).await;
            tries += 1;
            assert!(tries < 3_000, "what is not given back: {:?}", zeroes());
        }
        assert_eq!(self.pages.mixed.load(Ordering::SeqCst), 0, "bodies of others");
        // Every place for a connection is free, at the same time.
        self.pages.is_fickle.store(false, Ordering::SeqCst);
        let mut places = Vec::new();
        for number in 0..PLACES {
            let mut stream = self.connect().await;
            self.asked.lock().unwrap().push(format!("/n/{number}"));
            let asked = format!("GET /n/{number} HTTP/1.1\r\nhost: {HOST}\r\n\r\n");
            stream.write_all(asked.as_bytes()).await.unwrap();
            let head = timeout(LONG, until(&mut stream, &mut Vec::new(), b"\r\n\r\n")).await;
            assert!(head.is_ok(), "place {number} of {PLACES} is taken");
            places.push(stream);
        }
        drop(places);
        // Every page is there as it is now, twice: fetched and kept.
        for number in 0..PAGES {
            for _ in 0..2 {
                self.gets(number).await;
            }
        }
        // What the store counts is what it has.
        let cache = edge.cache();
        let pages = (0..PAGES).map(|number| format!("/p/{number}"));
        for target in pages.chain(self.asked.lock().unwrap().drain(..)) {
            cache.purge(HOST, &target, false);
        }
        assert_eq!((cache.addresses(), cache.bytes()), (0, 0), "{:?}", cache.top(20));
        // And what is on disk is what it says.
        let files = std::fs::read_dir(folder).unwrap().map(Result::unwrap);
        let files: Vec<(String, u64)> = files
            .map(|file| (file.file_name().into_string().unwrap(), file.metadata().unwrap().len()))
            .collect();
        assert!(files.iter().all(|(name, _)| name.ends_with(".pages")), "{files:?}");
    }

    async fn gets(&self, number: usize) {
        let mut tries = 0;
        loop {
            let (least, fields) = (self.purged[number].load(Ordering::SeqCst), Vec::new());
            let (method, target) = (Method::GET, format!("/p/{number}"));
            let about = About::Page(number, least);
            let asked = Asked { method, target, fields, body: Vec::new(), about };
            let mut stream = self.connect().await;
            let mut bytes = Vec::new();
            asked.write(self.draws(), &mut bytes);
            stream.write_all(&bytes).await.unwrap();
            let told = timeout(LONG, hear(&mut stream, &mut Vec::new(), usize::MAX)).await;
            if let Some(told) = told.expect("nobody waits for ever") {
                asked.check(&told);
                if told.status == 200 && told.is_whole {
                    return;
                }
            }
            // A busy machine may be too slow for the limits here.
            tries += 1;
            assert!(tries < 500, "page {number} is had again");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

fn visits() -> usize {
    if std::env::var_os("THRONG_TEST_LONG").is_some() { 2_000 } else { 25 }
}

const VISITORS: usize = 24;
/// Connections at a time, all of which must be free in the end.
const PLACES: usize = 40;
const REFRESHES: usize = 4;
const LONG: Duration = Duration::from_secs(60);
