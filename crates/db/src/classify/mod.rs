//! Says of each statement whether a replica may run it. Doubt goes to the primary.
//!
//! A statement is a read only if every word of it is understood: it starts with a word that reads,
//! holds no word that writes or locks, and calls only functions that are known to have no side
//! effect. The verdict is kept by the hash of the text, so a statement is scanned once.

mod calls;
mod scan;
mod words;

use std::{
    fmt,
    hash::{BuildHasher, Hasher},
    sync::atomic::{AtomicU64, Ordering},
};

use foldhash::quality::RandomState;
use sea_orm::DbBackend;

/// Where a statement may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Any server with fresh enough data: it plainly reads.
    Read,
    /// The primary, for this reason.
    Primary(Reason),
}

/// Why a statement goes to the primary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Reason {
    /// It starts with a word that is not known to read.
    Writes,
    /// It starts or ends a transaction, or sets a savepoint.
    Transaction,
    /// It changes the state of its connection.
    Session,
    /// It reads, but a part of it writes: `WITH … DELETE`, `SELECT … INTO`, `EXPLAIN ANALYZE INSERT`.
    WritesInside,
    /// It locks rows: `FOR UPDATE`.
    Locks,
    /// It calls a function that is not known to be free of side effects.
    Calls,
    /// It holds several statements.
    Several,
    /// It cannot be read with certainty.
    Unclear,
}

/// Classifies statements of one dialect and remembers the verdicts.
///
/// The memory is an array of atomics, one verdict a slot, found by the hash of the text: no lock, no
/// allocation, and a bounded size. Two texts with one 60-bit hash would share a verdict; the seed is
/// random for each process, so nobody can look for such texts, and a replica refuses writes anyway.
pub struct Classifier {
    dialect: Dialect,
    hasher: RandomState,
    slots: Box<[AtomicU64]>,
}

/// What differs in reading SQL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    Sqlite,
    Postgres,
    MySql,
}

impl Classifier {
    /// A classifier for the dialect of `backend`.
    #[must_use]
    pub fn new(backend: DbBackend) -> Self {
        let dialect = match backend {
            DbBackend::Postgres => Dialect::Postgres,
            DbBackend::MySql => Dialect::MySql,
            _ => Dialect::Sqlite,
        };
        let slots = (0..SLOTS).map(|_| AtomicU64::new(0)).collect();
        Self { dialect, hasher: RandomState::default(), slots }
    }

    /// Where `sql` may go.
    #[must_use]
    pub fn classify(&self, sql: &str) -> Verdict {
        let mut hasher = self.hasher.build_hasher();
        hasher.write(sql.as_bytes());
        let hash = hasher.finish();
        let slot = &self.slots[hash as usize % SLOTS];
        let known = slot.load(Ordering::Relaxed);
        if known & !CODE == hash & !CODE && known & CODE != 0 {
            return Verdict::decode(known & CODE);
        }
        let verdict = scan::classify(self.dialect, sql);
        slot.store(hash & !CODE | verdict.encode(), Ordering::Relaxed);
        verdict
    }

    /// Whether `sql`, of this verdict, leaves its connection other than it was.
    pub(crate) fn changes_connection(&self, sql: &str, verdict: Verdict) -> bool {
        self.dialect != Dialect::Sqlite
            && verdict == Verdict::Primary(Reason::Session)
            && !scan::passes_with_the_transaction(self.dialect, sql)
    }

    /// Where `sql` may go, scanned anew.
    #[must_use]
    pub fn scan(&self, sql: &str) -> Verdict {
        scan::classify(self.dialect, sql)
    }
}

impl Verdict {
    fn encode(self) -> u64 {
        match self {
            Self::Read => 1,
            Self::Primary(reason) => 2 + REASONS.partition_point(|known| *known < reason) as u64,
        }
    }

    fn decode(code: u64) -> Self {
        match code {
            1 => Self::Read,
            code => REASONS
                .get(code as usize - 2)
                .map_or(Self::Primary(Reason::Unclear), |reason| Self::Primary(*reason)),
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Writes => "writes",
            Self::Transaction => "opens or ends a transaction",
            Self::Session => "changes its connection",
            Self::WritesInside => "writes inside a read",
            Self::Locks => "locks rows",
            Self::Calls => "calls a function that may have side effects",
            Self::Several => "is several statements",
            Self::Unclear => "cannot be read with certainty",
        })
    }
}

impl fmt::Debug for Classifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Classifier({:?})", self.dialect)
    }
}

/// In their order.
const REASONS: [Reason; 8] = [
    Reason::Writes,
    Reason::Transaction,
    Reason::Session,
    Reason::WritesInside,
    Reason::Locks,
    Reason::Calls,
    Reason::Several,
    Reason::Unclear,
];
/// 32 KiB of verdicts: far more than a site has statements.
const SLOTS: usize = 4096;
/// The bits of a slot that hold the verdict; 0 means empty.
const CODE: u64 = 0xf;

#[cfg(test)]
mod tests;
