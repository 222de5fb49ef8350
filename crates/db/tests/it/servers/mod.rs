//! Private clusters of real servers, started and stopped by the tests that use them.

pub(crate) mod link;
pub(crate) mod mariadb;
pub(crate) mod pgbouncer;
pub(crate) mod postgres;

use std::{
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
};

/// A port that nobody listens on now.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A folder of its own under the target folder, which the servers' user may enter.
pub(crate) fn folder(name: &str) -> tempfile::TempDir {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let name = format!("throng-{name}-{}-{count}-", std::process::id());
    tempfile::Builder::new().prefix(&name).tempdir().unwrap()
}

/// Prints why a test does nothing; where CI runs, that is a failure.
pub(crate) fn skip(reason: &str) {
    assert!(std::env::var("CI").is_err_and(|_| true), "skipped in CI: {reason}");
    println!("skip: {reason}");
}

pub(crate) fn is_root() -> bool {
    output(Command::new("id").arg("-u")).trim() == "0"
}

/// Runs a command to its end and gives what it printed.
pub(crate) fn output(command: &mut Command) -> String {
    let done = command.stdin(Stdio::null()).output().unwrap();
    let error = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{command:?}: {error}");
    String::from_utf8_lossy(&done.stdout).into_owned()
}

/// Sends a signal to one process.
pub(crate) fn signal(pid: u32, name: &str) {
    let sent = Command::new("kill").args(["-s", name, &pid.to_string()]).status().unwrap();
    assert!(sent.success(), "kill -s {name} {pid}");
}

/// The processes whose parent is `pid`.
pub(crate) fn children(pid: u32) -> Vec<u32> {
    let list =
        Command::new("ps").args(["-o", "pid=", "--ppid", &pid.to_string()]).output().unwrap();
    let list = String::from_utf8_lossy(&list.stdout).into_owned();
    list.split_whitespace().map(|pid| pid.parse().unwrap()).collect()
}

pub(crate) fn find(program: &str, folders: &[&str]) -> Option<PathBuf> {
    let path = std::env::var("PATH").unwrap_or_default();
    let folders = folders.iter().copied().chain(path.split(':'));
    folders.map(|folder| Path::new(folder).join(program)).find(|path| path.exists())
}
