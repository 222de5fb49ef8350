//! Where an engine lives: its folder, the processes that work in it, and the user they run as.

use std::{
    fs::{self, File, Permissions},
    os::unix::{
        fs::{MetadataExt, PermissionsExt, chown},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, geteuid, kill_process};

use crate::{engines::Engine, house::House, shell};

/// The folder of one engine of this checkout.
pub(super) struct Place {
    folder: PathBuf,
}

impl Place {
    pub(super) fn of(house: &House, engine: Engine) -> Result<Self> {
        let base = base(house);
        fs::create_dir_all(&base).with_context(|| format!("cannot make {}", base.display()))?;
        Ok(Self { folder: base.join(format!("{engine:?}").to_lowercase()) })
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The file that says how to reach the engine; it is there once the engine has answered.
    pub(super) fn environment(&self) -> PathBuf {
        self.folder.join("environment")
    }

    /// Held while an engine is started or stopped.
    pub(super) fn lock(&self) -> Result<File> {
        let path = self.folder.with_extension("lock");
        let file =
            File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
        file.lock().with_context(|| format!("cannot lock {}", path.display()))?;
        Ok(file)
    }

    /// A new folder for one server, owned by the user that it will run as.
    pub(super) fn server(&self, name: &str, user: &User) -> Result<PathBuf> {
        let folder = self.folder.join(name);
        for folder in [&self.folder, &folder] {
            fs::create_dir_all(folder)?;
            fs::set_permissions(folder, Permissions::from_mode(0o700))?;
            user.own(folder)?;
        }
        Ok(folder)
    }

    /// Stops what runs here, the gentle way first, and removes the folder.
    pub(super) fn clear(&self) -> Result<usize> {
        let found = self.processes();
        let start = Instant::now();
        loop {
            let left = self.processes();
            if left.is_empty() {
                break;
            }
            let waited = start.elapsed();
            if waited > Duration::from_secs(20) {
                bail!("processes {left:?} in {} do not end", self.folder.display());
            }
            // A postmaster takes TERM as "wait for the clients"; INT means "now" to every engine
            // but MariaDB's, which ignores it. Stopped processes hear nothing until they go on.
            let gentle = [Signal::CONT, Signal::INT, Signal::TERM];
            let hard = [Signal::KILL];
            let signals = if waited < Duration::from_secs(8) { &gentle[..] } else { &hard };
            for (pid, signal) in left.iter().flat_map(|pid| signals.iter().map(move |s| (*pid, *s)))
            {
                let _ = kill_process(pid, signal); // it may have ended since
            }
            thread::sleep(Duration::from_millis(100));
        }
        if self.folder.exists() {
            fs::remove_dir_all(&self.folder)
                .with_context(|| format!("cannot remove {}", self.folder.display()))?;
        }
        Ok(found.len())
    }

    /// Every process whose working folder is in ours. A zombie has none.
    fn processes(&self) -> Vec<Pid> {
        let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
        let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        pids.filter(|pid: &i32| {
            let cwd = fs::read_link(format!("/proc/{pid}/cwd"));
            cwd.is_ok_and(|cwd| cwd.starts_with(&self.folder))
        })
        .filter_map(Pid::from_raw)
        .collect()
    }
}

/// Under `target/`, unless the users that servers run as cannot get there.
fn base(house: &House) -> PathBuf {
    let under_target = house.target.join("engines");
    let is_open =
        |folder: &Path| folder.metadata().is_ok_and(|meta| meta.permissions().mode() & 0o001 != 0);
    if !geteuid().is_root() || house.target.ancestors().all(is_open) {
        return under_target;
    }
    // The inode tells two checkouts apart and stays the same for each.
    let checkout = house.root.metadata().map(|meta| meta.ino()).unwrap_or_default();
    PathBuf::from(format!("/var/tmp/throng-engines-{checkout}"))
}

/// Who a server runs as: ourselves, or a system user when we are root and the engine refuses root.
pub(super) struct User(Option<(u32, u32)>);

impl User {
    pub(super) fn ourselves() -> Self {
        Self(None)
    }

    /// The system user `name`, which the engine's package has made.
    pub(super) fn system(name: &str) -> Result<Self> {
        if !geteuid().is_root() {
            return Ok(Self::ourselves());
        }
        let id = |flag| {
            let printed = shell::output(Command::new("id").args([flag, name]))?;
            printed.trim().parse().with_context(|| format!("`id` printed `{printed}`"))
        };
        Ok(Self(Some((id("-u")?, id("-g")?))))
    }

    /// `program`, to be run as this user in `folder`, with its output in `folder`'s log.
    pub(super) fn command(&self, program: impl AsRef<Path>, folder: &Path) -> Command {
        let mut command = Command::new(program.as_ref());
        command.current_dir(folder).stdin(Stdio::null());
        if let Some((uid, gid)) = self.0 {
            command.uid(uid).gid(gid);
        }
        command
    }

    /// Starts a server that outlives us, its output in `folder`'s `log` file.
    pub(super) fn start(&self, command: &mut Command, folder: &Path) -> Result<()> {
        let log = File::create(folder.join("log"))?;
        command.stdout(log.try_clone()?).stderr(log).process_group(0);
        command.spawn().with_context(|| format!("cannot start `{}`", shell::said(command)))?;
        Ok(())
    }

    fn own(&self, path: &Path) -> Result<()> {
        let Some((uid, gid)) = self.0 else { return Ok(()) };
        chown(path, Some(uid), Some(gid)).with_context(|| format!("cannot give {}", path.display()))
    }
}
