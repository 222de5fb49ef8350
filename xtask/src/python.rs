//! The Python that tests and benches judge us by: a venv under `target/` with pinned packages.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use crate::{apt, house::House, shell};

/// The venv's python, with everything in `xtask/requirements.txt`. Quick when it is there already.
pub(crate) fn provide(house: &House) -> Result<PathBuf> {
    provide_from(house, "requirements.txt", "python")
}

/// The python of a venv of its own, with the Celery that many sites still run.
pub(crate) fn provide_celery_5_4(house: &House) -> Result<PathBuf> {
    provide_from(house, "celery-5.4.txt", "celery-5.4")
}

fn provide_from(house: &House, requirements: &str, folder: &str) -> Result<PathBuf> {
    let requirements = house.root.join("xtask").join(requirements);
    let wanted = fs::read_to_string(&requirements)
        .with_context(|| format!("cannot read {}", requirements.display()))?;
    let venv = house.target.join(folder);
    let python = venv.join("bin/python");
    let stamp = venv.join("requirements.txt");
    if fs::read_to_string(&stamp).is_ok_and(|stamped| stamped == wanted) && works(&python, "") {
        return Ok(python);
    }
    let base = base()?;
    eprintln!("making a Python environment in {} with {}", venv.display(), base.display());
    if venv.exists() {
        fs::remove_dir_all(&venv).with_context(|| format!("cannot clear {}", venv.display()))?;
    }
    shell::run_quietly(Command::new(&base).args(["-m", "venv"]).arg(&venv))?;
    let mut pip = Command::new(&python);
    pip.args(["-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-input", "-r"]);
    shell::run_quietly(pip.arg(&requirements)).context(
        "cannot install the pinned Python packages; the package index must be reachable once",
    )?;
    fs::write(&stamp, wanted).with_context(|| format!("cannot write {}", stamp.display()))?;
    Ok(python)
}

/// A Python that can make venvs: the one on `PATH`, or Debian's.
fn base() -> Result<PathBuf> {
    let debian = PathBuf::from("/usr/bin/python3");
    let found = shell::which("python3").into_iter().chain([debian.clone()]);
    if let Some(python) = found.into_iter().find(|python| works(python, MAKES_VENVS)) {
        return Ok(python);
    }
    apt::install(&["python3", "python3-venv"])?;
    Ok(debian)
}

fn works(python: &Path, program: &str) -> bool {
    shell::is_program(python) && shell::output(Command::new(python).args(["-c", program])).is_ok()
}

const MAKES_VENVS: &str = "import ensurepip, sys, venv; assert sys.version_info >= (3, 10)";
