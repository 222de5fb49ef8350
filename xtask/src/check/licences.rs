//! Licences and sources of every dependency, against `deny.toml`; cargo-deny too where it is.

use std::{collections::BTreeSet, fs, process::Command};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::{house::House, shell};

pub(super) fn check(house: &House) -> Result<()> {
    let text = fs::read_to_string(house.root.join("deny.toml")).context("cannot read deny.toml")?;
    let rules: Rules = toml::from_str(&text).context("cannot understand deny.toml")?;
    let mut cargo = house.cargo();
    // Without a platform cargo would fetch the sources of every other system's packages too.
    cargo.args(["metadata", "--format-version", "1", "--locked", "--filter-platform"]).arg(host()?);
    let metadata: Metadata = serde_json::from_str(&shell::output(&mut cargo)?)
        .context("cannot read what `cargo metadata` printed")?;

    let allowed: BTreeSet<&str> = rules.licenses.allow.iter().map(String::as_str).collect();
    let mut problems = Vec::new();
    for package in &metadata.packages {
        let Package { name, version, license, source } = package;
        let exception = rules.licenses.exceptions.iter().find(|exception| exception.krate == *name);
        let excepted = exception.iter().flat_map(|exception| &exception.allow);
        let allows = |licence: &str| {
            allowed.contains(licence) || excepted.clone().any(|more| more == licence)
        };
        match license {
            Some(license) if is_met(license, &allows) => {}
            Some(license) => problems.push(format!("  {name} {version}: {license}")),
            None => problems.push(format!("  {name} {version}: names no licence")),
        }
        if source.as_ref().is_some_and(|source| !source.contains(CRATES_IO)) {
            problems.push(format!("  {name} {version}: not from crates.io"));
        }
    }
    if !problems.is_empty() {
        bail!("deny.toml does not allow\n{}", problems.join("\n"));
    }
    println!("{} packages, licences and sources as deny.toml allows", metadata.packages.len());
    cargo_deny(house)
}

/// The platform that we build for, as rustc names it.
fn host() -> Result<String> {
    let version = shell::output(Command::new("rustc").arg("-vV"))?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).context("`rustc -vV` names no host")
}

/// Bans and advisories are cargo-deny's alone.
fn cargo_deny(house: &House) -> Result<()> {
    if shell::which("cargo-deny").is_none() {
        println!("cargo-deny is not installed: bans and advisories are not checked");
        return Ok(());
    }
    let mut cargo_deny = Command::new("cargo-deny");
    shell::run(cargo_deny.current_dir(&house.root).arg("check"))
}

/// Is the SPDX expression met by the licences that are allowed? `A/B` is the old way to say or.
fn is_met(expression: &str, allows: &dyn Fn(&str) -> bool) -> bool {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let mut words = spaced.split_whitespace().peekable();
    let is_met = either(&mut words, allows);
    is_met && words.next().is_none()
}

type Words<'a> = std::iter::Peekable<std::str::SplitWhitespace<'a>>;

fn either(words: &mut Words<'_>, allows: &dyn Fn(&str) -> bool) -> bool {
    let mut is_met = both(words, allows);
    while words.next_if_eq(&"OR").is_some() {
        is_met |= both(words, allows);
    }
    is_met
}

fn both(words: &mut Words<'_>, allows: &dyn Fn(&str) -> bool) -> bool {
    let mut is_met = one(words, allows);
    while words.next_if_eq(&"AND").is_some() {
        is_met &= one(words, allows);
    }
    is_met
}

fn one(words: &mut Words<'_>, allows: &dyn Fn(&str) -> bool) -> bool {
    match words.next() {
        Some("(") => either(words, allows) & words.next_if_eq(&")").is_some(),
        Some(licence) => {
            if words.next_if_eq(&"WITH").is_none() {
                return allows(licence);
            }
            // An exception only ever gives more freedom than the licence that it stands beside.
            words.next().is_some() && allows(licence)
        }
        None => false,
    }
}

const CRATES_IO: &str = "github.com/rust-lang/crates.io-index";

#[derive(Deserialize)]
struct Rules {
    licenses: Licenses,
}

#[derive(Deserialize)]
struct Licenses {
    allow: Vec<String>,
    #[serde(default)]
    exceptions: Vec<Exception>,
}

#[derive(Deserialize)]
struct Exception {
    #[serde(rename = "crate")]
    krate: String,
    allow: Vec<String>,
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    version: String,
    license: Option<String>,
    source: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::is_met;

    fn check(expression: &str, wants: bool) {
        let allows = |licence: &str| ["MIT", "BSD-3-Clause", "Apache-2.0"].contains(&licence);
        assert_eq!(is_met(expression, &allows), wants, "{expression}");
    }

    #[test]
    fn licence_expressions_are_read_as_spdx_means_them() {
        check("MIT", true);
        check("GPL-3.0", false);
        check("GPL-3.0 OR MIT", true);
        check("GPL-3.0/MIT", true);
        check("GPL-3.0 AND MIT", false);
        check("(GPL-3.0 OR MIT) AND BSD-3-Clause", true);
        check("MIT AND GPL-3.0 OR Apache-2.0", true);
        check("Apache-2.0 WITH LLVM-exception", true);
        check("GPL-3.0 WITH Classpath-exception-2.0", false);
        check("(MIT", false);
        check("", false);
    }
}
