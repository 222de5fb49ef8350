//! Which server owns a key, as the clients of a running fleet already decide it.
//!
//! ```
//! use throng_ring::{Placement, Ring, Server};
//!
//! let servers = ["10.0.0.1", "10.0.0.2", "10.0.0.3"].map(|name| Server::new(name, 11211));
//! let mut ring = Ring::new("ketama-weighted".parse::<Placement>()?, servers)?;
//! let owner = ring.owner(b":1:user:7").expect("no server is ejected");
//!
//! ring.eject(owner); // its keys, and no others, move to the servers that are left
//! assert_ne!(ring.owner(b":1:user:7"), Some(owner));
//! # Ok::<(), throng_ring::RingError>(())
//! ```
//!
//! Nothing here does I/O. A [`Ring`] places keys as one of the memcached client families does;
//! which one is never guessed, because a wrong guess empties a cache:
//!
//! | [`Placement`] | name | who places so |
//! |---|---|---|
//! | `Modula` | `modula` | libmemcached and pylibmc without options, Django's `PyLibMCCache` |
//! | `Ketama` | `ketama` | pylibmc with `ketama: True` |
//! | `KetamaMd5` | `ketama-md5` | pylibmc with `ketama: True, hash: "md5"` |
//! | `KetamaWeighted` | `ketama-weighted` | pylibmc with `ketama_weighted: True` |
//! | `Rendezvous` | `rendezvous` | pymemcache's `HashClient`, Django's `PyMemcacheCache` |
//! | `Crc` | `crc` | python-memcached |
//!
//! [`bucket`] divides keys over 4,096 buckets in a way that SQL can compute too, and
//! [`nydus_partition`] over the hosts of a Nydus cluster.

mod bucket;
mod hash;
mod lanes;
mod placement;
mod ring;

pub use bucket::{BUCKETS, bucket, md5_hex, nydus_partition};
pub use placement::Placement;
pub use ring::{Ring, RingError, Server};
