//! A server under measurement, and the CPU time of all its processes.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process_group};

use super::http::Client;
use crate::shell;

/// A running server; stopped when dropped.
pub(in crate::bench) struct Server {
    pub(in crate::bench) port: u16,
    child: Child,
}

impl Server {
    /// Starts `command`, its output in `log`, and waits until `path` answers.
    pub(in crate::bench) fn start(
        command: &mut Command,
        port: u16,
        path: &str,
        log: &Path,
    ) -> Result<Self> {
        let file = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file).process_group(0);
        let child =
            command.spawn().with_context(|| format!("cannot start `{}`", shell::said(command)))?;
        let mut server = Self { port, child };
        let start = Instant::now();
        while !Client::new(port).get(path).is_ok_and(|answer| answer.status == 200) {
            let ended = server.child.try_wait()?;
            if ended.is_some() || start.elapsed() > Duration::from_secs(60) {
                let said = fs::read_to_string(log).unwrap_or_default();
                let last: Vec<&str> = said.lines().rev().take(15).collect();
                let last: Vec<&str> = last.into_iter().rev().collect();
                bail!("`{}` does not serve {path}\n{}", shell::said(command), last.join("\n"));
            }
            thread::sleep(Duration::from_millis(50));
        }
        Ok(server)
    }

    /// CPU time, user and system, of the process and all its living descendants so far.
    pub(in crate::bench) fn cpu(&self) -> Duration {
        let processes = processes();
        let mut ticks = 0;
        let mut family = vec![self.child.id()];
        while let Some(pid) = family.pop() {
            ticks += processes.get(&pid).map_or(0, |process| process.ticks);
            let children = processes.iter().filter(|(_, process)| process.parent == pid);
            family.extend(children.map(|(pid, _)| *pid));
        }
        Duration::from_millis(ticks * MS_A_TICK)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let Some(group) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) else {
            return;
        };
        let _ = kill_process_group(group, Signal::TERM);
        let start = Instant::now();
        while self.child.try_wait().is_ok_and(|ended| ended.is_none()) {
            if start.elapsed() > Duration::from_secs(10) {
                let _ = kill_process_group(group, Signal::KILL);
            }
            thread::sleep(Duration::from_millis(20));
        }
    }
}

/// CPU time of this process so far.
pub(in crate::bench) fn own_cpu() -> Duration {
    let ticks = processes().get(&std::process::id()).map_or(0, |own| own.ticks);
    Duration::from_millis(ticks * MS_A_TICK)
}

struct Process {
    parent: u32,
    ticks: u64,
}

/// `/proc/PID/stat` of every process: fields 4, 14 and 15, counted after the name in brackets.
fn processes() -> BTreeMap<u32, Process> {
    let Ok(entries) = fs::read_dir("/proc") else { return BTreeMap::new() };
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    pids.filter_map(|pid| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
        let parent = u32::try_from(number(4)?).ok()?;
        Some((pid, Process { parent, ticks: number(14)? + number(15)? }))
    })
    .collect()
}

/// `/proc` counts in hundredths of a second on every Linux.
const MS_A_TICK: u64 = 10;
