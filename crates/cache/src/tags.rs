//! Tags: a generation for each, so that expiring one costs the same however many values have it.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::entry::Tag;

/// The tags that values in this process have.
#[derive(Debug, Default)]
pub(crate) struct Tags {
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    generations: HashMap<String, Arc<AtomicU64>>,
    tidy_at: usize,
}

impl Tags {
    /// The tag as of now.
    pub(crate) fn tag(&self, name: &str) -> Tag {
        let now = self.generation(name);
        let then = now.load(Ordering::Acquire);
        Tag { name: Arc::from(name), now, then }
    }

    /// Makes every value that has the tag too old.
    pub(crate) fn expire(&self, name: &str) {
        self.generation(name).fetch_add(1, Ordering::AcqRel);
    }

    /// Takes over a generation that the shared engine told.
    pub(crate) fn hear(&self, name: &str, generation: u64) {
        self.generation(name).store(generation, Ordering::Release);
    }

    /// Takes over what the engine said when it was asked, with the tag as it was before; false where
    /// something else was told meanwhile.
    pub(crate) fn answered(&self, before: &Tag, generation: u64) -> bool {
        let order = Ordering::AcqRel;
        let told = before.now.compare_exchange(before.then, generation, order, Ordering::Acquire);
        told.is_ok() || told == Err(generation)
    }

    fn generation(&self, name: &str) -> Arc<AtomicU64> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(generation) = known.generations.get(name) {
            return Arc::clone(generation);
        }
        if known.generations.len() >= known.tidy_at {
            // A tag that no value has may start over: nothing remembers its generation.
            known.generations.retain(|_, generation| Arc::strong_count(generation) > 1);
            known.tidy_at = (2 * known.generations.len()).max(1_024);
        }
        let generation = Arc::<AtomicU64>::default();
        known.generations.insert(name.to_owned(), Arc::clone(&generation));
        generation
    }
}
