//! The worker's loop: one owner of all its state, and at most one request of each kind under way.
//!
//! Nothing here blocks and nothing is locked. Claims, heartbeats and ends go to the engine as
//! futures that come back as [`Event`]s; the ends of tasks that finish while a commit is under way
//! gather and go together into the next.

// One file because every method is a step of the one loop and touches the same state.

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
use throng_core::{Clock, Shutdown};
use tokio::{sync::mpsc, task::JoinSet};

use super::{
    Handler, Report, WorkerConfig,
    desk::{self, Ask, Desk},
    one::{self, Finished, Strings},
};
use crate::{
    Queue, Result,
    engine::{Batch, Claim, Claimed, Ended, Lease, Tended, Verdict},
    metrics,
};

pub(super) struct Rounds {
    queue: Queue,
    clock: Clock,
    pub(super) handlers: HashMap<String, Handler>,
    pub(super) config: Arc<WorkerConfig>,
    /// The names that are claimed, when not every name is.
    names: Option<Arc<Vec<String>>>,
    /// Leased and not yet started, with the time of the claim.
    pub(super) ready: VecDeque<(Duration, Claimed)>,
    pub(super) running: HashMap<Lease, Strings>,
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
    report: Report,
}

/// What a request to the engine, or a timer, came back with.
pub(super) enum Event {
    Claimed(Result<Batch>, usize),
    Settled(Result<Vec<bool>>),
    Extended(Result<Vec<Lease>>),
    Tended(Result<(Tended, u64)>),
    Look(u64),
    Asked(Ask, mpsc::Receiver<Ask>),
    Arrived,
    Beat,
    Tend,
    GiveUp,
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
            let fits = |pattern: &String| matches(pattern, name);
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
            self.requests.push(desk::next(asks).boxed());
        }
        self.after(self.config.lease / 3, Event::Beat);
        while !(self.is_draining && self.is_idle()) {
            self.start_ready();
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
            // Only the last one set counts: a wake between has set another.
            Event::Look(number) if number == self.looks => self.may_have_more = true,
            Event::Look(_) => {}
            Event::Asked(ask, asks) => {
                self.answer(ask);
                self.requests.push(desk::next(asks).boxed());
            }
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
        }
    }

    /// How many tasks to claim. Tasks are leased ahead only while they are short: then a batch
    /// saves commits; a long one would make those leased behind it wait.
    fn wants(&self) -> usize {
        let ahead = self.config.prefetch.min(self.short_runs * 2);
        let held = self.weight + self.ready.len();
        let room = (self.config.concurrency + ahead).saturating_sub(held);
        // While there is a store, it is filled up in large steps only.
        if self.ready.len() > ahead / 4 { 0 } else { room }
    }

    fn claim(&mut self) {
        let limit = self.wants();
        let engine = self.queue.engine().clone();
        let (config, names) = (self.config.clone(), self.names.clone());
        let takes_suspect = self.suspect.is_none();
        self.is_claiming = true;
        self.short_runs = 0;
        let request = async move {
            let claim = Claim {
                worker: &config.name,
                queues: &config.queues,
                names: names.as_ref().map(|names| names.as_slice()),
                limit,
                takes_suspect,
                lease: config.lease,
            };
            Event::Claimed(engine.claim(&claim).await, limit)
        };
        self.requests.push(request.boxed());
    }

    fn claimed(&mut self, batch: Result<Batch>, asked: usize) {
        self.is_claiming = false;
        let batch = batch.unwrap_or_else(|error| {
            tracing::warn!(error = ?error, "cannot claim tasks: {error}");
            self.poll = self.config.poll;
            Batch::default()
        });
        let found = batch.tasks.len();
        let now = self.clock.elapsed();
        for claimed in batch.tasks {
            if claimed.crashes >= SUSPECT_CRASHES {
                self.suspect = Some(claimed.lease.clone());
            }
            if let Some(desk) = &self.desk {
                desk.teller.received(&claimed.message);
            }
            self.ready.push_back((now, claimed));
        }
        self.may_have_more = found >= asked;
        if found > 0 {
            self.poll = FIRST_POLL;
        }
        if self.is_draining {
            self.release_ready();
            return;
        }
        if !self.may_have_more {
            // Looking again ever less often, but in time for the next task that waits.
            let due_ms = batch.next_due_ms.map(|due_ms| due_ms - self.clock.now_ms());
            let due = due_ms.map(|ms| Duration::from_millis(u64::try_from(ms).unwrap_or(0)));
            self.looks += 1;
            self.after(self.poll.min(due.unwrap_or(self.poll)), Event::Look(self.looks));
            self.poll = (self.poll * 2).min(self.config.poll);
            self.listen();
        }
    }

    fn listen(&mut self) {
        // A list with tasks of other names would be told at once, again and again.
        if self.is_listening || self.names.is_some() {
            return;
        }
        let (engine, config) = (self.queue.engine().clone(), self.config.clone());
        self.is_listening = true;
        let request = async move {
            engine.arrival(&config.queues).await;
            Event::Arrived
        };
        self.requests.push(request.boxed());
    }

    fn start_ready(&mut self) {
        while self.weight < self.config.concurrency && !self.is_draining {
            let Some((claimed_at, claimed)) = self.ready.pop_front() else { break };
            let handler = self.handlers.get(claimed.message.name());
            let weight = handler.map_or(0, |handler| handler.policy.weight.max(1));
            if self.weight > 0 && self.weight + weight > self.config.concurrency {
                // It keeps its turn: lighter ones behind it would never let it have its places.
                self.ready.push_front((claimed_at, claimed));
                break;
            }
            // What waited longer than its lease may belong to another by now.
            if self.clock.elapsed().saturating_sub(claimed_at) > self.config.lease {
                self.end(claimed.lease, Verdict::Release);
                continue;
            }
            if claimed.message.expires_ms().is_some_and(|at_ms| at_ms < self.clock.now_ms()) {
                if let Some(desk) = &self.desk {
                    desk.teller.revoked(&claimed.lease.id, true);
                }
                self.end(claimed.lease, Verdict::Expire);
                continue;
            }
            if let Some(desk) = &self.desk
                && desk.revoked.contains(&claimed.lease.id)
            {
                desk.teller.revoked(&claimed.lease.id, false);
                self.end(claimed.lease, Verdict::Cancel);
                continue;
            }
            match self.handlers.get(claimed.message.name()) {
                Some(handler) => {
                    let lease = claimed.lease.clone();
                    let (strings, run) =
                        one::start(claimed, handler.clone(), weight, self.queue.clone());
                    self.weight += weight;
                    if let Some(desk) = &self.desk {
                        desk.teller.started(&strings.seen.message);
                    }
                    self.running.insert(lease, strings);
                    self.tasks.spawn(run);
                }
                None => self.park(claimed),
            }
        }
        metrics::running(self.running.len());
    }

    fn park(&mut self, claimed: Claimed) {
        let (name, id) = (claimed.message.name(), &claimed.lease.id);
        if self.unknown.len() < MAX_UNKNOWN && self.unknown.insert(name.to_owned()) {
            tracing::warn!(task.id = %id, task.name = name, "parked task {id}: no handler here is called {name}; it runs when a worker that has one starts");
        } else {
            tracing::debug!(task.id = %id, task.name = name, "parked task {id} ({name})");
        }
        self.end(claimed.lease, Verdict::Park);
    }

    fn finish(&mut self, finished: Finished) {
        let Finished { lease, weight, ended, took, message } = finished;
        if let Some(desk) = &self.desk {
            desk.teller.ended(&message, ended.as_ref().map(|ended| &ended.verdict), took);
        }
        self.weight -= weight;
        self.running.remove(&lease);
        self.report.ran += 1;
        self.short_runs += usize::from(took < SHORT);
        match ended {
            Some(ended) => self.ended.push(ended),
            None => self.forget_suspect(&lease),
        }
    }

    pub(super) fn end(&mut self, lease: Lease, verdict: Verdict) {
        self.ended.push(Ended { lease, verdict });
    }

    fn settle(&mut self) {
        if self.ended.is_empty() || !self.settling.is_empty() {
            return;
        }
        let most = self.ended.len().min(MAX_SETTLED);
        self.settling = self.ended.drain(..most).collect();
        self.send_settling(Duration::ZERO);
    }

    fn send_settling(&self, wait: Duration) {
        let (engine, ended) = (self.queue.engine().clone(), self.settling.clone());
        let clock = self.clock.clone();
        let request = async move {
            if !wait.is_zero() {
                clock.sleep(wait).await;
            }
            Event::Settled(engine.settle(&ended).await)
        };
        self.requests.push(request.boxed());
    }

    fn settled(&mut self, recorded: Result<Vec<bool>>) {
        let recorded = match recorded {
            Ok(recorded) => recorded,
            Err(error) => {
                // The leases are prolonged meanwhile, so that nobody else runs what is done.
                tracing::warn!(error = ?error, "cannot record how tasks ended: {error}");
                self.send_settling(SETTLE_AGAIN);
                return;
            }
        };
        for (ended, is_recorded) in std::mem::take(&mut self.settling).into_iter().zip(recorded) {
            self.forget_suspect(&ended.lease);
            self.report.given_back += u64::from(ended.verdict == Verdict::Release);
            if !is_recorded {
                let id = &ended.lease.id;
                metrics::lost();
                tracing::warn!(task.id = %id, "lost the lease of task {id}: how it ended here is not recorded");
            }
        }
    }

    /// The heartbeat: everything that is held, from claimed to being recorded.
    fn extend(&mut self) {
        let waiting = self.ready.iter().map(|(_, claimed)| &claimed.lease);
        let ending = self.ended.iter().chain(&self.settling).map(|ended| &ended.lease);
        let held: Vec<Lease> = waiting.chain(self.running.keys()).chain(ending).cloned().collect();
        if held.is_empty() || self.is_extending {
            return;
        }
        let (engine, by) = (self.queue.engine().clone(), self.config.lease);
        self.is_extending = true;
        let request = async move { Event::Extended(engine.extend(&held, by).await) };
        self.requests.push(request.boxed());
    }

    fn extended(&mut self, lost: Result<Vec<Lease>>) {
        self.is_extending = false;
        let lost = match lost {
            Ok(lost) => lost,
            Err(error) => {
                tracing::warn!(error = ?error, "cannot prolong leases: {error}");
                return;
            }
        };
        let now = self.clock.elapsed();
        for lease in lost {
            self.ready.retain(|(_, claimed)| claimed.lease != lease);
            self.forget_suspect(&lease);
            if let Some(strings) = self.running.remove(&lease) {
                let id = &lease.id;
                metrics::lost();
                tracing::warn!(task.id = %id, "stopped task {id}: it was cancelled or its lease was lost");
                let _ = strings.stop.send(());
            }
        }
        for (claimed_at, _) in &mut self.ready {
            *claimed_at = now;
        }
    }

    /// What was leased ahead and still waits goes to whoever is free.
    fn give_back_stale(&mut self) {
        let is_full = self.weight >= self.config.concurrency;
        if is_full && self.report.ran == self.ran_before {
            self.short_runs = 0;
            self.release_ready();
        }
        self.ran_before = self.report.ran;
    }

    fn release_ready(&mut self) {
        for (_, claimed) in std::mem::take(&mut self.ready) {
            self.end(claimed.lease, Verdict::Release);
        }
    }

    fn start_tending(&mut self) {
        let engine = self.queue.engine().clone();
        let max_crashes = self.config.max_crashes;
        let names: Vec<String> = match &self.names {
            Some(names) => names.to_vec(),
            None => self.handlers.keys().cloned().collect(),
        };
        let request = async move {
            let tended = async {
                let tended = engine.tend(max_crashes).await?;
                Ok((tended, engine.unpark(&names).await?))
            };
            Event::Tended(tended.await)
        };
        self.requests.push(request.boxed());
    }

    fn tended(&mut self, tended: Result<(Tended, u64)>) {
        match tended {
            Ok((tended, unparked)) => {
                let Tended { requeued, buried, .. } = tended;
                metrics::requeued(requeued);
                if requeued > 0 {
                    tracing::warn!("{requeued} tasks of workers that died are queued again");
                }
                if buried > 0 {
                    tracing::error!("{buried} tasks of workers that died are dead letters");
                }
                if unparked > 0 {
                    tracing::info!(
                        "{unparked} parked tasks are queued again: they have a handler now"
                    );
                }
            }
            Err(error) => tracing::warn!(error = ?error, "cannot tend tasks: {error}"),
        }
        self.after(TEND_EVERY, Event::Tend);
    }

    fn drain(&mut self) {
        self.is_draining = true;
        self.release_ready();
        let running = self.running.len();
        let name = &self.config.name;
        tracing::info!(worker = %name, "worker {name} is stopping and waits for {running} tasks");
        for strings in self.running.values() {
            strings.ask.send_replace(true);
        }
        self.after(self.config.drain, Event::GiveUp);
    }

    fn give_up(&mut self) {
        for (lease, strings) in std::mem::take(&mut self.running) {
            let _ = strings.stop.send(());
            self.end(lease, Verdict::Release);
        }
    }

    fn is_idle(&self) -> bool {
        self.tasks.is_empty()
            && self.ready.is_empty()
            && self.ended.is_empty()
            && self.settling.is_empty()
            && !self.is_claiming
    }

    fn forget_suspect(&mut self, lease: &Lease) {
        if self.suspect.as_ref() == Some(lease) {
            self.suspect = None;
        }
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

/// Whether `name` matches a pattern in which `*` stands for any text.
pub(crate) fn matches(pattern: &str, name: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else { return pattern == name };
    let Some(mut left) = name.strip_prefix(start) else { return false };
    let mut parts: Vec<&str> = rest.split('*').collect();
    let end = parts.pop().unwrap_or_default();
    for part in parts {
        let Some(at) = left.find(part) else { return false };
        left = &left[at + part.len()..];
    }
    left.len() >= end.len() && left.ends_with(end)
}

/// A run under this is short: tasks like it are leased ahead.
const SHORT: Duration = Duration::from_millis(50);
const FIRST_POLL: Duration = Duration::from_millis(20);
const TEND_EVERY: Duration = Duration::from_secs(1);
const SETTLE_AGAIN: Duration = Duration::from_millis(250);
const MAX_SETTLED: usize = 500;
/// Names that are logged as unknown once each; after that many, none are.
const MAX_UNKNOWN: usize = 1000;
/// As many dead workers make a task a suspect.
const SUSPECT_CRASHES: u32 = 2;

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn a_star_stands_for_any_text() {
        for (pattern, name, fits) in [
            ("mail.*", "mail.send", true),
            ("mail.*", "email.send", false),
            ("*.send", "mail.send", true),
            ("*", "", true),
            ("a*b*c", "a-b-b-c", true),
            ("a*a", "a", false),
            ("slow", "slow", true),
            ("slow", "slower", false),
        ] {
            assert_eq!(matches(pattern, name), fits, "{pattern} {name}");
        }
    }
}
