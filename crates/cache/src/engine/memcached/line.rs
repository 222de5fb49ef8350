//! One connection to one server: requests that wait together are written together, and replies are
//! handed out in order. The task that holds the socket also brings a dead server back.

use std::{io, sync::Weak, time::Duration};

use bytes::{Bytes, BytesMut};
use throng_core::Clock;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::{mpsc, oneshot},
};

use super::{
    fleet::{Dialect, Fleet},
    protocol::{self, Reply, Rubbish},
};

/// Commands for a server, and how their replies are counted.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) commands: Bytes,
    pub(super) expects: Expects,
    /// Doing it twice is doing it once, so that it may be sent again over a new connection.
    pub(super) is_repeatable: bool,
    pub(super) answer: oneshot::Sender<Result<Vec<Reply>, Fault>>,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Expects {
    /// So many replies.
    Replies(usize),
    /// Replies up to `END`.
    UntilEnd,
}

/// Why a server gave no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    #[error("it cannot be reached or hung up: {0}")]
    Io(#[from] io::Error),
    #[error("it did not answer within {0:?}")]
    Timeout(Duration),
    #[error(transparent)]
    Rubbish(#[from] Rubbish),
    #[error("it is off the ring")]
    Ejected,
}

/// What a line needs to know.
pub(super) struct Line {
    pub(super) server: usize,
    pub(super) address: String,
    pub(super) timeout: Duration,
    pub(super) retry: Duration,
    pub(super) clock: Clock,
    pub(super) fleet: Weak<Fleet>,
}

impl Line {
    /// Serves requests until nobody can send any more.
    pub(super) async fn run(self, mut requests: mpsc::Receiver<Request>) {
        let mut socket = None;
        let mut batch = Vec::new();
        while requests.recv_many(&mut batch, MAX_BATCH).await > 0 {
            let Err(fault) = self.serve(&mut socket, &mut batch).await else {
                batch.clear();
                continue;
            };
            let Some(fleet) = self.fleet.upgrade() else { return };
            fleet.eject(self.server, &fault);
            drop(fleet);
            refuse_all(batch.drain(..));
            let Some(revived) = self.revive(&mut requests).await else { return };
            socket = Some(revived);
        }
    }

    /// Writes the batch in one go and answers it, once more over a new connection where the old one
    /// had been closed meanwhile. What is left in the batch was not answered.
    async fn serve(
        &self,
        socket: &mut Option<Socket>,
        batch: &mut Vec<Request>,
    ) -> Result<(), Fault> {
        // What was closed while nobody asked costs nothing: not a byte of this batch was sent.
        socket.take_if(|socket| socket.is_closed());
        if let Some(old) = socket {
            match self.exchange(old, batch).await {
                Ok(()) => return Ok(()),
                Err(Fault::Io(_)) if batch.iter().all(|request| request.is_repeatable) => {}
                Err(fault) => return Err(fault),
            }
        }
        let mut fresh = self.connect().await?;
        self.exchange(&mut fresh, batch).await?;
        *socket = Some(fresh);
        Ok(())
    }

    async fn exchange(&self, socket: &mut Socket, batch: &mut Vec<Request>) -> Result<(), Fault> {
        let mut commands = BytesMut::new();
        batch.iter().for_each(|request| commands.extend_from_slice(&request.commands));
        let within = self.clock.timeout(self.timeout, socket.stream.write_all(&commands)).await;
        within.ok_or(Fault::Timeout(self.timeout))??;
        while !batch.is_empty() {
            let within = self.clock.timeout(self.timeout, socket.replies(batch[0].expects)).await;
            let replies = within.ok_or(Fault::Timeout(self.timeout))??;
            // Whoever asked may have gone; that is fine.
            let _ = batch.remove(0).answer.send(Ok(replies));
        }
        Ok(())
    }

    async fn connect(&self) -> Result<Socket, Fault> {
        let connecting = async {
            let stream = TcpStream::connect(&self.address).await?;
            stream.set_nodelay(true)?;
            let mut socket = Socket { stream, buffer: BytesMut::new() };
            // What a server says of its version, and whether it knows the meta protocol at all.
            socket.stream.write_all(b"version\r\nmn\r\n").await?;
            let dialect = match (socket.reply().await?, socket.reply().await?) {
                (Reply::Version(version), Reply::NoOp) if is_new_enough(&version) => Dialect::Meta,
                (Reply::Version(_), Reply::NoOp | Reply::Refused(_)) => Dialect::Classic,
                (other, _) => return Err(Fault::Rubbish(protocol::rubbish_reply(&other))),
            };
            Ok((socket, dialect))
        };
        let within = self.clock.timeout(self.timeout, connecting).await;
        let (socket, dialect) = within.ok_or(Fault::Timeout(self.timeout))??;
        self.fleet.upgrade().ok_or(Fault::Ejected)?.learn(self.server, dialect);
        Ok(socket)
    }

    /// Tries again every so often, refusing what comes meanwhile, until the server is back.
    async fn revive(&self, requests: &mut mpsc::Receiver<Request>) -> Option<Socket> {
        loop {
            let mut pause = std::pin::pin!(self.clock.sleep(self.retry));
            loop {
                tokio::select! {
                    () = &mut pause => break,
                    request = requests.recv() => refuse_all([request?]),
                }
            }
            if let Ok(socket) = self.connect().await {
                self.fleet.upgrade()?.restore(self.server);
                return Some(socket);
            }
        }
    }
}

#[derive(Debug)]
struct Socket {
    stream: TcpStream,
    buffer: BytesMut,
}

impl Socket {
    /// Whether the server has hung up, or says something that it was not asked.
    fn is_closed(&self) -> bool {
        let looked = self.stream.try_read(&mut [0]);
        !looked.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }

    async fn replies(&mut self, expects: Expects) -> Result<Vec<Reply>, Fault> {
        let mut replies = Vec::new();
        loop {
            match expects {
                Expects::Replies(count) if replies.len() == count => return Ok(replies),
                _ => {}
            }
            let reply = self.reply().await?;
            // A refusal takes the place of the values too.
            let is_last = matches!(reply, Reply::End | Reply::Refused(_));
            replies.push(reply);
            if is_last && matches!(expects, Expects::UntilEnd) {
                return Ok(replies);
            }
        }
    }

    async fn reply(&mut self) -> Result<Reply, Fault> {
        loop {
            if let Some(reply) = protocol::take(&mut self.buffer)? {
                return Ok(reply);
            }
            // Left to itself the buffer grows by 64 bytes, and each costs a call of the system.
            if self.buffer.capacity() - self.buffer.len() < READ_BYTES / 4 {
                self.buffer.reserve(READ_BYTES);
            }
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
        }
    }
}

fn refuse_all(requests: impl IntoIterator<Item = Request>) {
    for request in requests {
        let _ = request.answer.send(Err(Fault::Ejected));
    }
}

/// Since 1.6.10 the meta protocol is what it is; what 1.6.0 to 1.6.9 call so is another one. Whatever
/// does not count as memcached does, a proxy for example, is believed when it answers `mn`.
fn is_new_enough(version: &str) -> bool {
    let digits = |part: &str| {
        let end = part.find(|c: char| !c.is_ascii_digit()).unwrap_or(part.len());
        part[..end].parse::<u32>().unwrap_or(0)
    };
    let mut parts = version.split('.').map(digits);
    let mut next = || parts.next().unwrap_or(0);
    (next(), next(), next()) >= (1, 6, 10)
}

const MAX_BATCH: usize = 64;
const READ_BYTES: usize = 16 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_with_todays_meta_protocol_are_told_from_others() {
        for version in ["1.6.10", "1.6.18", "1.6.21-debian", "1.7.0", "37.0.0 mcrouter"] {
            assert!(is_new_enough(version), "{version}");
        }
        for version in ["1.6.9", "1.5.22", "1.4.39-beta", "1.2", "", "unknown"] {
            assert!(!is_new_enough(version), "{version}");
        }
    }
}
