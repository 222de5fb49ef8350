//! The sockets that visitors come in by: handed over by the process before, opened by systemd, or
//! bound here.

use std::{
    io,
    net::TcpListener,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use listenfd::ListenFd;
use throng_edge::{Certificates, Listener};

use crate::{start::StartError, web};

/// The open doors of an edge, in the order in which they are handed over.
pub(super) struct Doors {
    plain: Door,
    tls: Option<Door>,
}

struct Door {
    /// As it was asked for; a door that is handed over is taken where this is the same.
    name: String,
    socket: TcpListener,
}

impl Doors {
    /// Opens both. `tls` is where HTTPS is spoken; what is `handed` over is taken rather than bound.
    pub(super) fn open(
        listen: &str,
        tls: Option<&str>,
        mut handed: Vec<Handed>,
    ) -> Result<Self, StartError> {
        let mut systemd = ListenFd::from_env();
        let mut open = |place: usize, name: String, setting| -> Result<Door, StartError> {
            let found = handed.iter().position(|(held, _)| *held == name);
            let found = found.map(|at| TcpListener::from(handed.swap_remove(at).1));
            let socket = || match found {
                Some(socket) => Ok(socket),
                None => match systemd.take_tcp_listener(place)? {
                    Some(socket) => Ok(socket),
                    None => web::bind(name.trim_start_matches("https://")),
                },
            };
            let prepared = socket().and_then(|socket| {
                socket.set_nonblocking(true)?;
                Ok(socket)
            });
            match prepared {
                Ok(socket) => Ok(Door { name, socket }),
                Err(source) => Err(StartError::Listen { listen: name, setting, source }),
            }
        };
        let plain = open(0, listen.to_owned(), "--listen")?;
        let tls =
            tls.map(|listen| open(1, format!("https://{listen}"), "--tls-listen")).transpose()?;
        Ok(Self { plain, tls })
    }

    /// What the edge listens on. Needs the runtime.
    pub(super) fn listeners(
        &self,
        certificates: Option<&Certificates>,
        sends_to_https: bool,
    ) -> io::Result<Vec<Listener>> {
        let socket = |door: &Door| tokio::net::TcpListener::from_std(door.socket.try_clone()?);
        let mut plain = Listener::plain(socket(&self.plain)?);
        let mut secure = None;
        if let (Some(door), Some(certificates)) = (&self.tls, certificates) {
            if sends_to_https {
                plain = plain.sending_to_https(door.socket.local_addr()?.port());
            }
            secure = Some(Listener::tls(socket(door)?, certificates));
        }
        Ok([Some(plain), secure].into_iter().flatten().collect())
    }

    /// Where it listens, for the log.
    pub(super) fn urls(&self) -> Vec<String> {
        let doors = [Some((&self.plain, "http")), self.tls.as_ref().map(|door| (door, "https"))];
        let url = |(door, scheme): (&Door, &str)| {
            Some(format!("{scheme}://{}", door.socket.local_addr().ok()?))
        };
        doors.into_iter().flatten().filter_map(url).collect()
    }

    /// The sockets and what they are called.
    pub(super) fn named(&self) -> Vec<(&str, BorrowedFd<'_>)> {
        let doors = [Some(&self.plain), self.tls.as_ref()].into_iter().flatten();
        doors.map(|door| (door.name.as_str(), door.socket.as_fd())).collect()
    }
}

/// A socket that was handed over, and what it is called.
pub(super) type Handed = (String, OwnedFd);
