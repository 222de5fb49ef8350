//! What others are told about the process that serves: a file with its id, and systemd.

use std::{
    io,
    os::unix::net::UnixDatagram,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

/// A file that holds the id of the process that serves. It goes with it, unless another has taken
/// over by then.
#[derive(Debug)]
pub(super) struct PidFile {
    path: PathBuf,
}

impl PidFile {
    pub(super) fn write(path: &Path) -> io::Result<Self> {
        std::fs::write(path, format!("{}\n", std::process::id()))?;
        Ok(Self { path: path.to_owned() })
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        if read(&self.path).is_ok_and(|pid| pid.as_raw_nonzero().get() as u32 == std::process::id())
        {
            let _ = std::fs::remove_file(&self.path); // it is out of date either way
        }
    }
}

/// Tells systemd which process serves now, when systemd started it (`Type=notify`,
/// `NotifyAccess=all`).
pub(super) fn systemd() -> io::Result<()> {
    let Some(socket) = std::env::var_os("NOTIFY_SOCKET") else { return Ok(()) };
    let words = format!("MAINPID={}\nREADY=1\n", std::process::id());
    UnixDatagram::unbound()?.send_to(words.as_bytes(), socket)?;
    Ok(())
}

/// Asks the process that a file names to hand over to a new one, and waits until it has. Both ids.
pub(super) fn reload(path: &Path) -> io::Result<(Pid, Pid)> {
    let old = read(path)?;
    kill_process(old, Signal::USR2)?;
    let since = Instant::now();
    while since.elapsed() < PATIENCE {
        match read(path) {
            Ok(new) if new != old => return Ok((old, new)),
            _ => std::thread::sleep(PAUSE),
        }
    }
    let reason = "it still serves itself; its log says why";
    Err(io::Error::new(io::ErrorKind::TimedOut, reason))
}

fn read(path: &Path) -> io::Result<Pid> {
    let text = std::fs::read_to_string(path)?;
    let pid = text.trim().parse().ok().and_then(Pid::from_raw);
    pid.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "it holds no process id"))
}

const PATIENCE: Duration = Duration::from_secs(65);
const PAUSE: Duration = Duration::from_millis(50);
