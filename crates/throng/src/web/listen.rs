//! The listening socket: handed over by the process before, by systemd, or bound here.

use std::{
    io,
    net::{TcpListener, ToSocketAddrs},
};

use listenfd::ListenFd;

/// Takes the socket that was handed over, else binds `listen`. Must run before other threads do,
/// because it clears the environment's word about the socket.
pub(crate) fn listen(listen: &str) -> io::Result<TcpListener> {
    let listener = match ListenFd::from_env().take_tcp_listener(0)? {
        Some(handed) => handed,
        None => bind(listen)?,
    };
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Listens on the first address of `listen` that is free.
pub(crate) fn bind(listen: &str) -> io::Result<TcpListener> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in listen.to_socket_addrs()? {
        match TcpListener::bind(address) {
            Ok(listener) => {
                // The standard library asks for a backlog of 128; a burst of visitors is larger.
                rustix::net::listen(&listener, BACKLOG)?;
                return Ok(listener);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Connections that the system may hold for us; it lowers this to its own limit.
const BACKLOG: i32 = 4096;
