//! The generations of the namespaces that this process has met.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
};

use quick_cache::DefaultHashBuilder;

/// The namespaces that this process knows.
#[derive(Debug, Default)]
pub(crate) struct Namespaces {
    by_path: Mutex<ByPath>,
    /// Without a shared engine: no two generations are alike, of whatever namespace.
    next: AtomicU64,
}

type ByPath = HashMap<Box<str>, Arc<Namespace>, DefaultHashBuilder>;

#[derive(Debug)]
pub(crate) struct Namespace {
    pub(crate) generation: AtomicU64,
    /// When the shared engine is asked again.
    pub(crate) known_until_ms: AtomicI64,
}

impl Namespaces {
    /// Takes over a generation that another process told.
    pub(crate) fn hear(&self, path: &str, generation: u64) {
        self.of(path).generation.store(generation, Ordering::Release);
    }

    /// Asks the engine for the generation again before it is used.
    pub(crate) fn doubt(&self, path: &str) {
        if let Some(namespace) = self.by_path().get(path) {
            namespace.known_until_ms.store(i64::MIN, Ordering::Release);
        }
    }

    pub(crate) fn doubt_all(&self) {
        for namespace in self.by_path().values() {
            namespace.known_until_ms.store(i64::MIN, Ordering::Release);
        }
    }

    fn by_path(&self) -> MutexGuard<'_, ByPath> {
        self.by_path.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn of(&self, path: &str) -> Arc<Namespace> {
        let mut by_path = self.by_path();
        if let Some(namespace) = by_path.get(path) {
            return Arc::clone(namespace);
        }
        if by_path.len() >= MAX_KNOWN {
            // They are asked for again, or begin anew under a number that none has had.
            by_path.clear();
        }
        let namespace = Arc::new(Namespace {
            generation: AtomicU64::new(self.fresh()),
            known_until_ms: AtomicI64::new(i64::MIN),
        });
        by_path.insert(path.into(), Arc::clone(&namespace));
        namespace
    }

    pub(crate) fn fresh(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }
}

/// How many namespaces a process remembers the generation of.
const MAX_KNOWN: usize = 10_000;
