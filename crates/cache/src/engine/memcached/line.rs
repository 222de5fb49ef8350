//! One connection to one server for all who come while it is in use: requests that wait together are
//! written together, and replies are handed out in order. The task also ends what callers have left
//! halfway, and brings a dead server back.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use throng_core::Clock;
use tokio::sync::{mpsc, oneshot};

use super::{
    fleet::{Dialect, Fleet},
    is_placeholder,
    protocol::{self, Reply},
    socket::{Answer, Expects, Fault, Socket},
    turn::{Left, Seat},
};

/// Commands for a server, and how their answer ends.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) commands: Bytes,
    pub(super) expects: Expects,
    /// Doing it twice is doing it once, so that it may be sent again over a new connection.
    pub(super) is_repeatable: bool,
    pub(super) answer: oneshot::Sender<Result<Answer, Fault>>,
}

/// What a line needs to know.
pub(super) struct Line {
    pub(super) server: usize,
    pub(super) address: String,
    pub(super) timeout: Duration,
    pub(super) retry: Duration,
    pub(super) clock: Clock,
    pub(super) fleet: Weak<Fleet>,
    pub(super) seat: Arc<Seat>,
}

impl Line {
    /// Serves requests until nobody can send any more.
    pub(super) async fn run(self, mut requests: mpsc::Receiver<Request>) {
        let mut batch = Vec::new();
        loop {
            tokio::select! {
                count = requests.recv_many(&mut batch, MAX_BATCH) => if count == 0 { return },
                () = self.seat.called() => {}
            }
            let served = match self.claim().await {
                Left::Failed => Ok(None),
                left => self.serve_all(left, &mut batch, &mut requests).await.map(Some),
            };
            let socket = match served {
                Ok(Some(socket)) => socket,
                failed => {
                    let Some(fleet) = self.fleet.upgrade() else { return };
                    if let Err(fault) = failed {
                        fleet.eject(self.server, &fault);
                    }
                    drop(fleet);
                    refuse_all(batch.drain(..));
                    let Some(revived) = self.revive(&mut requests).await else { return };
                    Some(revived)
                }
            };
            self.seat.release(socket);
        }
    }

    /// Waits until no caller has the connection. One that takes twice its time has forgotten it, and
    /// keeps nobody waiting any longer.
    async fn claim(&self) -> Left {
        loop {
            if let Some(left) = self.seat.claim() {
                return left;
            }
            if self.clock.timeout(2 * self.timeout, self.seat.called()).await.is_none() {
                return self.seat.seize();
            }
        }
    }

    /// Ends what was left halfway, and serves for as long as there are requests.
    async fn serve_all(
        &self,
        left: Left,
        batch: &mut Vec<Request>,
        requests: &mut mpsc::Receiver<Request>,
    ) -> Result<Option<Socket>, Fault> {
        let mut socket = match left {
            Left::Well(socket) => socket,
            Left::Failed => None,
            Left::Owing(mut socket, mut exchange) => {
                let finished = self.clock.timeout(self.timeout, socket.finish(&mut exchange)).await;
                match finished.ok_or(Fault::Timeout(self.timeout))? {
                    Ok(_) => Some(socket),
                    Err(Fault::Io(_)) => None,
                    Err(fault) => return Err(fault),
                }
            }
        };
        while !batch.is_empty() {
            self.serve(&mut socket, batch).await?;
            batch.clear();
            // Those who were answered may ask again at once: then they are served together again.
            tokio::task::yield_now().await;
            while batch.len() < MAX_BATCH
                && let Ok(request) = requests.try_recv()
            {
                batch.push(request);
            }
        }
        Ok(socket)
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
        if let Some(mut old) = socket.take() {
            match self.exchange(&mut old, batch).await {
                Ok(()) => {
                    *socket = Some(old);
                    return Ok(());
                }
                Err(Fault::Io(_)) if batch.iter().all(|request| request.is_repeatable) => {}
                Err(fault) => return Err(fault),
            }
        }
        let mut fresh = self.connect().await?;
        self.exchange(&mut fresh, batch).await?;
        *socket = Some(fresh);
        Ok(())
    }

    /// Writes what fits together, and the rest when that has been answered: a server that has much to
    /// say, and to whom nobody listens, does not listen either.
    async fn exchange(&self, socket: &mut Socket, batch: &mut Vec<Request>) -> Result<(), Fault> {
        loop {
            // A write whose caller has left is not made: what was asked after that, over the connection
            // while nobody used it, may have been made before.
            batch.retain(|request| !request.answer.is_closed());
            if batch.is_empty() {
                return Ok(());
            }
            let mut commands = BytesMut::new();
            let mut count = 0;
            for request in &*batch {
                if count > 0 && commands.len() + request.commands.len() > MAX_WRITTEN_BYTES {
                    break;
                }
                commands.extend_from_slice(&request.commands);
                count += 1;
            }
            let within = self.clock.timeout(self.timeout, socket.write(&commands)).await;
            within.ok_or(Fault::Timeout(self.timeout))??;
            let mut written = batch.drain(..count).collect::<Vec<_>>().into_iter();
            while let Some(request) = written.next() {
                let answer = socket.answer(request.expects);
                let within = self.clock.timeout(self.timeout, answer).await;
                match within.unwrap_or(Err(Fault::Timeout(self.timeout))) {
                    // Whoever asked may have gone; that is fine.
                    Ok(answer) => drop(request.answer.send(Ok(answer))),
                    Err(fault) => {
                        batch.splice(..0, std::iter::once(request).chain(written));
                        return Err(fault);
                    }
                }
            }
        }
    }

    async fn connect(&self) -> Result<Socket, Fault> {
        let connecting = async {
            let mut socket = Socket::connect(&self.address).await?;
            // What a server says of its version, and whether it knows the meta protocol at all.
            socket.write(b"version\r\nmn\r\n").await?;
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
            let Ok(mut socket) = self.connect().await else { continue };
            let lost = self.fleet.upgrade()?.take_lost(self.server);
            let returned = self.clock.timeout(self.timeout, give_back(&mut socket, &lost)).await;
            if matches!(returned, Some(Ok(()))) {
                self.fleet.upgrade()?.restore(self.server);
                return Some(socket);
            }
            let fleet = self.fleet.upgrade()?;
            lost.iter().for_each(|key| fleet.lose(self.server, key));
        }
    }
}

/// Takes leases back that the server may have given while nobody heard of it: who waits for the value
/// would wait until they end. One that somebody has got since is lost to him, and another loads too.
async fn give_back(socket: &mut Socket, keys: &[Bytes]) -> Result<(), Fault> {
    for key in keys {
        socket.write(&[b"mg ", &key[..], b" v f c\r\n"].concat()).await?;
        if let Reply::Value(bytes, flags) = socket.reply().await?
            && is_placeholder(&bytes, &flags)
        {
            let cas = format!(" C{}\r\n", flags.cas);
            socket.write(&[b"md ", &key[..], cas.as_bytes()].concat()).await?;
            socket.reply().await?;
        }
    }
    Ok(())
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
/// As much as every server's buffer takes while it is busy saying something else.
const MAX_WRITTEN_BYTES: usize = 16 << 10;

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
