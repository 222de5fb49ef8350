//! What the tests of a room need from outside, and the environment that tells them where it is.
//!
//! A room needs what its sources name: a room that reads `THRONG_TEST_PYTHON` gets a Python, one
//! that starts `"pdftotext"` gets that. So nothing has to be declared, and a room that needs nothing
//! waits for nothing.

use std::{collections::BTreeSet, fs, path::Path};

use anyhow::{Context, Result};

use crate::{
    apt,
    engines::{self, Engine, Environment},
    house::{House, Room},
    node, python, shell,
};

/// What the tests of some rooms need, ready.
pub(crate) struct Prepared {
    /// Goes into the environment of the tests.
    pub(crate) environment: Environment,
    /// The engines that were started for them; those that ran before are not ours to stop.
    pub(crate) started: Vec<Engine>,
}

/// Installs and starts what `rooms` need.
pub(crate) fn prepare(house: &House, rooms: &[Room]) -> Result<Prepared> {
    let mut sources = String::new();
    for room in rooms.iter().filter(|room| room.package != "xtask") {
        read_sources(&room.folder, &mut sources)?;
    }
    let named: BTreeSet<&str> = names(&sources).collect();
    let needs = |name: &str| named.contains(name);
    let is_missing =
        |program| sources.contains(&format!("\"{program}\"")) && !is_installed(program);
    let missing = PROGRAMS.iter().filter(|(program, _)| is_missing(program));
    let missing: Vec<&str> = missing.map(|(_, package)| *package).collect();
    if !missing.is_empty() {
        apt::install(&missing)?;
    }
    let mut environment = Vec::new();
    if needs("PYTHON") {
        let python = python::provide(house)?;
        environment.push(("THRONG_TEST_PYTHON".to_owned(), python.display().to_string()));
    }
    if needs("CELERY_5_4") {
        let python = python::provide_celery_5_4(house)?;
        environment.push(("THRONG_TEST_CELERY_5_4".to_owned(), python.display().to_string()));
    }
    if needs("CACHE_TESTS") {
        let folder = node::cache_tests(house)?;
        environment.push(("THRONG_TEST_CACHE_TESTS".to_owned(), folder.display().to_string()));
    }
    if needs("CHROMIUM") || needs("CHROMEDRIVER") {
        environment.extend(browser()?);
    }
    let mut started = Vec::new();
    let engines: BTreeSet<Engine> =
        named.iter().filter_map(|name| Engine::named_by(name)).collect();
    for engine in engines {
        let (lines, is_new) = engines::up(house, engine)?;
        environment.extend(lines);
        started.extend(is_new.then_some(engine));
    }
    Ok(Prepared { environment, started })
}

fn browser() -> Result<[(String, String); 2]> {
    let find = || {
        let chromium = ["chromium", "chromium-browser", "google-chrome"];
        let chromium = chromium.into_iter().find_map(shell::which)?;
        Some((chromium, shell::which("chromedriver")?))
    };
    let (chromium, chromedriver) = match find() {
        Some(found) => found,
        None => {
            apt::install(&["chromium", "chromium-driver"])?;
            find().context("chromium and chromedriver are installed but not on PATH")?
        }
    };
    Ok([
        ("THRONG_TEST_CHROMIUM".to_owned(), chromium.display().to_string()),
        ("THRONG_TEST_CHROMEDRIVER".to_owned(), chromedriver.display().to_string()),
    ])
}

/// Adds the Rust sources under `folder`.
fn read_sources(folder: &Path, sources: &mut String) -> Result<()> {
    let entries =
        fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))?;
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() {
            read_sources(&path, sources)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path)
                .with_context(|| format!("cannot read {}", path.display()))?;
            sources.push_str(&text);
        }
    }
    Ok(())
}

/// The `X` of each `THRONG_TEST_X`.
fn names(text: &str) -> impl Iterator<Item = &str> {
    text.split("THRONG_TEST_").skip(1).map(|rest| {
        let is_name = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
        &rest[..rest.find(|c| !is_name(c)).unwrap_or(rest.len())]
    })
}

/// PostgreSQL keeps its programs out of PATH on Debian.
fn is_installed(program: &str) -> bool {
    shell::which(program).is_some() || (program == "initdb" && Engine::Postgres.is_installed())
}

/// Programs that tests start by name, and the Debian packages that bring them.
const PROGRAMS: &[(&str, &str)] = &[
    ("haproxy", "haproxy"),
    ("initdb", "postgresql"),
    ("mariadbd", "mariadb-server"),
    ("memcached", "memcached"),
    ("nginx", "nginx-light"),
    ("pebble", "pebble"),
    ("pdftotext", "poppler-utils"),
    ("pgbouncer", "pgbouncer"),
    ("ps", "procps"),
    ("redis-server", "redis-server"),
    ("taskset", "util-linux"),
    ("varnishd", "varnish"),
    ("wrk", "wrk"),
];

#[cfg(test)]
mod tests {
    use super::names;

    #[test]
    fn what_a_source_names_is_what_it_needs() {
        let source = r#"env::var("THRONG_TEST_PYTHON"); // or THRONG_TEST_POSTGRES_URL."#;
        assert_eq!(names(source).collect::<Vec<_>>(), ["PYTHON", "POSTGRES_URL"]);
    }
}
