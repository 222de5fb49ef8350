//! The public suite for HTTP caches, which the edge is judged by, from npm.

use std::{path::PathBuf, process::Command};

use anyhow::{Context, Result};

use crate::{apt, house::House, shell};

/// The folder of `http-cache-tests` under `target/`. Quick when it is there already.
pub(crate) fn cache_tests(house: &House) -> Result<PathBuf> {
    let place = house.target.join("cache-tests");
    let package = place.join("node_modules/http-cache-tests");
    let is_there = |folder: &PathBuf| folder.join("cli.mjs").is_file();
    if shell::which("node").is_none() || (shell::which("npm").is_none() && !is_there(&package)) {
        apt::install(&["nodejs", "npm"])?;
    }
    if !is_there(&package) {
        let mut npm = Command::new("npm");
        npm.args([
            "install",
            "--no-save",
            "--no-audit",
            "--no-fund",
            "--ignore-scripts",
            "--prefix",
        ]);
        shell::run_quietly(npm.arg(&place).arg(PINNED)).context(
            "cannot install the suite for HTTP caches; the npm registry must be reachable once",
        )?;
    }
    Ok(package)
}

const PINNED: &str = "http-cache-tests@0.4.5";
