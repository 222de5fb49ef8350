//! Ports for processes that tests start.

use std::sync::atomic::{AtomicUsize, Ordering};

/// A port for a process that listens later, and perhaps once more after that. Not one of those that
/// the system gives to connections, which would be in its way for a minute after they ended.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let first = std::process::id() as usize * 7;
    loop {
        let next = first + NEXT.fetch_add(1, Ordering::Relaxed);
        let port = 10_000 + (next % 22_000) as u16;
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}
