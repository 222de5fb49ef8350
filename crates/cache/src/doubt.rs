//! What others have told of keys while this process was writing them.

use std::{
    hash::BuildHasher,
    sync::atomic::{AtomicU64, Ordering},
};

use quick_cache::DefaultHashBuilder;

/// Counts what was told, of some keys together: who finds its count moved on asks the engine once
/// more, which is what it costs when it was told of another key.
#[derive(Debug)]
pub(crate) struct Doubts {
    counts: [AtomicU64; COUNTS],
    hasher: DefaultHashBuilder,
}

impl Doubts {
    /// How often something was told of keys like `key`.
    pub(crate) fn of(&self, key: &str) -> u64 {
        self.counts[self.place(key)].load(Ordering::SeqCst)
    }

    /// Something was told of `key`. Say so before its copy is forgotten: a writer looks here after it
    /// has put its own.
    pub(crate) fn add(&self, key: &str) {
        self.counts[self.place(key)].fetch_add(1, Ordering::SeqCst);
    }

    /// Anything may have changed.
    pub(crate) fn add_all(&self) {
        for count in &self.counts {
            count.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn place(&self, key: &str) -> usize {
        self.hasher.hash_one(key) as usize % COUNTS
    }
}

impl Default for Doubts {
    fn default() -> Self {
        let counts = [const { AtomicU64::new(0) }; COUNTS];
        Self { counts, hasher: DefaultHashBuilder::default() }
    }
}

const COUNTS: usize = 64;
