//! Which ring the other clients of a fleet use, found out by where their keys are.

use throng_core::{Clock, EngineUrl};
use throng_ring::{Placement, Ring};

use super::{DEFAULT_PORT, Keys, Memcached, OddKeys, fleet::address, read_weights, servers};
use crate::{Engine, Result, core::SEALED_FLAGS};

/// What [`Memcached::probe`] found.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Probe {
    /// Each key that was asked for.
    pub keys: Vec<ProbedKey>,
    /// Each ring, and how many of the keys that were found it places where they are.
    pub rings: Vec<RingFit>,
    /// Servers that do not answer, as `host:port`. Keys that are there count as not found.
    pub silent: Vec<String>,
    /// The URL by which throng finds them too; `None` when no ring fits, several do, or the keys are
    /// so few that a ring may fit them by chance.
    pub url: Option<String>,
}

/// Where a key is.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ProbedKey {
    /// As it was asked for.
    pub key: String,
    /// As it is on the servers: with Django's `:1:` in front where only that is there.
    pub wire: String,
    /// The servers that have it, as `host:port`.
    pub servers: Vec<String>,
}

/// How well a ring fits.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RingFit {
    /// Its name, as in a URL's `ring=`.
    pub ring: &'static str,
    /// How many of the keys are where it places them.
    pub keys: usize,
}

impl Memcached {
    /// Looks for `keys`, which another client wrote, on each server of `url`, and tells the rings
    /// that would have put them there. The URL's `ring` does not matter; its `weights` and `timeout`
    /// do. Keys are tried as they are and as Django's `:1:key`.
    ///
    /// Give a few dozen: ten for two servers, five for five are the least that tell rings apart.
    ///
    /// # Errors
    /// [`Error::Url`](crate::Error::Url), and [`Error::Value`](crate::Error::Value) for a key that
    /// memcached does not take.
    pub async fn probe(url: &EngineUrl, keys: &[String], clock: &Clock) -> Result<Probe> {
        let mut options = url.options();
        let weights: Option<String> = options.take("weights")?;
        let timeout: Option<String> = options.take("timeout")?;
        let servers = servers(url, &read_weights(url, weights.as_deref())?);
        let option = timeout.map_or_else(String::new, |timeout| format!("?timeout={timeout}"));
        let mut engines = Vec::new();
        for host in url.hosts() {
            let alone = format!("memcached://{}{option}", host.address(DEFAULT_PORT));
            engines.push(Self::open(&EngineUrl::parse(&alone)?, clock)?);
        }
        let plain = Keys { odd: OddKeys::Refuse, ..Keys::default() };
        for key in keys {
            plain.wire(key)?;
        }
        let mut silent = Vec::new();
        let mut found = locate(&engines, keys, &mut silent).await;
        let missing: Vec<usize> = (0..keys.len()).filter(|at| found[*at].on.is_empty()).collect();
        let django: Vec<String> = missing.iter().map(|at| format!(":1:{}", keys[*at])).collect();
        for (at, there) in missing.into_iter().zip(locate(&engines, &django, &mut silent).await) {
            if !there.on.is_empty() {
                found[at] = there;
            }
        }
        let mut rings = Vec::new();
        for placement in Placement::ALL {
            let ring = Ring::new(placement, servers.clone());
            let ring = ring.map_err(|error| url.fault("host list", error.to_string()))?;
            let fits = |found: &&Found| {
                ring.owner(found.wire.as_bytes()).is_some_and(|owner| found.on.contains(&owner))
            };
            let keys = found.iter().filter(fits).count();
            rings.push(RingFit { ring: placement.name(), keys });
        }
        let there = found.iter().filter(|found| !found.on.is_empty()).count();
        // A wrong ring fits one key of as many as there are servers.
        let by_chance = (servers.len() as f64).powi(-i32::try_from(there).unwrap_or(i32::MAX));
        let is_told = there > 0 && by_chance <= MAX_CHANCE;
        let mut fitting = rings.iter().filter(|fit| is_told && fit.keys == there);
        let url = match (fitting.next(), fitting.next()) {
            (Some(fit), None) => {
                let hosts: Vec<String> = url.hosts().iter().map(ToString::to_string).collect();
                let mut url = format!("memcached://{}?ring={}", hosts.join(","), fit.ring);
                let is_django = found.iter().zip(keys).any(|(found, key)| found.wire != *key);
                let weights = weights.map(|weights| format!("&weights={weights}"));
                url.push_str(weights.as_deref().unwrap_or(""));
                url.push_str(if is_django { "&version=1" } else { "" });
                let is_python = found.iter().any(|found| found.is_python);
                url.push_str(if is_python { "&values=python" } else { "" });
                Some(url)
            }
            _ => None,
        };
        let name = |at: &usize| address(&servers[*at]);
        let key = |(key, found): (&String, Found)| ProbedKey {
            key: key.clone(),
            servers: found.on.iter().map(name).collect(),
            wire: found.wire,
        };
        let silent = silent.iter().map(name).collect();
        Ok(Probe { keys: keys.iter().zip(found).map(key).collect(), rings, silent, url })
    }
}

/// Where a key is.
struct Found {
    wire: String,
    /// The servers that have it.
    on: Vec<usize>,
    /// Whether what is there is not of throng.
    is_python: bool,
}

/// Looks for each key on each server but those that do not answer, which become `silent`.
async fn locate(engines: &[Memcached], keys: &[String], silent: &mut Vec<usize>) -> Vec<Found> {
    let nowhere = |key: &String| Found { wire: key.clone(), on: Vec::new(), is_python: false };
    let mut all: Vec<Found> = keys.iter().map(nowhere).collect();
    for (server, engine) in engines.iter().enumerate() {
        if silent.contains(&server) {
            continue;
        }
        for some in all.chunks_mut(KEYS_AT_ONCE) {
            let keys: Vec<String> = some.iter().map(|found| found.wire.clone()).collect();
            let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
            let Ok(items) = engine.get(&keys).await else {
                silent.push(server);
                break;
            };
            for (found, item) in some.iter_mut().zip(items) {
                let Some(item) = item else { continue };
                found.is_python |= item.flags != SEALED_FLAGS;
                found.on.push(server);
            }
        }
    }
    all
}

impl Probe {
    /// How many of the keys are on a server.
    #[must_use]
    pub fn found(&self) -> usize {
        self.keys.iter().filter(|key| !key.servers.is_empty()).count()
    }
}

const KEYS_AT_ONCE: usize = 200;
/// One in a thousand.
const MAX_CHANCE: f64 = 0.001;
