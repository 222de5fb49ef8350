//! A restart that no visitor notices: on USR2 a new process gets the listening sockets, and the old
//! one finishes what it has once the new one serves.
//!
//! Both are joined by a UNIX socket, the standard input of the new process. The old one sends its
//! listening sockets over it, so that both accept from one queue and no connection is refused or
//! forgotten at any moment. The new one answers with a byte when it serves. If it does not get that
//! far, the old one carries on.

use std::{
    ffi::OsString,
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::{fd::OwnedFd, unix::net::UnixStream},
    path::PathBuf,
    process::Stdio,
    time::Duration,
};

use rustix::{
    net::{
        RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
        SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
    },
    process::{Pid, getppid},
};
use tokio::{io::AsyncReadExt, process::Command};

use super::doors::{Doors, Handed};

/// How this process was started, kept to start the next one the same way.
#[derive(Debug)]
pub(super) struct Successor {
    program: PathBuf,
    arguments: Vec<OsString>,
}

/// The process that started this one in its place.
#[derive(Debug)]
pub(super) struct Old {
    sockets: Vec<Handed>,
}

impl Successor {
    /// Remembers the program's path now: after an update it names the new file.
    pub(super) fn new() -> io::Result<Self> {
        let program = std::env::current_exe()?;
        Ok(Self { program, arguments: std::env::args_os().skip(1).collect() })
    }

    /// Starts the new process, hands it `doors`, and returns its id once it serves.
    pub(super) async fn start(&self, doors: &Doors) -> io::Result<u32> {
        let (own, its) = UnixStream::pair()?;
        let mut command = Command::new(&self.program);
        command
            .args(&self.arguments)
            .env(OLD_PROCESS, std::process::id().to_string())
            .stdin(Stdio::from(OwnedFd::from(its)));
        let mut child = command.spawn()?;
        // It keeps the other end of the socket for the child otherwise, and never hears of its end.
        drop(command);
        let sent = send(&own, doors);
        own.set_nonblocking(true)?;
        let mut own = tokio::net::UnixStream::from_std(own)?;
        let ready = async {
            sent?;
            own.read_u8().await
        };
        let ready = tokio::time::timeout(PATIENCE, ready).await;
        match ready.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
            Ok(_) => child.id().ok_or_else(|| io::Error::other("it has ended")),
            Err(error) => {
                let _ = child.start_kill();
                Err(match child.wait().await {
                    Ok(status) if status.code().is_some() => {
                        io::Error::other(format!("it ended with {status}"))
                    }
                    _ => error,
                })
            }
        }
    }
}

fn send(to: &UnixStream, doors: &Doors) -> io::Result<()> {
    let (names, sockets): (Vec<&str>, Vec<_>) = doors.named().into_iter().unzip();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_SOCKETS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !control.push(SendAncillaryMessage::ScmRights(&sockets)) {
        return Err(io::Error::other("there are too many sockets"));
    }
    let names = names.join("\n");
    sendmsg(to, &[IoSlice::new(names.as_bytes())], &mut control, SendFlags::empty())?;
    Ok(())
}

impl Old {
    /// The process that started this one in its place, if one did.
    pub(super) fn find() -> io::Result<Option<Self>> {
        let said = std::env::var(OLD_PROCESS).ok().and_then(|pid| pid.parse().ok());
        // The variable is inherited by whatever this process starts; only its child is meant.
        match said.and_then(Pid::from_raw).is_some_and(|old| getppid() == Some(old)) {
            true => Ok(Some(Self { sockets: receive()? })),
            false => Ok(None),
        }
    }

    pub(super) fn take_sockets(&mut self) -> Vec<Handed> {
        std::mem::take(&mut self.sockets)
    }

    /// Tells the old process that it can go.
    pub(super) fn relieve(self) -> io::Result<()> {
        rustix::io::write(io::stdin(), b"!")?;
        Ok(())
    }
}

fn receive() -> io::Result<Vec<Handed>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_SOCKETS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut names = [0; 4096];
    let into = &mut [IoSliceMut::new(&mut names)];
    let message = recvmsg(io::stdin(), into, &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let mut sockets: Vec<OwnedFd> = Vec::new();
    for one in control.drain() {
        if let RecvAncillaryMessage::ScmRights(more) = one {
            sockets.extend(more);
        }
    }
    let names = String::from_utf8_lossy(&names[..message.bytes]).into_owned();
    Ok(names.lines().map(str::to_owned).zip(sockets).collect())
}

/// As for a site, which an edge alone is not.
const OLD_PROCESS: &str = "THRONG_HANDOVER";
const MOST_SOCKETS: usize = 8;
/// How long the new process may take until it serves.
const PATIENCE: Duration = Duration::from_secs(60);
