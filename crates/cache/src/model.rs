//! Model checking of single flight: the real cache and engine under shuttle, which decides at every
//! lock and every await which task goes on, thousands of times in ways of its own choosing.
//!
//! The store's lock and the cache's tasks are shuttle's in this test build (see `store.rs` and
//! `cache.rs`), so nothing of them runs outside of [`explore`]. A failure prints the schedule, which
//! `shuttle::replay` repeats.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use shuttle::{
    Config as Limits, Runner,
    future::{self, JoinHandle},
    scheduler::{PctScheduler, RandomScheduler},
};
use throng_core::{Clock, Hand};

use crate::{Cache, Config, Error, Life, Memory};

/// The cache's own tasks: what tokio's set of that name is outside of the model.
pub(crate) struct JoinSet<T> {
    tasks: Vec<JoinHandle<T>>,
}

impl<T: Send + 'static> JoinSet<T> {
    pub(crate) fn spawn(&mut self, task: impl Future<Output = T> + Send + 'static) {
        self.tasks.push(future::spawn(task));
    }

    pub(crate) fn try_join_next(&mut self) -> Option<T> {
        None
    }
}

impl<T> Default for JoinSet<T> {
    fn default() -> Self {
        Self { tasks: Vec::new() }
    }
}

/// A fleet of processes on one engine, with a loader that counts.
#[derive(Clone)]
struct Fleet {
    processes: Vec<Cache>,
    loads: Arc<AtomicU32>,
    hand: Hand,
}

impl Fleet {
    /// One process and its memory.
    fn alone() -> Self {
        Self::of(1, |config, _| config.memory())
    }

    /// Two processes on a shared engine, each with or without copies of its own.
    fn shared(near_ms: u64) -> Self {
        Self::of(2, |config, engine| Config { near_ms, ..config }.with_engine(engine))
    }

    fn of(size: usize, cache: impl Fn(Config, Memory) -> Cache) -> Self {
        let (clock, hand) = Clock::manual(1_700_000_000_000);
        let engine = Memory::new(1 << 20, clock.clone());
        let config = Config { clock, early: 0.0, ..Config::default() };
        let processes = (0..size).map(|_| cache(config.clone(), engine.clone())).collect();
        Self { processes, loads: Arc::default(), hand }
    }

    /// Reads in a task of its own; the first load brings 1, the second 2.
    fn read(&self, process: usize) -> JoinHandle<Result<u32, Error>> {
        let (cache, loads) = (self.processes[process].clone(), Arc::clone(&self.loads));
        future::spawn(async move { fetch(&cache, loads).await })
    }

    fn loads(&self) -> u32 {
        self.loads.load(Ordering::SeqCst)
    }

    /// Lets time pass in small steps while `work` goes on.
    async fn meanwhile<T>(&self, work: impl Future<Output = T>) -> T {
        let is_done = Arc::new(AtomicBool::new(false));
        let (hand, ends) = (self.hand.clone(), Arc::clone(&is_done));
        let time = future::spawn(async move {
            while !ends.load(Ordering::SeqCst) {
                hand.advance(Duration::from_millis(5));
                future::yield_now().await;
            }
        });
        let done = work.await;
        is_done.store(true, Ordering::SeqCst);
        let _ = time.await;
        done
    }
}

async fn fetch(cache: &Cache, loads: Arc<AtomicU32>) -> Result<u32, Error> {
    let load = || async move {
        future::yield_now().await;
        let number = loads.fetch_add(1, Ordering::SeqCst) + 1;
        future::yield_now().await;
        Ok::<_, Error>(number)
    };
    cache.fetch("k", Life::of(HOUR).grace(HOUR), load).await
}

async fn all(readers: Vec<JoinHandle<Result<u32, Error>>>) -> Vec<u32> {
    let mut read = Vec::new();
    for reader in readers {
        read.push(reader.await.expect("a reader ends").expect("a reader is served"));
    }
    read
}

/// Runs `story` under thousands of schedules, half of them drawn and half by priorities that change
/// a few times, which finds what needs one task to be late in particular places.
fn explore<F, S>(story: S)
where
    F: Future<Output = ()> + Send + 'static,
    S: Fn() -> F + Send + Sync + 'static,
{
    let schedules = if std::env::var_os("THRONG_TEST_LONG").is_some() { 100_000 } else { 1_000 };
    let story = Arc::new(story);
    let limits = || {
        let mut limits = Limits::new();
        limits.stack_size = 1 << 20;
        limits
    };
    let one = Arc::clone(&story);
    Runner::new(RandomScheduler::new(schedules), limits()).run(move || future::block_on(one()));
    Runner::new(PctScheduler::new(3, schedules), limits()).run(move || future::block_on(story()));
}

#[test]
fn all_who_miss_at_once_share_one_load_in_a_process() {
    explore(|| async {
        let fleet = Fleet::alone();
        let readers = (0..3).map(|_| fleet.read(0)).collect();
        assert_eq!(all(readers).await, [1; 3]);
        assert_eq!(fleet.loads(), 1);
    });
}

#[test]
fn all_who_miss_at_once_share_one_load_in_the_fleet() {
    explore(|| async {
        let fleet = Fleet::shared(1_000);
        let readers = (0..4).map(|reader| fleet.read(reader % 2)).collect();
        assert_eq!(fleet.meanwhile(all(readers)).await, [1; 4]);
        assert_eq!(fleet.loads(), 1);
    });
}

#[test]
fn an_expiry_costs_one_load_and_nobody_waits_for_it() {
    explore(|| async {
        for fleet in [Fleet::alone(), Fleet::shared(1_000)] {
            let processes = fleet.processes.len();
            assert_eq!(fleet.meanwhile(all(vec![fleet.read(0)])).await, [1]);
            fleet.hand.advance(HOUR + Duration::from_secs(60));
            let readers = (0..4).map(|reader| fleet.read(reader % processes)).collect();
            let read = fleet.meanwhile(all(readers)).await;
            assert!(read.iter().all(|value| [1, 2].contains(value)), "{read:?}");
            for process in &fleet.processes {
                process.settle().await;
            }
            assert_eq!(fleet.loads(), 2);
        }
    });
}

#[test]
fn what_was_written_is_never_overwritten_by_a_load_that_began_before() {
    explore(|| async {
        for near_ms in [0, 60_000] {
            let fleet = Fleet::shared(near_ms);
            let reader = fleet.read(1);
            let writer = fleet.processes[0].clone();
            writer.set("k", &100_u32, Life::of(HOUR)).await.expect("it is written");
            // Whoever wrote reads it at once.
            let read = fleet.meanwhile(all(vec![fleet.read(0), reader])).await;
            assert_eq!(read[0], 100, "the writer reads its write");
            assert!([1, 100].contains(&read[1]), "{read:?}");
            // And it is what the fleet keeps: a plain read asks the engine where there is no copy.
            fleet.processes[1].forget();
            let kept: Option<u32> = fleet.processes[1].get("k").await.expect("it is read");
            assert_eq!(kept, Some(100), "the write stays");
        }
    });
}

#[test]
fn of_two_who_write_at_once_the_higher_version_stays() {
    explore(|| async {
        let fleet = Fleet::shared(0);
        let writers: Vec<_> = [7_u32, 9, 8]
            .into_iter()
            .enumerate()
            .map(|(at, version)| {
                let cache = fleet.processes[at % 2].clone();
                let life = Life::of(HOUR).version(version.into());
                future::spawn(async move { cache.set("k", &version, life).await })
            })
            .collect();
        for writer in writers {
            let _ = writer.await.expect("a writer ends").expect("the engine answers");
        }
        for process in &fleet.processes {
            assert_eq!(process.get::<u32>("k").await.expect("it is read"), Some(9));
        }
    });
}

#[test]
fn a_reader_who_goes_away_and_a_load_that_fails_leave_nobody_waiting() {
    explore(|| async {
        let fleet = Fleet::shared(1_000);
        let (cache, fails) = (fleet.processes[0].clone(), Arc::new(AtomicBool::new(true)));
        let failing = future::spawn(async move {
            let load = || async move {
                future::yield_now().await;
                if fails.swap(false, Ordering::SeqCst) { Err(Broken) } else { Ok(50_u32) }
            };
            cache.fetch("k", Life::of(HOUR), load).await
        });
        let gone = fleet.read(1);
        future::yield_now().await;
        gone.abort();
        let stays = fleet.read(1);
        let served = fleet.meanwhile(async {
            let _ = failing.await.expect("it ends");
            stays.await.expect("it ends")
        });
        // It may have shared the load that failed; the next one is served in any case.
        let _ = served.await;
        assert_eq!(fleet.meanwhile(all(vec![fleet.read(0), fleet.read(1)])).await.len(), 2);
    });
}

#[derive(Debug)]
struct Broken;

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the database is away")
    }
}

const HOUR: Duration = Duration::from_secs(3_600);
