//! The workspace as cargo sees it: where it is, where it builds, and which crates are its rooms.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, anyhow};
use serde::Deserialize;

use crate::shell::{self, Unprepared};

/// The workspace.
pub(crate) struct House {
    /// The folder of the root `Cargo.toml`.
    pub(crate) root: PathBuf,
    /// Where cargo builds; everything that xtask makes is under it too.
    pub(crate) target: PathBuf,
    /// The members, by name.
    pub(crate) rooms: Vec<Room>,
}

/// One crate of the workspace.
#[derive(Clone)]
pub(crate) struct Room {
    /// The package's name, `throng-db`.
    pub(crate) package: String,
    /// The folder of its `Cargo.toml`.
    pub(crate) folder: PathBuf,
    /// Its features, `default` aside.
    pub(crate) features: Vec<String>,
}

impl House {
    /// Asks `cargo metadata`.
    pub(crate) fn find() -> Result<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let root =
            root.canonicalize().context("cannot find the workspace that xtask is part of")?;
        let mut cargo = cargo(&root);
        cargo.args(["metadata", "--no-deps", "--format-version", "1"]);
        let metadata: Metadata = serde_json::from_str(&shell::output(&mut cargo)?)
            .context("cannot read what `cargo metadata` printed")?;
        let mut rooms: Vec<Room> = metadata.packages.into_iter().map(Room::from).collect();
        rooms.sort_by(|a, b| a.package.cmp(&b.package));
        Ok(Self { root, target: metadata.target_directory, rooms })
    }

    /// The room that people call `name`: `db` and `throng-db` are the same, `site` is boxoffice.
    pub(crate) fn room(&self, name: &str) -> Result<&Room> {
        let room = self.rooms.iter().find(|room| room.answers_to(name));
        room.ok_or_else(|| {
            let known: Vec<&str> = self.rooms.iter().map(Room::name).collect();
            let problem = format!("there is no room `{name}`; there are {}", known.join(", "));
            anyhow!(Unprepared(problem))
        })
    }

    /// A `cargo` that runs in the workspace's root.
    pub(crate) fn cargo(&self) -> Command {
        cargo(&self.root)
    }
}

impl Room {
    /// The short name: the package's without `throng-`.
    pub(crate) fn name(&self) -> &str {
        self.package.strip_prefix("throng-").unwrap_or(&self.package)
    }

    fn answers_to(&self, name: &str) -> bool {
        self.package == name
            || self.name() == name
            || (name == "site" && self.name() == "boxoffice")
    }
}

impl From<Package> for Room {
    fn from(package: Package) -> Self {
        let folder = package.manifest_path.parent().map(Path::to_owned).unwrap_or_default();
        let features = package.features.into_keys().filter(|feature| feature != "default");
        Self { package: package.name, folder, features: features.collect() }
    }
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    target_directory: PathBuf,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    manifest_path: PathBuf,
    features: std::collections::BTreeMap<String, Vec<String>>,
}

/// Cargo without what the cargo that runs us says of us: "ring" is built anew, and with it nearly
/// everything, when that differs from what the last build saw.
fn cargo(root: &Path) -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(root);
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            cargo.env_remove(&name);
        }
    }
    cargo
}
