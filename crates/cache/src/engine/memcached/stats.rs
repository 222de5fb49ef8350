//! What each server of a fleet says of itself: `stats`, over a connection of its own, so that asking
//! takes nobody's place in a line.

use std::{collections::BTreeMap, io};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
};

use super::{Memcached, fleet::address};

/// A server, and what it says of itself.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ServerStats {
    /// `host:port`.
    pub server: String,
    /// Every figure of `stats` by memcached's own name, or why there is none.
    pub stats: Result<BTreeMap<String, String>, String>,
}

impl ServerStats {
    /// A figure by memcached's own name, where it is a whole number: `curr_items`.
    #[must_use]
    pub fn number(&self, name: &str) -> Option<u64> {
        self.stats.as_ref().ok()?.get(name)?.parse().ok()
    }
}

impl Memcached {
    /// Asks every server for its `stats`, in the order of the URL. One that cannot be reached, or
    /// takes longer than the URL's `timeout`, has a reason in their place.
    pub async fn stats(&self) -> Vec<ServerStats> {
        let mut asked = tokio::task::JoinSet::new();
        for (at, server) in self.fleet.servers().iter().map(address).enumerate() {
            let (clock, limit) = (self.fleet.clock().clone(), self.fleet.timeout());
            asked.spawn(async move {
                let stats = match clock.timeout(limit, ask(&server)).await {
                    Some(stats) => stats.map_err(|error| error.to_string()),
                    None => Err(format!("it did not answer within {limit:?}")),
                };
                (at, ServerStats { server, stats })
            });
        }
        let mut all = asked.join_all().await;
        all.sort_unstable_by_key(|(at, _)| *at);
        all.into_iter().map(|(_, stats)| stats).collect()
    }
}

async fn ask(server: &str) -> io::Result<BTreeMap<String, String>> {
    let mut stream = TcpStream::connect(server).await?;
    stream.write_all(b"stats\r\n").await?;
    let mut lines = BufReader::new(stream.take(MAX_BYTES)).lines();
    let mut stats = BTreeMap::new();
    while let Some(line) = lines.next_line().await? {
        let mut words = line.splitn(3, ' ');
        match (words.next(), words.next(), words.next()) {
            (Some("END"), None, None) => return Ok(stats),
            (Some("STAT"), Some(name), Some(value)) => {
                stats.insert(name.to_owned(), value.to_owned());
            }
            _ => break,
        }
    }
    Err(io::Error::new(io::ErrorKind::InvalidData, "what it answers is not memcached's `stats`"))
}

/// More than any server has to say.
const MAX_BYTES: u64 = 1 << 20;
