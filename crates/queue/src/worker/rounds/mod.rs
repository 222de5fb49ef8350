//! The worker's loop: one owner of all its state, and at most one request of each kind under way.
//!
//! Nothing here blocks and nothing is locked. Claims, heartbeats and ends go to the engine as
//! futures that come back as [`Event`]s; the ends of tasks that finish while a commit is under way

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use futures_util::{
    StreamExt as _,
    future::{BoxFuture, FutureExt as _},
    stream::FuturesUnordered,
};
use throng_core::{Clock, Shutdown, stars};
use tokio::{sync::mpsc, task::JoinSet};

use super::{
    Handler, Report, WorkerConfig,
    ask::{Ask, Seen},
    course::Course,
    desk::Desk,
    one::Finished,
};
use crate::{
    Queue, Result,
    engine::{Batch, Claimed, Ended, Lease, Tended, Turn, Verdict},
};

mod answer;
mod claim;
mod drain;
mod lease;
pub(super) mod pace;
mod settle;
mod start;
mod tend;

pub(super) struct Rounds {
    queue: Queue,
    clock: Clock,
    pub(super) handlers: HashMap<String, Handler>,
    pub(super) config: Arc<WorkerConfig>,
    /// The names that are claimed, when not every name is.
    names: Option<Arc<Vec<String>>>,
    /// Leased and not yet started, with the time of the claim.
    pub(super) ready: VecDeque<(Duration, Claimed)>,
    pub(super) running: HashMap<Lease, Started>,
    /// What is under a limit and has not started.
    pub(super) pace: pace::Pace,
    /// The places that these take.
    weight: usize,
    tasks: JoinSet<Finished>,
    /// Ended and not yet recorded.
    ended: Vec<Ended>,
    /// Being recorded; their leases are still prolonged.
    settling: Vec<Ended>,
    requests: FuturesUnordered<BoxFuture<'static, Event>>,
    is_claiming: bool,
    is_extending: bool,
    is_listening: bool,
    /// Whether the queues may have more than what the last claim brought.
    pub(super) may_have_more: bool,
    /// The one task at a time that two workers did not survive.
    suspect: Option<Lease>,
    /// Short runs since the last claim: how far ahead it is worth to claim.
    short_runs: usize,
    /// Runs that had ended at the heartbeat before.
    ran_before: u64,
    /// How long to wait before looking again when nothing wakes the worker.
    poll: Duration,
    /// Counts the timers for that; the last one set is the one that counts.
    looks: u64,
    unknown: HashSet<String>,
    /// Where others ask what this worker does, if its engine is one that others share.
    pub(super) desk: Option<Desk>,
    is_draining: bool,
    /// Whether it waits for nothing any more.
    has_left: bool,
    report: Report,
}

/// A run that has not ended.
pub(super) struct Started {
    pub(super) course: Arc<Course>,
    at_ms: i64,
}

impl Started {
    /// The task, for whoever asks what runs here.
    pub(super) fn seen(&self) -> Seen {
        Seen { message: self.course.message.clone(), started_ms: Some(self.at_ms) }
    }
}

/// What a request to the engine, or a timer, came back with.
pub(super) enum Event {
    Claimed(Result<Batch>, usize),
    Settled(Result<Vec<bool>>),
    Extended(Result<Vec<Lease>>),
    Tended(Result<(Tended, u64)>),
    Followed(Result<()>),
    Look(u64),
    Asked(Ask, mpsc::Receiver<Ask>),
    Turns(Result<Vec<Turn>>),
    Turn(u64),
    Arrived,
    Beat,
    Tend,
    GiveUp,
    Leave,
}

impl Rounds {
    pub(super) fn new(
        queue: Queue,
        handlers: HashMap<String, Handler>,
        config: WorkerConfig,
        desk: Option<Desk>,
    ) -> Self {
        let clock = queue.clock().clone();
        let is_wanted = |name: &str| {
            let fits = |pattern: &String| stars::matches(pattern, name);
            (config.tasks.is_empty() || config.tasks.iter().any(fits))
                && !config.not_tasks.iter().any(fits)
        };
        let is_choosy = !config.tasks.is_empty() || !config.not_tasks.is_empty();
        let names = is_choosy.then(|| {
            let wanted = handlers.keys().filter(|name| is_wanted(name));
            Arc::new(wanted.cloned().collect::<Vec<_>>())
        });
        Self {
            queue,
            clock,
            handlers,
            config: Arc::new(config),
            names,
            ready: VecDeque::new(),
            running: HashMap::new(),
            pace: pace::Pace::default(),
            weight: 0,
            tasks: JoinSet::new(),
            ended: Vec::new(),
            settling: Vec::new(),
            requests: FuturesUnordered::new(),
            is_claiming: false,
            is_extending: false,
            is_listening: false,
            may_have_more: true,
            suspect: None,
            short_runs: 0,
            ran_before: 0,
            poll: FIRST_POLL,
            looks: 0,
            unknown: HashSet::new(),
            desk,
            is_draining: false,
            has_left: false,
            report: Report::default(),
        }
    }

    pub(super) async fn run(mut self, shutdown: Shutdown) -> Report {
        let name = self.config.name.clone();
        let queues = self.config.queues.join(", ");
        tracing::info!(worker = %name, engine = self.queue.engine_name(), "worker {name} serves {queues}");
        let mut wakes = self.queue.engine().wakes();
        self.start_tending();
        if let Some(desk) = &mut self.desk {
            let asks = std::mem::replace(&mut desk.asks, mpsc::channel(1).1);
            self.requests.push(answer::next(asks).boxed());
        }
        self.after(self.config.lease / 3, Event::Beat);
        while !(self.has_left || self.is_draining && self.is_idle()) {
            self.start_ready();
            self.ask_for_turns();
            self.settle();
            if self.wants() > 0 && self.may_have_more && !self.is_claiming && !self.is_draining {
                wakes.borrow_and_update();
                self.claim();
            }
            tokio::select! {
                biased;
                () = shutdown.requested(), if !self.is_draining => self.drain(),
                Some(event) = self.requests.next(), if !self.requests.is_empty() => self.take(event),
                Some(finished) = self.tasks.join_next(), if !self.tasks.is_empty() => {
                    // The wrapper around a handler neither panics nor is aborted.
                    if let Ok(finished) = finished {
                        self.finish(finished);
                    }
                    while let Some(Ok(finished)) = self.tasks.try_join_next() {
                        self.finish(finished);
                    }
                }
                Ok(()) = wakes.changed(), if !self.may_have_more && !self.is_draining => {
                    self.may_have_more = true;
                    self.poll = FIRST_POLL;
                }
            }
        }
        let Report { ran, given_back } = self.report;
        tracing::info!(worker = %name, "worker {name} has stopped: {ran} runs, {given_back} given back");
        self.report
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Claimed(batch, asked) => self.claimed(batch, asked),
            Event::Settled(recorded) => self.settled(recorded),
            Event::Extended(lost) => self.extended(lost),
            Event::Tended(tended) => self.tended(tended),
            Event::Followed(followed) => self.made_up(followed),
            // Only the last one set counts: a wake between has set another.
            Event::Look(number) if number == self.looks => self.may_have_more = true,
            Event::Look(_) => {}
            Event::Asked(ask, asks) => {
                self.answer(ask);
                self.requests.push(answer::next(asks).boxed());
            }
            Event::Turns(turns) => self.told_turns(turns),
            Event::Turn(number) if self.is_time(number) => self.start_due(),
            Event::Turn(_) => {}
            Event::Arrived => {
                self.is_listening = false;
                self.may_have_more = true;
            }
            Event::Beat => {
                self.extend();
                self.give_back_stale();
                self.after(self.config.lease / 3, Event::Beat);
            }
            Event::Tend if self.is_draining => {}
            Event::Tend => self.start_tending(),
            Event::GiveUp => self.give_up(),
            Event::Leave => self.has_left = true,
        }
    }

    pub(super) fn end(&mut self, lease: Lease, verdict: Verdict) {
        self.ended.push(Ended { lease, verdict });
    }

    fn after(&self, wait: Duration, event: Event) {
        let clock = self.clock.clone();
        let timer = async move {
            clock.sleep(wait).await;
            event
        };
        self.requests.push(timer.boxed());
    }
}

const FIRST_POLL: Duration = Duration::from_millis(20);
