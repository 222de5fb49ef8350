//! `cache`: look into the shared cache, and find out where its keys are.

mod fleet;
mod spec;

use std::{
    io::{self, BufRead, Read},
    process::ExitCode,
    time::Duration,
};

use clap::ArgMatches;
use futures_util::FutureExt;
use serde_json::{Value, json};
use throng_cache::{Cache, Changes, Life, engine::Memcached};
use throng_core::{Clock, EngineUrl, url::FromOption};

pub(super) use spec::spec;

use super::{Failure, runtime, say};
use crate::{
    Config, Error,
    start::{of_room, tell},
};

pub(super) fn run(config: &Config, matches: &ArgMatches) -> Result<ExitCode, Failure> {
    let Some((verb, matches)) = matches.subcommand() else {
        return Err(Failure::Usage("`cache` wants to know what to do".to_owned()));
    };
    let target = Target::of(config, matches)?;
    runtime()?.block_on(async {
        match verb {
            "where" => fleet::places(&target, &keys(matches)?, matches.get_flag("json")),
            "stats" => fleet::stats(&target, matches.get_flag("json")).await,
            "probe" => fleet::probe(&target, &keys(matches)?, matches.get_flag("json")).await,
            _ => {
                let mut open = Open::new(config, &target).await?;
                let code = match verb {
                    "get" => get(&open.cache, matches).await?,
                    "set" => open.set(matches).await?,
                    _ => open.delete(matches).await?,
                };
                Ok(if fleet::complain(open.fleet.as_ref()) { ExitCode::FAILURE } else { code })
            }
        }
    })
}

/// The cache that is asked, and who is told of what changes there.
struct Open<'a> {
    config: &'a Config,
    cache: Cache,
    /// Its servers, where it is a fleet of memcached.
    fleet: Option<Memcached>,
    changes: Changes,
}

impl<'a> Open<'a> {
    async fn new(config: &'a Config, target: &Target) -> Result<Self, Failure> {
        let options = throng_cache::Config { near_ms: 0, ..throng_cache::Config::default() };
        let (cache, fleet) = if target.url.scheme() == "memcached" {
            let fleet = target.memcached("get")?;
            (options.with_engine(fleet.clone()), Some(fleet))
        } else {
            let cache = options.open(&target.url.reveal()).await;
            (cache.map_err(|error| target.refused(error))?, None)
        };
        let changes = cache.changes();
        Ok(Self { config, cache, fleet, changes })
    }

    async fn set(&mut self, matches: &ArgMatches) -> Result<ExitCode, Failure> {
        let key = word(matches, "key");
        let mut text = word(matches, "value");
        if text == "-" {
            text.clear();
            io::stdin().read_to_string(&mut text).map_err(|error| unreadable(&error))?;
        }
        let value = match serde_json::from_str(&text) {
            Ok(value) if !matches.get_flag("text") => value,
            _ => Value::String(text),
        };
        let ttl = word(matches, "ttl");
        let ttl = Duration::from_option(&ttl).filter(|ttl| !ttl.is_zero()).ok_or_else(|| {
            let wants = Duration::WANTS;
            Failure::Usage(format!("`--ttl {ttl}` is wrong: it takes {wants}, and more than none"))
        })?;
        let stored = self.cache.set(&key, &value, Life::of(ttl)).await.map_err(Error::from)?;
        self.tell().await;
        if matches.get_flag("json") {
            say(json!({ "key": key, "stored": stored }));
        }
        Ok(ExitCode::SUCCESS)
    }

    async fn delete(&mut self, matches: &ArgMatches) -> Result<ExitCode, Failure> {
        let mut deleted = 0;
        for key in keys(matches)? {
            deleted += u64::from(self.cache.delete(&key).await.map_err(Error::from)?);
            self.tell().await;
        }
        if matches.get_flag("json") {
            say(json!({ "deleted": deleted }));
        } else {
            say(format_args!("deleted {deleted}"));
        }
        Ok(ExitCode::SUCCESS)
    }

    /// Tells the running processes, where the config has a bus that reaches them.
    async fn tell(&mut self) {
        if let Some(Some(change)) = self.changes.next().now_or_never() {
            tell::from_command(self.config, &change).await;
        }
    }
}

async fn get(cache: &Cache, matches: &ArgMatches) -> Result<ExitCode, Failure> {
    let keys = keys(matches)?;
    let mut code = ExitCode::SUCCESS;
    for key in &keys {
        // Bytes that nobody says are text read as text where they are.
        let text = cache.get::<String>(key).await.map_err(Error::from)?.map(Value::String);
        let value = match text {
            Some(text) => Some(text),
            None => cache.get::<Value>(key).await.map_err(Error::from)?,
        };
        if value.is_none() {
            code = ExitCode::FAILURE;
        }
        match value {
            value if matches.get_flag("json") => {
                say(json!({ "key": key, "found": value.is_some(), "value": value }));
            }
            None => eprintln!("`{key}` is not there"),
            Some(Value::String(text)) if keys.len() == 1 => say(text),
            Some(value) if keys.len() == 1 => say(value),
            Some(Value::String(text)) => say(format_args!("{key}\t{text}")),
            Some(value) => say(format_args!("{key}\t{value}")),
        }
    }
    Ok(code)
}

/// The cache that is meant.
struct Target {
    url: EngineUrl,
    /// By `--url`, and not by the config.
    is_given: bool,
}

impl Target {
    /// Refuses one that no other process can be on.
    fn of(config: &Config, matches: &ArgMatches) -> Result<Self, Failure> {
        let given = matches.get_one::<String>("url");
        let url = match given {
            Some(url) => {
                EngineUrl::parse(url).map_err(|error| Failure::Usage(error.to_string()))?
            }
            None => config.cache.clone(),
        };
        if url.scheme() == "memory" {
            let words = "the cache is `memory:`, which only the process that has it can look into; \
                         name a shared one with `--url` or `cache.url`";
            return Err(Failure::Usage(words.to_owned()));
        }
        Ok(Self { url, is_given: given.is_some() })
    }

    /// The fleet, for what one server cannot be asked.
    fn memcached(&self, verb: &str) -> Result<Memcached, Failure> {
        let scheme = self.url.scheme();
        if scheme != "memcached" {
            return Err(Failure::Usage(format!(
                "`cache {verb}` is for fleets of memcached; the one server of `{scheme}:` has every \
                 key, and tells about itself by its own tools"
            )));
        }
        Memcached::open(&self.url, &Clock::system()).map_err(|error| self.refused(error))
    }

    fn refused(&self, error: throng_cache::Error) -> Failure {
        match self.is_given {
            true => Failure::Usage(error.to_string()),
            false => of_room("cache.url", error).into(),
        }
    }
}

/// The keys that were given, or the lines of standard input.
fn keys(matches: &ArgMatches) -> Result<Vec<String>, Failure> {
    let mut keys = Vec::new();
    for key in matches.get_many::<String>("key").into_iter().flatten() {
        if key != "-" {
            keys.push(key.clone());
            continue;
        }
        for line in io::stdin().lock().lines() {
            let line = line.map_err(|error| unreadable(&error))?;
            keys.extend((!line.is_empty()).then_some(line));
        }
    }
    Ok(keys)
}

fn unreadable(error: &io::Error) -> Failure {
    Failure::Usage(format!("cannot read standard input: {error}"))
}

fn word(matches: &ArgMatches, name: &str) -> String {
    matches.get_one::<String>(name).cloned().unwrap_or_default()
}
