//! A restart that no visitor notices: on SIGHUP a new process gets the listening socket, and the old
//! one drains once the new one serves.
//!
//! The socket travels as the standard input of the new process, announced in the manner of systemd
//! (`LISTEN_FDS`), so that no connection is refused at any moment: both processes share one queue of
//! new connections. The new process says that it serves by sending SIGTERM to the old one, whose pid
//! it finds in `THRONG_HANDOVER`. If it does not get that far, the old one carries on.

use std::{
    ffi::OsString,
    io,
    net::TcpListener,
    os::fd::OwnedFd,
    path::PathBuf,
    process::Stdio,
    sync::atomic::{AtomicBool, Ordering},
};

use rustix::process::{Pid, Signal, getppid, kill_process};
use tokio::process::{Child, Command};

/// How this process was started, kept to start the next one the same way.
#[derive(Debug)]
pub(crate) struct Handover {
    program: PathBuf,
    arguments: Vec<OsString>,
    listener: Option<TcpListener>,
    is_under_way: AtomicBool,
}

impl Handover {
    /// Remembers the program's path now: after an update it names the new file.
    pub(crate) fn new(
        arguments: Vec<OsString>,
        listener: Option<&TcpListener>,
    ) -> io::Result<Self> {
        Ok(Self {
            program: std::env::current_exe()?,
            arguments,
            listener: listener.map(TcpListener::try_clone).transpose()?,
            is_under_way: AtomicBool::new(false),
        })
    }

    /// Whether another process has, or is about to have, the listening socket.
    pub(crate) fn is_under_way(&self) -> bool {
        self.is_under_way.load(Ordering::Acquire)
    }

    /// Starts the new process.
    pub(crate) fn start(&self) -> io::Result<Child> {
        let mut command = Command::new(&self.program);
        command.args(self.arguments.iter().skip(1));
        command.env(OLD_PROCESS, std::process::id().to_string());
        command.env_remove("LISTEN_PID");
        if let Some(listener) = &self.listener {
            command.stdin(Stdio::from(OwnedFd::from(listener.try_clone()?)));
            command.env("LISTEN_FDS", "1").env("LISTEN_FDS_FIRST_FD", "0");
        } else {
            command.stdin(Stdio::null());
        }
        let child = command.spawn()?;
        self.is_under_way.store(true, Ordering::Release);
        Ok(child)
    }

    /// The new process ended before it took over.
    pub(crate) fn failed(&self) {
        self.is_under_way.store(false, Ordering::Release);
    }
}

/// Tells the process that started this one in its place, if there is one, that it can go.
pub(crate) fn take_over() -> io::Result<()> {
    let old = std::env::var(OLD_PROCESS).ok().and_then(|pid| pid.parse().ok());
    let Some(old) = old.and_then(Pid::from_raw) else {
        return Ok(());
    };
    // The variable is inherited by whatever this process starts; only a parent may be told to go.
    if getppid() == Some(old) {
        tracing::info!("taking over from process {old}", old = old.as_raw_nonzero());
        kill_process(old, Signal::TERM)?;
    }
    Ok(())
}

const OLD_PROCESS: &str = "THRONG_HANDOVER";
