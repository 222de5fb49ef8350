//! Load on a fixed schedule: a request that is late counts from when it was due, so that a server that
//! stalls cannot hide it by being asked less.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, TcpStream},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};

use crate::bench::site::server::{Server, own_cpu};

/// How much is asked, and for how long.
#[derive(Clone, Copy)]
pub(super) struct Plan {
    pub(super) rate: u64,
    pub(super) length: Duration,
}

/// What became of a plan.
pub(super) struct Spell {
    pub(super) visitors: Vec<Visitor>,
    pub(super) rate: f64,
    pub(super) failed: usize,
    /// Microseconds from when each request was due to the last byte of its answer, in order of size.
    pub(super) all_us: Vec<u32>,
    pub(super) members_us: Vec<u32>,
    /// Processors in use on average.
    pub(super) server_cores: f64,
    pub(super) own_cores: f64,
}

/// Somebody with a connection, who asks for one page after another.
pub(super) struct Visitor {
    port: u16,
    is_member: bool,
    /// Whole requests; those at the beginning are asked for more often.
    requests: Vec<Vec<u8>>,
    dice: u64,
    connection: Option<TcpStream>,
    buffer: Vec<u8>,
}

impl Visitor {
    /// Asks for lists and for all events, a hundred of them more often than the rest together.
    pub(super) fn stranger(port: u16, events: &[i64], seed: u64) -> Self {
        let lists = ["/", "/events", "/events?when=past", "/about", "/search?q=rust"];
        let paths = lists.iter().map(|path| (*path).to_owned());
        let paths = paths.chain(events.iter().map(|id| format!("/events/{id}")));
        Self::new(port, paths, None, seed)
    }

    /// Reads events and what is theirs.
    pub(super) fn member(port: u16, cookie: &str, events: &[i64]) -> Self {
        let own = ["/", "/timeline", "/tickets", "/settings"].map(str::to_owned).into_iter();
        let paths = own.chain(events.iter().map(|id| format!("/events/{id}")));
        Self::new(port, paths, Some(cookie), 7)
    }

    fn new(
        port: u16,
        paths: impl Iterator<Item = String>,
        session: Option<&str>,
        seed: u64,
    ) -> Self {
        let cookie = session.map(|cookie| format!("Cookie: sessionid={cookie}\r\n"));
        let cookie = cookie.unwrap_or_default();
        let request = |path: String| {
            format!(
                "GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAccept: text/html,*/*;q=0.8\r\n\
                 Accept-Encoding: gzip, deflate, br\r\n{cookie}\r\n"
            )
            .into_bytes()
        };
        Self {
            port,
            is_member: session.is_some(),
            requests: paths.map(request).collect(),
            dice: seed,
            connection: None,
            buffer: vec![0; 256 << 10],
        }
    }

    fn roll(&mut self) -> usize {
        // Knuth's constants; the high bits are the good ones.
        self.dice = self
            .dice
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.dice >> 33).unwrap_or(0)
    }

    /// One page; an error when it does not come whole, with 200.
    fn ask(&mut self) -> Result<()> {
        let hot = HOT.min(self.requests.len());
        let among = if self.roll() % 100 < HOT_PERCENT { hot } else { self.requests.len() };
        let choice = self.roll() % among;
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => {
                let connection = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port))?;
                connection.set_nodelay(true)?;
                connection.set_read_timeout(Some(PATIENCE))?;
                connection
            }
        };
        connection.write_all(&self.requests[choice])?;
        let mut come = 0;
        let whole = loop {
            if come == self.buffer.len() {
                self.buffer.resize(2 * come, 0);
            }
            let more = connection.read(&mut self.buffer[come..])?;
            anyhow::ensure!(more > 0, "the connection was closed");
            come += more;
            if let Some(whole) = length(&self.buffer[..come])?
                && come >= whole
            {
                break whole;
            }
        };
        anyhow::ensure!(come == whole, "more came than was asked for");
        self.connection = Some(connection);
        Ok(())
    }
}

/// How long the answer that begins here is, once its head is there.
fn length(bytes: &[u8]) -> Result<Option<usize>> {
    let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else { return Ok(None) };
    let head = std::str::from_utf8(&bytes[..end])?;
    anyhow::ensure!(head.starts_with("HTTP/1.1 200"), "{}", head.lines().next().unwrap_or(""));
    let field = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>())
    });
    Ok(Some(end + 4 + field.context("an answer says how long it is")??))
}

/// Lets the visitors ask what the plan says, each in a thread of its own.
pub(super) fn run(visitors: Vec<Visitor>, plan: Plan, server: &Server) -> Result<Spell> {
    let crowd = u64::try_from(visitors.len())?;
    let all = plan.rate * plan.length.as_secs();
    let (server_cpu, own) = (server.cpu(), own_cpu());
    let begun = Instant::now();
    let start = begun + Duration::from_millis(50);
    let threads: Vec<_> = (0..crowd)
        .zip(visitors)
        .map(|(number, mut visitor)| {
            thread::spawn(move || {
                let mut times = Vec::new();
                let (mut failed, mut said) = (0, None);
                for turn in (number..all).step_by(usize::try_from(crowd).unwrap_or(1)) {
                    let due = start + Duration::from_nanos(turn * 1_000_000_000 / plan.rate);
                    thread::sleep(due.saturating_duration_since(Instant::now()));
                    match visitor.ask() {
                        Ok(()) => {
                            let took = due.elapsed().as_micros();
                            times.push(u32::try_from(took).unwrap_or(u32::MAX));
                        }
                        Err(error) => {
                            failed += 1;
                            said.get_or_insert(error);
                        }
                    }
                }
                (visitor, times, failed, said)
            })
        })
        .collect();
    let mut spell = Spell {
        visitors: Vec::new(),
        rate: 0.0,
        failed: 0,
        all_us: Vec::new(),
        members_us: Vec::new(),
        server_cores: 0.0,
        own_cores: 0.0,
    };
    for thread in threads {
        let (visitor, times, failed, said) =
            thread.join().map_err(|_| anyhow::anyhow!("a visitor panicked"))?;
        if let Some(error) = said {
            eprintln!("a visitor was failed: {error:#}");
        }
        if visitor.is_member {
            spell.members_us.extend(&times);
        }
        spell.all_us.extend(times);
        spell.failed += failed;
        spell.visitors.push(visitor);
    }
    let took = start.elapsed().as_secs_f64();
    spell.rate = spell.all_us.len() as f64 / took;
    spell.server_cores = server.cpu().saturating_sub(server_cpu).as_secs_f64() / took;
    spell.own_cores = own_cpu().saturating_sub(own).as_secs_f64() / took;
    spell.all_us.sort_unstable();
    spell.members_us.sort_unstable();
    Ok(spell)
}

/// The value below which this part of the sorted values is.
pub(super) fn part(sorted: &[u32], part: f64) -> u32 {
    let at = (sorted.len() as f64 * part) as usize;
    sorted.get(at.min(sorted.len().saturating_sub(1))).copied().unwrap_or(0)
}

/// Pages that most ask for, and how many of a hundred requests are for one of them.
const HOT: usize = 100;
const HOT_PERCENT: usize = 60;
const PATIENCE: Duration = Duration::from_secs(30);
