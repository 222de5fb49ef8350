//! A back end by chance: each answer names its page and version, and while it is fickle some break
//! off, stall or come late.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

/// Draws; whoever draws at the same time draws something else.
#[derive(Clone)]
pub(crate) struct Draws(Arc<AtomicU64>);

impl Draws {
    /// `THRONG_TEST_SEED` repeats what was drawn, as far as threads let it.
    pub(crate) fn new() -> Self {
        let told = std::env::var("THRONG_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = told.unwrap_or_else(|| u64::from(std::process::id()) << 20);
        println!("THRONG_TEST_SEED={seed}");
        Self(Arc::new(AtomicU64::new(seed)))
    }

    pub(crate) fn below(&self, below: usize) -> usize {
        // Weyl's sequence through splitmix.
        let mut drawn = self.0.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        drawn = (drawn ^ (drawn >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        drawn = (drawn ^ (drawn >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((drawn ^ (drawn >> 31)) >> 1) as usize % below
    }

    pub(crate) fn one_in(&self, of: usize) -> bool {
        self.below(of) == 0
    }

    pub(crate) async fn pause(&self, most_ms: usize) {
        tokio::time::sleep(Duration::from_micros(self.below(1000 * most_ms) as u64)).await;
    }
}

/// The pages, and what their back ends are like.
pub(crate) struct Pages {
    /// The version of each page that is right.
    pub(crate) versions: [AtomicU64; PAGES],
    pub(crate) is_fickle: AtomicBool,
    /// Requests whose body was that of another.
    pub(crate) mixed: AtomicUsize,
    pub(crate) draws: Draws,
}

/// A page as it is in this version: blocks of 32 bytes, of which no two are alike.
pub(crate) fn page(number: usize, version: u64) -> Vec<u8> {
    let block = |at| format!("p{number:02} v{version:08} b{at:08} .......\n").into_bytes();
    (0..BLOCKS[number]).flat_map(block).collect()
}

/// What is said of `id`, and nobody else's.
pub(crate) fn own(id: &str, times: usize) -> Vec<u8> {
    format!("<{id}>").repeat(times).into_bytes()
}

pub(crate) fn tag(number: usize, version: u64) -> String {
    format!("\"p{number}v{version}\"")
}

impl Pages {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            versions: Default::default(),
            is_fickle: AtomicBool::new(true),
            mixed: AtomicUsize::new(0),
            draws: Draws::new(),
        })
    }

    /// A back end that has them, at this URL until `tasks` go.
    pub(crate) async fn serve(self: &Arc<Self>, tasks: &mut JoinSet<()>) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let pages = Arc::clone(self);
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                while connections.try_join_next().is_some() {}
                let pages = Arc::clone(&pages);
                connections.spawn(async move {
                    let mut come = (stream, Vec::new());
                    while let Some(true) = pages.one(&mut come).await {}
                });
            }
        });
        url
    }

    /// One request. `None`, or false, when none can follow it.
    async fn one(&self, (stream, come): &mut (TcpStream, Vec<u8>)) -> Option<bool> {
        let end = until(stream, come, b"\r\n\r\n").await?;
        let head: Vec<u8> = come.drain(..end).collect();
        let head = String::from_utf8(head).ok()?;
        let field = |name: &str| {
            let mut fields = head.lines().filter_map(|line| line.split_once(": "));
            fields.find(|(own, _)| own.eq_ignore_ascii_case(name)).map(|(_, value)| value)
        };
        let target = head.split(' ').nth(1)?;
        let (kind, name) = target.trim_start_matches('/').split_once('/')?;
        let mut body = Vec::new();
        if let Some(length) = field("content-length") {
            let length: usize = length.parse().ok()?;
            while come.len() < length {
                more(stream, come).await?;
            }
            body = come.drain(..length).collect();
        } else if field("transfer-encoding").is_some() {
            loop {
                let end = until(stream, come, b"\r\n").await?;
                let line: Vec<u8> = come.drain(..end).collect();
                let length = usize::from_str_radix(std::str::from_utf8(&line).ok()?.trim(), 16);
                let length = length.ok()?;
                while come.len() < length + 2 {
                    more(stream, come).await?;
                }
                body.extend(come.drain(..length));
                come.drain(..2);
                if length == 0 {
                    break;
                }
            }
        }
        if kind == "w" {
            return self.echo(stream, come, &head).await;
        }
        let (status, fields, said) = match kind {
            "p" => self.page(name.parse().ok()?, field),
            _ => {
                let id = name.split('?').next().unwrap_or_default();
                let whole = own(id, 1);
                let is_own = body.chunks(whole.len()).all(|part| part == whole);
                self.mixed.fetch_add(usize::from(!is_own), Ordering::SeqCst);
                let times = [0, 1, 30, 3_000][self.draws.below(4)];
                ("200 OK", "cache-control: no-store\r\n".to_owned(), own(id, times))
            }
        };
        self.answer(stream, (status, fields), said).await
    }

    fn page<'h>(
        &self,
        number: usize,
        field: impl Fn(&str) -> Option<&'h str>,
    ) -> (&'static str, String, Vec<u8>) {
        let version = self.versions[number].load(Ordering::SeqCst);
        let (tag, life) = (tag(number, version), LIVES[number % LIVES.len()]);
        let fields =
            format!("etag: {tag}\r\ncache-control: {life}\r\nsurrogate-key: page-{number} all\r\n");
        if field("if-none-match") == Some(&tag) {
            return ("304 Not Modified", fields, Vec::new());
        }
        let whole = page(number, version);
        let range = field("range").filter(|_| field("if-range").is_none_or(|other| other == tag));
        let range = range.and_then(|range| range.strip_prefix("bytes=")?.split_once('-'));
        let Some((from, to)) = range else { return ("200 OK", fields, whole) };
        let from: usize = from.parse().unwrap();
        let to = to.parse().unwrap_or(whole.len() - 1).min(whole.len() - 1);
        let fields = format!("{fields}content-range: bytes {from}-{to}/{}\r\n", whole.len());
        ("206 Partial Content", fields, whole[from..=to].to_vec())
    }

    async fn answer(
        &self,
        stream: &mut TcpStream,
        (status, fields): (&str, String),
        body: Vec<u8>,
    ) -> Option<bool> {
        let draws = &self.draws;
        let mood = if self.is_fickle.load(Ordering::SeqCst) { draws.below(16) } else { 15 };
        let is_bodiless = status.starts_with("304");
        // Nobody could tell a body that ends with the connection from one that broke off.
        let framings = if mood == 2 { 2 } else { 3 };
        let framing = if is_bodiless { 3 } else { draws.below(framings) };
        let mut all = match framing {
            0 => format!("HTTP/1.1 {status}\r\n{fields}content-length: {}\r\n\r\n", body.len()),
            1 => format!("HTTP/1.1 {status}\r\n{fields}transfer-encoding: chunked\r\n\r\n"),
            2 => format!("HTTP/1.1 {status}\r\n{fields}connection: close\r\n\r\n"),
            _ => format!("HTTP/1.1 {status}\r\n{fields}\r\n"),
        }
        .into_bytes();
        let head = all.len();
        if framing == 1 {
            for chunk in body.chunks(1 + draws.below(30_000)) {
                all.extend(format!("{:x}\r\n", chunk.len()).into_bytes());
                all.extend(chunk);
                all.extend(b"\r\n");
            }
            all.extend(b"0\r\n\r\n");
        } else {
            all.extend(body);
        }
        let pause_at = head + draws.below(all.len() - head + 1);
        match mood {
            0 => return None,
            1 => {
                let _ = stream.write_all(&all[..draws.below(head)]).await;
                return None;
            }
            2 => {
                let _ = stream.write_all(&all[..pause_at]).await;
                return None;
            }
            3 => draws.pause(2 * LATE_MS).await,
            4 | 5 => {
                stream.write_all(&all[..pause_at]).await.ok()?;
                draws.pause(if mood == 4 { 5 } else { 2 * LATE_MS }).await;
                all.drain(..pause_at);
            }
            6 => {
                let sorry = b"HTTP/1.1 503 Sorry\r\ncontent-length: 5\r\n\r\nsorry";
                return stream.write_all(sorry).await.ok().map(|()| true);
            }
            7 => {
                for piece in all.chunks((all.len() / 20).max(1)) {
                    stream.write_all(piece).await.ok()?;
                    tokio::task::yield_now().await;
                }
                return Some(framing != 2);
            }
            _ => {}
        }
        stream.write_all(&all).await.ok()?;
        Some(framing != 2)
    }

    /// Says what it hears.
    async fn echo(&self, stream: &mut TcpStream, come: &[u8], head: &str) -> Option<bool> {
        let mut lines = head.lines().filter_map(|line| line.split_once(": "));
        let key = lines.find(|(name, _)| name.eq_ignore_ascii_case("sec-websocket-key"))?.1;
        let accept = format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
        let accept =
            ring::digest::digest(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY, accept.as_bytes());
        let accept = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, accept);
        let switch = format!(
            "HTTP/1.1 101 Yes\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-accept: {accept}\r\n\r\n"
        );
        let fickle = self.is_fickle.load(Ordering::SeqCst);
        if fickle && self.draws.one_in(6) {
            let _ = stream.write_all(&switch.as_bytes()[..self.draws.below(switch.len())]).await;
            return None;
        }
        stream.write_all(switch.as_bytes()).await.ok()?;
        stream.write_all(come).await.ok()?;
        let mut bytes = [0; 4096];
        while let Ok(count @ 1..) = stream.read(&mut bytes).await {
            if fickle && self.draws.one_in(20) {
                return None;
            }
            stream.write_all(&bytes[..count]).await.ok()?;
        }
        None
    }
}

/// Reads until `end` has come; tells where it is over.
pub(crate) async fn until(
    stream: &mut (impl AsyncReadExt + Unpin),
    come: &mut Vec<u8>,
    end: &[u8],
) -> Option<usize> {
    loop {
        if let Some(at) = come.windows(end.len()).position(|part| part == end) {
            return Some(at + end.len());
        }
        more(stream, come).await?;
    }
}

pub(crate) async fn more(
    stream: &mut (impl AsyncReadExt + Unpin),
    come: &mut Vec<u8>,
) -> Option<()> {
    let mut bytes = [0; 16 << 10];
    let count = stream.read(&mut bytes).await.ok().filter(|count| *count > 0)?;
    come.extend_from_slice(&bytes[..count]);
    Some(())
}

pub(crate) const PAGES: usize = 9;
/// How long each page is: the last ones are more than the store takes.
const BLOCKS: [usize; PAGES] = [1, 3, 40, 200, 700, 2_000, 30, 6_000, 12_000];
const LIVES: [&str; 4] = [
    "max-age=60",
    "max-age=1, stale-while-revalidate=1",
    "max-age=0, must-revalidate",
    "max-age=1",
];
/// How long the edge waits for back ends and visitors.
pub(crate) const LATE_MS: usize = 200;
