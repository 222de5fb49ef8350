//! Free ports, and asking a port whether the right server is behind it.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};

/// Ports of 127.0.0.1 that nobody listens on; different from each other.
pub(crate) fn free_ports<const N: usize>() -> Result<[u16; N]> {
    let mut listeners = Vec::new();
    let mut ports = [0; N];
    for port in &mut ports {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        *port = listener.local_addr()?.port();
        listeners.push(listener);
    }
    Ok(ports)
}

/// Does the server on `port` answer `question` with something that begins with `answer`?
pub(super) fn asks(port: u16, question: &[u8], answer: &[u8]) -> bool {
    exchange(port, question).is_ok_and(|start| start.starts_with(answer))
}

/// Does the server on `port` speak first, in a way that `is_right`?
pub(super) fn greets(port: u16, is_right: impl FnOnce(&[u8]) -> bool) -> bool {
    exchange(port, b"").is_ok_and(|start| is_right(&start))
}

/// The first bytes that come back, as many as one read gives.
fn exchange(port: u16, question: &[u8]) -> std::io::Result<Vec<u8>> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(question)?;
    let mut start = vec![0; 64];
    let length = stream.read(&mut start)?;
    start.truncate(length);
    Ok(start)
}

/// Waits until `answers(port)` for each of `ports`.
pub(super) fn wait(ports: &[u16], answers: fn(u16) -> bool) -> Result<()> {
    let start = Instant::now();
    for port in ports {
        while !answers(*port) {
            if start.elapsed() > Duration::from_secs(60) {
                bail!("nothing answers on port {port} after a minute");
            }
            thread::sleep(Duration::from_millis(50));
        }
    }
    Ok(())
}

/// The ports in a URL's host list.
pub(super) fn ports(url: &str) -> Vec<u16> {
    let hosts = url.split_once("://").map_or("", |(_, rest)| rest);
    let hosts = hosts.split(['/', '?']).next().unwrap_or("");
    hosts.split(',').filter_map(|host| host.rsplit_once(':')?.1.parse().ok()).collect()
}

const PATIENCE: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::ports;

    #[test]
    fn every_port_of_a_url_is_found() {
        assert_eq!(ports("postgres://me:secret@127.0.0.1:5432/site"), [5432]);
        assert_eq!(ports("memcached://127.0.0.1:1,127.0.0.1:2?ring=ketama"), [1, 2]);
        assert!(ports("sqlite:site.db").is_empty());
    }
}
