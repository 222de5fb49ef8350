//! apalis, a peer of the queue: a program outside the workspace, built when the queue is measured.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use crate::{house::House, shell};

/// Builds the program with its own lock and says where it is.
pub(super) fn build(house: &House) -> Result<PathBuf> {
    let folder = house.root.join("xtask/peers/apalis");
    let target = house.target.join("peers/apalis");
    let mut cargo = house.cargo();
    cargo.current_dir(&folder).args(["build", "--release", "--locked", "-q", "--target-dir"]);
    shell::run_quietly(cargo.arg(&target)).context("cannot build it")?;
    let program = target.join("release/apalis-peer");
    if !shell::is_program(&program) {
        bail!("{} was not built", program.display());
    }
    Ok(program)
}
