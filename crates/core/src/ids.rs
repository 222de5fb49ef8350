//! Time-ordered 64-bit ids that are unique across processes and survive clock steps back.
//!
//! ```text
//! bit 63    62 … 22                    21 … 12     11 … 0
//!     0     milliseconds since 2020    node        sequence
//!           41 bits, until 2089        10 bits     12 bits: 4,096 per millisecond
//! ```
//!
//! An id is positive, fits SQL's `BIGINT`, and sorts by the time it was made. A process owns its
//! node number alone: [`Ids::claim`] takes the first free one of a range by locking a file, so
//! processes that share a folder never share a node; machines that do not share one are given
//! ranges that do not overlap. The file also holds a ceiling, written ahead, that ids never pass:
//! a process that dies and restarts after the clock was set back begins above everything that its
//! predecessor can have issued. Within a process a clock step back, or more than 4,096 ids in a
//! millisecond, borrows from the future instead of waiting.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{self, Read, Seek, SeekFrom, Write},
    ops::RangeInclusive,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use crate::Clock;

/// Makes ids. Clones share one sequence.
#[derive(Clone, Debug)]
pub struct Ids {
    clock: Clock,
    node: u16,
    state: Arc<Mutex<State>>,
}

/// Why ids cannot be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IdsError {
    /// Every node number of the range is taken by a living process.
    #[error("every id node from {} to {} in `{}` is taken; stop a process or widen the range", .nodes.start(), .nodes.end(), .folder.display())]
    NoneFree {
        /// The range that was asked for.
        nodes: RangeInclusive<u16>,
        /// Where the node files are.
        folder: PathBuf,
    },
    /// The range has a number over 1,023 or is empty.
    #[error("id nodes run from 0 to {MAX_NODE}, not {} to {}", .0.start(), .0.end())]
    Range(RangeInclusive<u16>),
    /// A node file cannot be used.
    #[error("cannot keep the id node file `{}`", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl Ids {
    /// Claims the first free node of `nodes` under `folder`, which is made if missing.
    ///
    /// The claim lasts until the last clone is dropped or the process dies.
    ///
    /// # Errors
    /// [`IdsError`] when the range is wrong, no node is free, or a file cannot be written.
    pub fn claim(
        folder: &Path,
        nodes: RangeInclusive<u16>,
        clock: Clock,
    ) -> Result<Self, IdsError> {
        if nodes.is_empty() || *nodes.end() > MAX_NODE {
            return Err(IdsError::Range(nodes));
        }
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| IdsError::File { path, source }
        };
        std::fs::create_dir_all(folder).map_err(failed(folder))?;
        for node in nodes.clone() {
            let path = folder.join(format!("{node}.node"));
            let mut options = OpenOptions::new();
            options.create(true).read(true).write(true).truncate(false);
            let mut file = options.open(&path).map_err(failed(&path))?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => continue,
                Err(TryLockError::Error(source)) => return Err(IdsError::File { path, source }),
            }
            let last_ms = read_ceiling(&mut file).map_err(failed(&path))?;
            let ceiling = Ceiling { file, ms: last_ms };
            let mut state = State { last_ms, sequence: SEQUENCES - 1, ceiling: Some(ceiling) };
            let now_ms = since_epoch(&clock).max(last_ms);
            state.raise_ceiling(now_ms).map_err(failed(&path))?;
            return Ok(Self { clock, node, state: Arc::new(Mutex::new(state)) });
        }
        Err(IdsError::NoneFree { nodes, folder: folder.to_owned() })
    }

    /// Ids for one process that nobody shares anything with, such as a test. Keeps no file.
    #[must_use]
    pub fn alone(clock: Clock) -> Self {
        let state = State { last_ms: 0, sequence: SEQUENCES - 1, ceiling: None };
        Self { clock, node: 0, state: Arc::new(Mutex::new(state)) }
    }

    /// The next id: greater than every id that this node has made before.
    ///
    /// Once every few seconds this writes the ceiling to the node file (eight bytes and a sync).
    /// When that fails, the id is still unique among living processes; the failure is logged.
    #[must_use]
    pub fn next(&self) -> i64 {
        let now_ms = since_epoch(&self.clock);
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if now_ms > state.last_ms {
            state.last_ms = now_ms;
            state.sequence = 0;
        } else if state.sequence + 1 < SEQUENCES {
            state.sequence += 1;
        } else {
            state.last_ms += 1;
            state.sequence = 0;
        }
        let ms = state.last_ms;
        if let Err(error) = state.raise_ceiling(ms) {
            tracing::error!(node = self.node, %error, "cannot write the ceiling of id node {}", self.node);
        }
        ms << TIME_SHIFT | i64::from(self.node) << NODE_SHIFT | state.sequence
    }

    /// The node number that this process owns.
    #[must_use]
    pub fn node(&self) -> u16 {
        self.node
    }

    /// When `id` was made, in milliseconds since 1970 UTC.
    #[must_use]
    pub fn made_at_ms(id: i64) -> i64 {
        (id >> TIME_SHIFT) + EPOCH_MS
    }

    /// The smallest id that can have been made at `unix_ms`: for ranges by time.
    #[must_use]
    pub fn first_at_ms(unix_ms: i64) -> i64 {
        (unix_ms - EPOCH_MS).clamp(0, MAX_MS) << TIME_SHIFT
    }
}

#[derive(Debug)]
struct State {
    last_ms: i64,
    sequence: i64,
    ceiling: Option<Ceiling>,
}

/// The lock on the node, and the time that ids may reach before it must be written again.
#[derive(Debug)]
struct Ceiling {
    file: File,
    ms: i64,
}

impl State {
    fn raise_ceiling(&mut self, ms: i64) -> io::Result<()> {
        match &mut self.ceiling {
            Some(ceiling) if ms >= ceiling.ms => {
                let next = ms + CEILING_STEP_MS;
                // In memory first: a disk that fails is asked again in a step, not at each id.
                ceiling.ms = next;
                ceiling.file.seek(SeekFrom::Start(0))?;
                ceiling.file.write_all(&next.to_be_bytes())?;
                ceiling.file.sync_data()
            }
            _ => Ok(()),
        }
    }
}

fn read_ceiling(file: &mut File) -> io::Result<i64> {
    let mut bytes = Vec::new();
    file.take(8).read_to_end(&mut bytes)?;
    // A new file is empty; a torn write cannot be, eight bytes are one sector.
    Ok(<[u8; 8]>::try_from(bytes.as_slice()).map_or(0, i64::from_be_bytes).clamp(0, MAX_MS))
}

fn since_epoch(clock: &Clock) -> i64 {
    (clock.now_ms() - EPOCH_MS).clamp(0, MAX_MS)
}

/// 2020-01-01T00:00:00Z.
const EPOCH_MS: i64 = 1_577_836_800_000;
const MAX_MS: i64 = (1 << 41) - 1;
const MAX_NODE: u16 = 1023;
const SEQUENCES: i64 = 1 << NODE_SHIFT;
const NODE_SHIFT: u32 = 12;
const TIME_SHIFT: u32 = 22;
/// How far ahead the ceiling is written: one small write per this much time, and the most that a
/// restarted process's first ids lie in the future.
const CEILING_STEP_MS: i64 = 3_000;

#[cfg(test)]
mod tests {
    use std::{collections::HashSet, time::Duration};

    use super::*;

    const START_MS: i64 = 1_700_000_000_000;

    #[test]
    fn ids_tell_their_time_and_node() {
        let folder = tempfile::tempdir().unwrap();
        let (clock, _hand) = Clock::manual(START_MS);
        let ids = Ids::claim(folder.path(), 5..=9, clock).unwrap();
        let id = ids.next();
        assert_eq!(ids.node(), 5);
        assert_eq!((id >> 12) & 1023, 5);
        assert_eq!(Ids::made_at_ms(id), START_MS);
        assert!(id >= Ids::first_at_ms(START_MS) && id < Ids::first_at_ms(START_MS + 1));
    }

    #[test]
    fn ids_rise_through_bursts_and_clock_steps_back() {
        let (clock, hand) = Clock::manual(START_MS);
        let ids = Ids::alone(clock);
        let mut last = 0;
        for round in 0..20_000 {
            if round % 5_000 == 4_999 {
                hand.step_to(START_MS - 60_000);
            }
            let id = ids.next();
            assert!(id > last);
            last = id;
        }
    }

    #[test]
    fn two_claims_never_share_a_node_and_a_full_range_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let clock = Clock::system();
        let first = Ids::claim(folder.path(), 0..=1, clock.clone()).unwrap();
        let second = Ids::claim(folder.path(), 0..=1, clock.clone()).unwrap();
        assert_ne!(first.node(), second.node());
        let none = Ids::claim(folder.path(), 0..=1, clock.clone()).unwrap_err();
        assert!(none.to_string().contains("from 0 to 1"), "{none}");
        drop(first);
        assert_eq!(Ids::claim(folder.path(), 0..=1, clock).unwrap().node(), 0);
    }

    #[test]
    fn a_restart_after_a_clock_step_back_starts_above_everything_issued() {
        let folder = tempfile::tempdir().unwrap();
        let (clock, hand) = Clock::manual(START_MS);
        let mut issued = HashSet::new();
        let mut highest = 0;
        for _restart in 0..5 {
            let ids = Ids::claim(folder.path(), 0..=0, clock.clone()).unwrap();
            for _ in 0..100 {
                let id = ids.next();
                assert!(issued.insert(id) && id > highest);
                highest = id;
                hand.advance(Duration::from_millis(97));
            }
            hand.step_to(START_MS - 3_600_000);
        }
    }

    #[test]
    fn clones_on_many_threads_never_repeat() {
        let ids = Ids::alone(Clock::system());
        let made: Vec<Vec<i64>> = std::thread::scope(|scope| {
            let one = || (0..5_000).map(|_| ids.next()).collect::<Vec<_>>();
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(one)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let unique: HashSet<i64> = made.iter().flatten().copied().collect();
        assert_eq!(unique.len(), 20_000);
    }
}
