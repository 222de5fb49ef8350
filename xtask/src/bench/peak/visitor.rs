//! Somebody with a connection, who asks for one page after another.

use std::{
    io::{ErrorKind, Read, Write},
    net::{Ipv4Addr, TcpStream},
    os::fd::{AsFd, BorrowedFd},
};

use anyhow::{Result, ensure};

use super::answer;

/// One visitor, who has at most one request under way.
pub(super) struct Visitor {
    port: u16,
    pub(super) is_member: bool,
    /// Whole requests; those at the beginning are asked for more often.
    requests: Vec<Vec<u8>>,
    dice: u64,
    connection: Option<TcpStream>,
    buffer: Vec<u8>,
    come: usize,
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
    pub(super) fn member(port: u16, cookie: &str, events: &[i64], seed: u64) -> Self {
        let own = ["/", "/timeline", "/tickets", "/settings"].map(str::to_owned).into_iter();
        let paths = own.chain(events.iter().map(|id| format!("/events/{id}")));
        Self::new(port, paths, Some(cookie), seed)
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
            buffer: vec![0; 64 << 10],
            come: 0,
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

    /// The connection, if one is open.
    pub(super) fn connection(&self) -> Option<BorrowedFd<'_>> {
        self.connection.as_ref().map(AsFd::as_fd)
    }

    /// Opens the connection. Whoever waits on it has to be told of it.
    pub(super) fn connect(&mut self) -> Result<()> {
        let connection = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port))?;
        connection.set_nodelay(true)?;
        connection.set_nonblocking(true)?;
        self.connection = Some(connection);
        Ok(())
    }

    pub(super) fn leave(&mut self) {
        self.connection = None;
    }

    /// Asks for a page.
    pub(super) fn ask(&mut self) -> Result<()> {
        let hot = HOT.min(self.requests.len());
        let among = if self.roll() % 100 < HOT_PERCENT { hot } else { self.requests.len() };
        let choice = self.roll() % among;
        self.come = 0;
        // A request is smaller than what the kernel takes at once.
        if let Some(connection) = &mut self.connection {
            connection.write_all(&self.requests[choice])?;
        }
        Ok(())
    }

    /// Reads what there is; whether the page has come whole.
    pub(super) fn read(&mut self) -> Result<bool> {
        let Some(connection) = &mut self.connection else { return Ok(false) };
        loop {
            if self.come == self.buffer.len() {
                self.buffer.resize(2 * self.come, 0);
            }
            let more = match connection.read(&mut self.buffer[self.come..]) {
                Ok(more) => more,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error.into()),
            };
            ensure!(more > 0, "the connection was closed");
            self.come += more;
            if let Some(whole) = answer::length(&self.buffer[..self.come])?
                && self.come >= whole
            {
                ensure!(self.come == whole, "more came than was asked for");
                return Ok(true);
            }
        }
    }
}

/// Pages that most ask for, and how many of a hundred requests are for one of them.
const HOT: usize = 100;
const HOT_PERCENT: usize = 60;
