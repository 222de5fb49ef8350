//! Running other programs, with errors that say which one and what it printed.

use std::{
    env,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, anyhow, bail};

/// Something is missing or was asked wrongly; the text says what to do. Ends with exit code 2.
#[derive(Debug)]
pub(crate) struct Unprepared(pub(crate) String);

impl std::fmt::Display for Unprepared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Unprepared {}

/// Runs `command` with its output going where ours goes; an exit code other than 0 is an error.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot start `{}`", said(command)))?;
    if status.success() { Ok(()) } else { Err(anyhow!("`{}` ended with {status}", said(command))) }
}

/// Runs `command` without showing its output, unless it fails: then the end of it is in the error.
pub(crate) fn run_quietly(command: &mut Command) -> Result<()> {
    output(command).map(drop)
}

/// Runs `command` and returns what it printed on standard output.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot start `{}`", said(command)))?;
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(printed);
    }
    let complained = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<&str> = printed.lines().chain(complained.lines()).collect();
    let last = lines[lines.len().saturating_sub(30)..].join("\n");
    bail!("`{}` ended with {}\n{last}", said(command), output.status)
}

/// The first file called `name` that can be run, on `PATH` or where Debian keeps daemons.
pub(crate) fn which(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    folders.map(|folder| folder.join(name)).find(|file| is_program(file))
}

pub(crate) fn is_program(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    file.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

/// The command as somebody would type it.
pub(crate) fn said(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

/// Are we in CI, where nothing may be skipped?
pub(crate) fn is_ci() -> bool {
    env::var("CI").is_ok_and(|ci| !ci.is_empty() && ci != "false" && ci != "0")
}
