//! Debian packages: installed when we are root, asked for in one line when we are not.

use std::process::Command;

use anyhow::{Context, Result, anyhow};

use crate::shell::{self, Unprepared};

/// Installs `packages`, after one `apt-get update`. Call it only when something is missing.
///
/// # Errors
/// [`Unprepared`] with the line to run, when we are not root or this is not Debian.
pub(crate) fn install(packages: &[&str]) -> Result<()> {
    let line = format!(
        "apt-get update && apt-get install -y --no-install-recommends {}",
        packages.join(" ")
    );
    if shell::which("apt-get").is_none() {
        let wanted = packages.join(", ");
        let problem = format!("this machine has no apt-get; install what Debian calls {wanted}");
        return Err(anyhow!(Unprepared(problem)));
    }
    if !rustix::process::geteuid().is_root() {
        return Err(anyhow!(Unprepared(format!(
            "some packages are missing; run\n  sudo sh -c '{line}'"
        ))));
    }
    eprintln!("installing {}", packages.join(", "));
    let update = shell::run_quietly(apt_get().arg("update"));
    let install = ["install", "-y", "--no-install-recommends"];
    shell::run_quietly(apt_get().args(install).args(packages))
        // A failed update is only told when it matters: old lists are often good enough.
        .map_err(|error| update.err().unwrap_or(error))
        .with_context(|| format!("cannot install {}; try by hand: {line}", packages.join(", ")))
}

fn apt_get() -> Command {
    let mut apt_get = Command::new("apt-get");
    apt_get.args(["-q", "-o", "DPkg::Lock::Timeout=300"]);
    apt_get.env("DEBIAN_FRONTEND", "noninteractive");
    apt_get
}
