//! A connection to one server: commands go out, and what they bring comes back in their order.

use std::io;

use bytes::{Bytes, BytesMut};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::{
    hits::Hits,
    protocol::{self, Reply, Rubbish},
};

/// How an answer ends.
#[derive(Clone, Copy, Debug)]
pub(super) enum Expects {
    /// With its first reply.
    Reply,
    /// As a classic `get` does.
    Hits,
}

#[derive(Debug)]
pub(super) enum Answer {
    Reply(Reply),
    Hits(Hits),
}

/// A server that is off the ring.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Ejected {
    /// `host:port`.
    pub server: String,
    /// What it did, or did not.
    pub reason: String,
}

/// Why a server gave no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    #[error("it cannot be reached or hung up: {0}")]
    Io(#[from] io::Error),
    #[error("it did not answer within {0:?}")]
    Timeout(std::time::Duration),
    #[error(transparent)]
    Rubbish(#[from] Rubbish),
    #[error("it is off the ring")]
    Ejected,
    #[error("{}", told(.0))]
    Nobody(Vec<Ejected>),
}

#[derive(Debug)]
pub(super) struct Socket {
    stream: TcpStream,
    buffer: BytesMut,
}

/// Commands that are on their way out, and what they bring.
#[derive(Debug)]
pub(super) struct Exchange {
    pub(super) commands: Bytes,
    pub(super) expects: Expects,
    /// How much of the commands has gone out.
    written: usize,
}

impl Exchange {
    pub(super) fn new(commands: Bytes, expects: Expects) -> Self {
        Self { commands, expects, written: 0 }
    }
}

impl Socket {
    pub(super) async fn connect(address: &str) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: BytesMut::new() })
    }

    /// Whether the server has hung up, or says something that it was not asked.
    pub(super) fn is_closed(&self) -> bool {
        let looked = self.stream.try_read(&mut [0]);
        !looked.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }

    /// Sends as much as goes without waiting, which is nearly always all of it.
    pub(super) fn begin(&self, exchange: &mut Exchange) -> io::Result<()> {
        while exchange.written < exchange.commands.len() {
            match self.stream.try_write(&exchange.commands[exchange.written..]) {
                Ok(written) => exchange.written += written,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Sends the rest and waits for the answer. One who stops waiting loses nothing: the exchange
    /// can be finished by somebody else.
    pub(super) async fn finish(&mut self, exchange: &mut Exchange) -> Result<Answer, Fault> {
        loop {
            self.begin(exchange)?;
            if exchange.written == exchange.commands.len() {
                return self.answer(exchange.expects).await;
            }
            self.stream.writable().await?;
        }
    }

    pub(super) async fn write(&mut self, commands: &[u8]) -> io::Result<()> {
        self.stream.write_all(commands).await
    }

    /// Nothing is taken off the buffer before all of the answer is there.
    pub(super) async fn answer(&mut self, expects: Expects) -> Result<Answer, Fault> {
        match expects {
            Expects::Reply => self.reply().await.map(Answer::Reply),
            Expects::Hits => {
                let mut hits = Hits::default();
                while !hits.read_on(&mut self.buffer)? {
                    self.read().await?;
                }
                Ok(Answer::Hits(hits))
            }
        }
    }

    pub(super) async fn reply(&mut self) -> Result<Reply, Fault> {
        loop {
            if let Some(reply) = protocol::take(&mut self.buffer)? {
                return Ok(reply);
            }
            self.read().await?;
        }
    }

    async fn read(&mut self) -> io::Result<()> {
        // Left to itself the buffer grows by 64 bytes, and each costs a call of the system.
        if self.buffer.capacity() - self.buffer.len() < READ_BYTES / 4 {
            self.buffer.reserve(READ_BYTES);
        }
        match self.stream.read_buf(&mut self.buffer).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }
}

fn told(ejected: &[Ejected]) -> String {
    let one = |Ejected { server, reason }: &Ejected| format!("{server} is off the ring: {reason}");
    ejected.iter().map(one).collect::<Vec<_>>().join("; ")
}

const READ_BYTES: usize = 16 << 10;
