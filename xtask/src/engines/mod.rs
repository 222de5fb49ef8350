//! `cargo xtask engines up|down|env`: real engines for tests, private to this checkout.
//!
//! Each runs on free ports of 127.0.0.1 with its data in a folder of its own, which is wiped when
//! the engine starts. A server is known by the folder it works in, not by a pid file: so leftovers
//! of a killed run are found, and nothing else is ever touched.

mod mariadb;
mod memcached;
mod place;
mod postgres;
mod probe;
mod rabbitmq;
mod redis;

pub(crate) use probe::free_ports;

use std::{fs, process::ExitCode, time::Instant};

use anyhow::{Context, Result, anyhow};
use clap::{Subcommand, ValueEnum};

use crate::{
    apt,
    engines::place::Place,
    house::House,
    shell::{self, Unprepared},
};

#[derive(clap::Args)]
#[command(after_help = "Examples:
  cargo xtask engines up                     every engine
  cargo xtask engines up postgres redis      these
  eval \"$(cargo xtask engines env)\"          so that a plain `cargo test` finds them
  cargo xtask engines down                   stops all")]
pub(crate) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Starts engines that are not running; installs their Debian packages when root
    Up { names: Vec<Engine> },
    /// Stops engines and removes their data
    Down { names: Vec<Engine> },
    /// Prints the environment that leads tests to the running engines
    Env { names: Vec<Engine> },
}

/// An engine that rooms can run on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Engine {
    /// PostgreSQL: a primary and two streaming replicas
    Postgres,
    /// MariaDB: a primary and a replica that follows it by GTID
    Mariadb,
    /// Redis: one server
    Redis,
    /// memcached: five servers
    Memcached,
    /// RabbitMQ: two nodes that are no cluster
    Rabbitmq,
}

/// Names and values for the environment of tests.
pub(crate) type Environment = Vec<(String, String)>;

pub(crate) fn run(house: &House, arguments: &Arguments) -> Result<ExitCode> {
    match &arguments.action {
        Action::Up { names } => {
            for engine in all_or(names) {
                let start = Instant::now();
                let is_new = up(house, engine)?.1;
                let what = if is_new { "started" } else { "was running" };
                println!("{engine:?} {what} ({:.1} s)", start.elapsed().as_secs_f64());
            }
        }
        Action::Down { names } => {
            for engine in all_or(names) {
                let stopped = down(house, engine)?;
                println!("{engine:?}: {stopped} processes stopped");
            }
        }
        Action::Env { names } => {
            let mut lines = Vec::new();
            for engine in all_or(names) {
                lines.extend(engine.running(&Place::of(house, engine)?).unwrap_or_default());
            }
            if lines.is_empty() {
                let problem = "no such engine is running; start one with `cargo xtask engines up`";
                return Err(anyhow!(Unprepared(problem.to_owned())));
            }
            for (name, value) in lines {
                println!("export {name}='{value}'");
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Starts `engine` unless it runs already; true when it was started.
pub(crate) fn up(house: &House, engine: Engine) -> Result<(Environment, bool)> {
    if !engine.is_installed() {
        apt::install(&[engine.package()])?;
    }
    let place = Place::of(house, engine)?;
    let _only_one = place.lock()?;
    if let Some(environment) = engine.running(&place) {
        return Ok((environment, false));
    }
    place.clear()?;
    let environment = engine.start(&place).with_context(|| {
        format!("cannot start {engine:?}; its logs are in {}", place.folder().display())
    })?;
    let lines: Vec<String> =
        environment.iter().map(|(name, url)| format!("{name}={url}")).collect();
    fs::write(place.environment(), lines.join("\n"))?;
    Ok((environment, true))
}

/// Stops every process of `engine`; returns how many there were.
pub(crate) fn down(house: &House, engine: Engine) -> Result<usize> {
    let place = Place::of(house, engine)?;
    let _only_one = place.lock()?;
    place.clear()
}

impl Engine {
    /// The engines whose environment holds `THRONG_TEST_<name>`.
    pub(crate) fn named_by(name: &str) -> Option<Self> {
        Self::value_variants().iter().copied().find(|engine| name.starts_with(engine.prefix()))
    }

    fn prefix(self) -> &'static str {
        match self {
            Engine::Postgres => "POSTGRES_",
            Engine::Mariadb => "MARIADB_",
            Engine::Redis => "REDIS_",
            Engine::Memcached => "MEMCACHED_",
            Engine::Rabbitmq => "RABBITMQ_",
        }
    }

    pub(crate) fn is_installed(self) -> bool {
        match self {
            Engine::Postgres => postgres::programs().is_some(),
            Engine::Mariadb => shell::which("mariadbd").is_some(),
            Engine::Redis => shell::which("redis-server").is_some(),
            Engine::Memcached => shell::which("memcached").is_some(),
            Engine::Rabbitmq => rabbitmq::server().is_some(),
        }
    }

    /// The Debian package that brings the server.
    fn package(self) -> &'static str {
        match self {
            Engine::Postgres => "postgresql",
            Engine::Mariadb => "mariadb-server",
            Engine::Redis => "redis-server",
            Engine::Memcached => "memcached",
            Engine::Rabbitmq => "rabbitmq-server",
        }
    }

    fn start(self, place: &Place) -> Result<Environment> {
        match self {
            Engine::Postgres => postgres::start(place),
            Engine::Mariadb => mariadb::start(place),
            Engine::Redis => redis::start(place),
            Engine::Memcached => memcached::start(place),
            Engine::Rabbitmq => rabbitmq::start(place),
        }
    }

    /// The environment, when every server that it names answers.
    fn running(self, place: &Place) -> Option<Environment> {
        let text = fs::read_to_string(place.environment()).ok()?;
        let lines = text.lines().filter_map(|line| line.split_once('='));
        let environment: Environment =
            lines.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let urls = environment.iter().filter(|(name, _)| name.ends_with("_URL"));
        let mut ports = urls.flat_map(|(_, url)| probe::ports(url)).peekable();
        let answers = match self {
            Engine::Postgres => postgres::answers,
            Engine::Mariadb => mariadb::answers,
            Engine::Redis => redis::answers,
            Engine::Memcached => memcached::answers,
            Engine::Rabbitmq => rabbitmq::answers,
        };
        (ports.peek().is_some() && ports.all(answers)).then_some(environment)
    }
}

fn all_or(names: &[Engine]) -> Vec<Engine> {
    if names.is_empty() { Engine::value_variants().to_vec() } else { names.to_vec() }
}
