//! A ring: servers, the ones that are ejected, and the points that the others own.

use crate::{
    Placement,
    hash::{crc32, md5, md5_word, murmur3, one_at_a_time},
    lanes,
};

/// Places keys on servers. Servers are known by their index in the list that made the ring.
#[derive(Clone, Debug)]
pub struct Ring {
    placement: Placement,
    servers: Vec<Server>,
    is_live: Vec<bool>,
    /// Points on the circle and who owns them, ascending. Empty for placements without a circle.
    points: Vec<(u32, usize)>,
}

/// A server as it is configured. Placement hashes the text, so write it as the fleet does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Host name or address.
    pub name: String,
    /// Port.
    pub port: u16,
    /// Its share of the keys, beside the others' weights.
    pub weight: u32,
}

/// Why there is no ring.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RingError {
    /// The placement's name is not one of them.
    #[error(
        "`{0}` is not a ring; there are `modula`, `ketama`, `ketama-md5`, `ketama-weighted`, `rendezvous` and `crc`"
    )]
    UnknownPlacement(String),
    /// There are no servers.
    #[error("a ring needs at least one server")]
    NoServers,
    /// A server has no weight, or all together have too much.
    #[error("the weight of `{0}` must be from 1 to 65535")]
    Weight(String),
}

impl Server {
    /// A server of weight 1.
    #[must_use]
    pub fn new(name: impl Into<String>, port: u16) -> Self {
        Self { name: name.into(), port, weight: 1 }
    }

    /// A server with a share of `weight`.
    #[must_use]
    pub fn weight(mut self, weight: u32) -> Self {
        self.weight = weight;
        self
    }

    /// How libmemcached writes the server's `index`th point.
    fn point(&self, index: u32) -> String {
        if self.port == DEFAULT_PORT {
            format!("{}-{index}", self.name)
        } else {
            format!("{}:{}-{index}", self.name, self.port)
        }
    }
}

impl Ring {
    /// A ring of `servers`, in the order of the clients' configuration.
    ///
    /// # Errors
    /// [`RingError::NoServers`] and [`RingError::Weight`].
    pub fn new(
        placement: Placement,
        servers: impl IntoIterator<Item = Server>,
    ) -> Result<Self, RingError> {
        let servers: Vec<Server> = servers.into_iter().collect();
        if servers.is_empty() {
            return Err(RingError::NoServers);
        }
        if let Some(odd) = servers.iter().find(|server| !(1..=65_535).contains(&server.weight)) {
            return Err(RingError::Weight(odd.name.clone()));
        }
        let is_live = vec![true; servers.len()];
        let mut ring = Self { placement, servers, is_live, points: Vec::new() };
        ring.place();
        Ok(ring)
    }

    /// The server that owns `key`; `None` when the one that does is ejected and the placement has
    /// no other, or when all are.
    #[must_use]
    pub fn owner(&self, key: &[u8]) -> Option<usize> {
        match self.placement {
            Placement::Modula => {
                let owner = one_at_a_time(key) as usize % self.servers.len();
                self.is_live[owner].then_some(owner)
            }
            Placement::Ketama => self.on_circle(one_at_a_time(key)),
            Placement::KetamaMd5 | Placement::KetamaWeighted => {
                self.on_circle(md5_word(&md5(key), 0))
            }
            Placement::Rendezvous => self.highest_score(key),
            Placement::Crc => self.first_live_by_crc(key),
        }
    }

    /// The owner of each key, as [`owner`](Self::owner) has it, and quicker for many.
    #[must_use]
    pub fn owners<'a>(&self, keys: impl IntoIterator<Item = &'a [u8]>) -> Vec<Option<usize>> {
        let keys: Vec<&[u8]> = keys.into_iter().collect();
        if !matches!(self.placement, Placement::KetamaMd5 | Placement::KetamaWeighted) {
            return keys.into_iter().map(|key| self.owner(key)).collect();
        }
        let mut owners = Vec::with_capacity(keys.len());
        for some in keys.chunks(lanes::LANES) {
            match lanes::md5_words(some) {
                Some(words) => {
                    owners.extend(words[..some.len()].iter().map(|word| self.on_circle(*word)));
                }
                None => owners.extend(some.iter().map(|key| self.owner(key))),
            }
        }
        owners
    }

    /// Takes a server off the ring, as `auto_eject` does with one that fails.
    pub fn eject(&mut self, server: usize) {
        self.set_live(server, false);
    }

    /// Puts a server back where it was.
    pub fn restore(&mut self, server: usize) {
        self.set_live(server, true);
    }

    /// Whether the server is on the ring.
    #[must_use]
    pub fn is_live(&self, server: usize) -> bool {
        self.is_live.get(server).copied().unwrap_or(false)
    }

    /// The servers, ejected ones too.
    #[must_use]
    pub fn servers(&self) -> &[Server] {
        &self.servers
    }

    /// How keys are placed.
    #[must_use]
    pub fn placement(&self) -> Placement {
        self.placement
    }

    /// The points of the circle and who owns them, ascending; none where there is no circle.
    #[must_use]
    pub fn points(&self) -> &[(u32, usize)] {
        &self.points
    }

    fn set_live(&mut self, server: usize, is_live: bool) {
        if self.is_live(server) != is_live && server < self.servers.len() {
            self.is_live[server] = is_live;
            self.place();
        }
    }

    fn live(&self) -> impl Iterator<Item = (usize, &Server)> {
        self.servers.iter().enumerate().filter(|(index, _)| self.is_live[*index])
    }

    fn place(&mut self) {
        // libmemcached goes over to the weighted ring by itself when a weight is over 1. The key's
        // hash stays what it was.
        let is_weighted = self.servers.iter().any(|server| server.weight > 1);
        let mut points: Vec<(u32, usize)> = match self.placement {
            Placement::Modula | Placement::Rendezvous | Placement::Crc => return,
            Placement::Ketama if !is_weighted => self.equal_points(one_at_a_time),
            Placement::KetamaMd5 if !is_weighted => {
                self.equal_points(|text| md5_word(&md5(text), 0))
            }
            _ => self.weighted_points(),
        };
        points.sort_unstable();
        self.points = points;
    }

    fn equal_points(&self, hash: impl Fn(&[u8]) -> u32) -> Vec<(u32, usize)> {
        let of = |(index, server): (usize, &Server)| -> Vec<(u32, usize)> {
            (0..EQUAL_POINTS).map(|at| (hash(server.point(at).as_bytes()), index)).collect()
        };
        self.live().flat_map(of).collect()
    }

    fn weighted_points(&self) -> Vec<(u32, usize)> {
        let total: u32 = self.live().map(|(_, server)| server.weight).sum();
        let count = self.live().count();
        let mut points = Vec::new();
        for (index, server) in self.live() {
            for at in 0..weighted_strings(server.weight, total, count) {
                let digest = md5(server.point(at).as_bytes());
                points.extend((0..4).map(|word| (md5_word(&digest, word), index)));
            }
        }
        points
    }

    /// The first point at or after the hash; past the last one comes the first.
    fn on_circle(&self, hash: u32) -> Option<usize> {
        let at = self.points.partition_point(|(point, _)| *point < hash);
        self.points.get(at).or_else(|| self.points.first()).map(|(_, server)| *server)
    }

    fn highest_score(&self, key: &[u8]) -> Option<usize> {
        // pymemcache hashes characters, not bytes, and of each its low byte.
        let key: Vec<u8> = match std::str::from_utf8(key) {
            Ok(text) => text.chars().map(|c| (c as u32 & 0xff) as u8).collect(),
            Err(_) => key.to_vec(),
        };
        let scored = self.live().map(|(index, server)| {
            let node = format!("{}:{}", server.name, server.port);
            let text: Vec<u8> = node.bytes().chain([b'-']).chain(key.iter().copied()).collect();
            (murmur3(text.into_iter()), node, index)
        });
        // Of two that score alike the greater text wins, which is how tuples compare.
        scored.max().map(|(.., index)| index)
    }

    fn first_live_by_crc(&self, key: &[u8]) -> Option<usize> {
        let by_weight =
            |(index, server): (usize, &Server)| std::iter::repeat_n(index, server.weight as usize);
        let buckets: usize = self.servers.iter().map(|server| server.weight as usize).sum();
        let mut hash = python_memcached(key);
        for attempt in 0..PYTHON_MEMCACHED_RETRIES {
            let at = hash as usize % buckets;
            let owner = self.servers.iter().enumerate().flat_map(by_weight).nth(at)?;
            if self.is_live[owner] {
                return Some(owner);
            }
            hash = python_memcached(format!("{hash}{attempt}").as_bytes());
        }
        None
    }
}

fn python_memcached(key: &[u8]) -> u32 {
    crc32(key) >> 16 & 0x7fff
}

/// How many strings of four points a server has, with every rounding of libmemcached's C.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "the roundings are the point: another arithmetic makes another ring"
)]
fn weighted_strings(weight: u32, total: u32, servers: usize) -> u32 {
    let share = weight as f32 / total as f32;
    let strings = share * WEIGHTED_POINTS / 4.0 * servers as f32;
    (f64::from(strings) + 0.000_000_000_1) as f32 as u32
}

const DEFAULT_PORT: u16 = 11_211;
const EQUAL_POINTS: u32 = 100;
const WEIGHTED_POINTS: f32 = 160.0;
const PYTHON_MEMCACHED_RETRIES: u32 = 10;
