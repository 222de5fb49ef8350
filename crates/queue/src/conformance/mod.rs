//! One suite that every engine passes unchanged.
//!
//! It panics with what is wrong, so that it runs inside a test. Names of queues and tasks are drawn
//! at random: a shared engine may be exercised by several at once, except for its schedules.

#![expect(clippy::unwrap_used, reason = "an exercise panics with what is wrong")]

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use serde_json::{Value, json};
use throng_core::Hand;

use crate::{
    Filter, Message, Record, State, TaskId,
    engine::{Batch, Claim, Claimed, Ended, Engine, Fire, Verdict},
};

/// Exercises an engine whose clock is moved by `hand`.
///
/// # Panics
/// When the engine does something else than this crate promises.
pub async fn exercise(engine: impl Engine, hand: &Hand, now_ms: impl Fn() -> i64) {
    let bench = Bench { engine: Arc::new(engine), hand, queue: TaskId::random().to_string() };
    bench.order().await;
    bench.uniqueness().await;
    bench.debounce().await;
    bench.progress().await;
    bench.races().await;
    bench.leases().await;
    bench.verdicts().await;
    bench.held_back(&now_ms).await;
    bench.rates(&now_ms).await;
    bench.suspects().await;
    bench.expiry(&now_ms).await;
    bench.pauses().await;
    bench.hands_on(&now_ms).await;
    bench.leaving(&now_ms).await;
    bench.chords(&now_ms).await;
    bench.schedules(now_ms()).await;
}

mod chords;
mod rates;

struct Bench<'a> {
    engine: Arc<dyn Engine>,
    hand: &'a Hand,
    queue: String,
}

impl Bench<'_> {
    async fn order(&self) {
        let mut pushed = Vec::new();
        for (at, priority) in [0, 9, 3, 9, 0].into_iter().enumerate() {
            pushed.push(self.push(self.message(at).priority(priority)).await);
        }
        let claimed: Vec<TaskId> = self.claim(4).await.into_iter().map(id).collect();
        let order = [1, 3, 2, 0].map(|at: usize| pushed[at].clone());
        assert_eq!(claimed, order, "higher priorities first, then the order of the pushes");
        let rest = self.claim(10).await;
        assert_eq!(rest.len(), 1, "what is claimed is not claimed again");
        let other = Claim { queues: &["elsewhere".into()], ..self.claim_of(10, &[]) };
        assert!(self.engine.claim(&other).await.unwrap().tasks.is_empty(), "queues are apart");
        self.purge().await;
        self.push(self.message(0)).await;
        let names = ["another".to_owned()];
        let queues = [self.queue.clone()];
        let claim = Claim { names: Some(&names), ..self.claim_of(10, &queues) };
        assert!(self.engine.claim(&claim).await.unwrap().tasks.is_empty(), "names are chosen");
        let all: Vec<Message> = (0..1200).map(|at| self.message(at)).collect();
        assert_eq!(self.engine.push(&all).await.unwrap().len(), 1200, "large pushes are taken");
        assert_eq!(self.claim(2000).await.len(), 1201, "large claims are served");
        self.purge().await;
    }

    async fn uniqueness(&self) {
        let message = self.message(1);
        let id = self.push(message.clone()).await;
        assert_eq!(self.push(message).await, id);
        assert_eq!(self.claim(10).await.len(), 1, "an id is kept once");
        self.purge().await;
        let key = TaskId::random().to_string();
        let first = self.push(self.message(1).unique(&key)).await;
        assert_eq!(self.push(self.message(2).unique(&key)).await, first, "a key has one holder");
        let claimed = self.claim(10).await;
        assert_eq!(claimed.len(), 1);
        self.end(&claimed, Verdict::Done(Value::Null)).await;
        assert_ne!(self.push(self.message(3).unique(&key)).await, first, "a key is free again");
        self.purge().await;
    }

    async fn debounce(&self) {
        let key = TaskId::random().to_string();
        let debounced = |at: usize| self.message(at).debounce(&key, 10 * SECOND);
        let first = self.push(debounced(1)).await;
        self.hand.advance(6 * SECOND);
        let second = self.push(debounced(2)).await;
        self.hand.advance(6 * SECOND);
        assert!(self.claim(10).await.is_empty(), "every push begins the wait anew");
        assert_eq!(self.state(&first).await, State::Cancelled);
        self.hand.advance(6 * SECOND);
        let claimed = self.claim(10).await;
        assert_eq!(claimed.len(), 1, "of many one runs");
        assert_eq!(claimed[0].message.id(), second, "and it is the last");
        let third = self.push(debounced(3)).await;
        assert_ne!(third, second, "what runs already does not count");
        self.end(&claimed, Verdict::Done(Value::Null)).await;
        self.hand.advance(11 * SECOND);
        assert_eq!(self.claim(10).await.len(), 1);
        self.purge().await;
    }

    async fn progress(&self) {
        let id = self.push(self.message(1)).await;
        let claimed = self.claim(1).await;
        let lease = &claimed[0].lease;
        self.engine.note_progress(lease, &json!({"done": 3, "of": 7})).await.unwrap();
        let record = self.engine.find(&id).await.unwrap().unwrap();
        assert_eq!((record.progress, record.result), (Some(json!({"done": 3, "of": 7})), None));
        self.end(&claimed, Verdict::Done(Value::Null)).await;
        self.engine.note_progress(lease, &json!("late")).await.unwrap();
        let record = self.engine.find(&id).await.unwrap().unwrap();
        assert_eq!((record.progress, record.result), (None, None), "what is over has no progress");
        self.purge().await;
    }

    async fn races(&self) {
        let all: Vec<Message> = (0..400).map(|at| self.message(at)).collect();
        self.engine.push(&all).await.unwrap();
        let claimers = (0..8).map(|_| async {
            let mut taken = Vec::new();
            loop {
                let claimed = self.claim(7).await;
                if claimed.is_empty() {
                    return taken;
                }
                taken.extend(claimed.into_iter().map(id));
            }
        });
        let mut taken = join_all(claimers).await.concat();
        // Claimers that met at the same rows may have left some to whoever came later.
        taken.extend(self.claim(400).await.into_iter().map(id));
        assert_eq!(taken.len(), 400, "none is lost between claimers");
        taken.sort();
        taken.dedup();
        assert_eq!(taken.len(), 400, "none is handed out twice");
        self.purge().await;
    }

    async fn leases(&self) {
        let id = self.push(self.message(1)).await;
        let first = self.claim(1).await;
        self.hand.advance(LEASE / 2);
        assert!(self.engine.extend(&[first[0].lease.clone()], LEASE).await.unwrap().is_empty());
        self.hand.advance(LEASE / 2 + SECOND);
        self.tend().await;
        assert!(self.claim(1).await.is_empty(), "a lease that was prolonged holds");
        self.hand.advance(LEASE);
        self.tend().await;
        let second = self.claim(1).await;
        assert_eq!(second[0].message.id(), id, "the task of a dead worker runs again");
        assert_eq!(second[0].crashes, 1);
        let lost = self.engine.extend(&[first[0].lease.clone()], LEASE).await.unwrap();
        assert_eq!(lost, [first[0].lease.clone()], "a lost lease is told");
        let late = Ended { lease: first[0].lease.clone(), verdict: Verdict::Done(json!("late")) };
        assert_eq!(self.engine.settle(&[late]).await.unwrap(), [false], "a lost lease is fenced");
        assert_eq!(self.state(&id).await, State::Running);
        self.end(&second, Verdict::Done(json!(2))).await;
        assert_eq!(self.engine.find(&id).await.unwrap().unwrap().result, Some(json!(2)));
        self.purge().await;
    }

    async fn verdicts(&self) {
        for (verdict, state) in [
            (Verdict::Done(Value::Null), State::Done),
            (Verdict::Dead("why".into()), State::Dead),
            (Verdict::Park, State::Parked),
            (Verdict::Expire, State::Expired),
            (Verdict::Release, State::Queued),
        ] {
            let id = self.push(self.message(1)).await;
            let claimed = self.claim(1).await;
            self.end(&claimed, verdict.clone()).await;
            assert_eq!(self.state(&id).await, state, "{verdict:?}");
            let again = Ended { lease: claimed[0].lease.clone(), verdict: Verdict::Park };
            assert_eq!(self.engine.settle(&[again]).await.unwrap(), [false], "an end is one end");
            self.purge().await;
        }
        let many: Vec<Message> = (0..5).map(|at| self.message(at)).collect();
        self.engine.push(&many).await.unwrap();
        let mut claimed = self.claim(5).await;
        let lost = claimed.pop().unwrap();
        self.end(std::slice::from_ref(&lost), Verdict::Done(Value::Null)).await;
        claimed.push(lost);
        let ended: Vec<Ended> = claimed.iter().map(|c| done(c, json!(null))).collect();
        let recorded = self.engine.settle(&ended).await.unwrap();
        assert_eq!(recorded, [true, true, true, true, false], "each end has its own answer");
        self.purge().await;
    }

    async fn held_back(&self, now_ms: &impl Fn() -> i64) {
        let later = self.push(self.message(1).at(now_ms() + 60_000)).await;
        let soon = self.push(self.message(2).delay(30 * SECOND)).await;
        assert!(self.claim(10).await.is_empty(), "what waits is not claimed");
        assert_eq!(self.state(&later).await, State::Waiting);
        self.hand.advance(31 * SECOND);
        let claimed = self.claim(10).await;
        assert_eq!(claimed.len(), 1, "what is due is claimed");
        assert_eq!(claimed[0].message.id(), soon);
        let at_ms = now_ms() + 5_000;
        self.end(&claimed, Verdict::Retry { at_ms, reason: "tired".into() }).await;
        let record = self.engine.find(&soon).await.unwrap().unwrap();
        assert_eq!(record.due_ms, Some(at_ms), "a record says when the retry is due");
        assert_eq!((record.state, record.retries), (State::Waiting, 1));
        assert_eq!(record.reason.as_deref(), Some("tired"));
        self.hand.advance(6 * SECOND);
        let again = self.claim(10).await;
        assert_eq!(again[0].message.retries(), 1, "a retry is counted in the message");
        self.hand.advance(30 * SECOND);
        assert_eq!(self.claim(10).await.len(), 1);
        self.purge().await;
    }

    async fn suspects(&self) {
        let fellows = [self.push(self.message(1)).await, self.push(self.message(2)).await];
        let once = self.push(self.message(3).at_most_once()).await;
        for round in 0..2 {
            let claimed = self.claim(10).await;
            assert_eq!(claimed.len(), if round == 0 { 3 } else { 2 });
            self.hand.advance(LEASE + SECOND);
            self.tend().await;
            assert_eq!(self.state(&once).await, State::Dead, "at most once is not run again");
        }
        let record = self.unfollowed(&once).await.expect("somebody must follow it up");
        assert!(self.engine.tend(3).await.unwrap().has_unfollowed);
        self.engine.followed(&[record]).await.unwrap();
        assert!(self.unfollowed(&once).await.is_none(), "once");
        let claimed = self.claim(10).await;
        assert_eq!(claimed.len(), 1, "suspects are handed out one at a time");
        let poison = claimed[0].message.id();
        let Some(fellow) = fellows.into_iter().find(|id| *id != poison) else {
            panic!("one of the two was handed out");
        };
        let queues = [self.queue.clone()];
        let trusting = Claim { takes_suspect: false, ..self.claim_of(10, &queues) };
        assert!(self.engine.claim(&trusting).await.unwrap().tasks.is_empty());
        self.hand.advance(LEASE + SECOND);
        self.tend().await;
        assert_eq!(self.state(&poison).await, State::Dead, "three crashes are poison");
        assert_eq!(self.state(&fellow).await, State::Queued, "its fellow is spared");
        self.purge().await;
    }

    async fn expiry(&self, now_ms: &impl Fn() -> i64) {
        let id = self.push(self.message(1).expires_at(now_ms() + 1_000)).await;
        self.hand.advance(2 * SECOND);
        self.tend().await;
        assert_eq!(self.state(&id).await, State::Expired);
        assert!(self.claim(1).await.is_empty());
        self.purge().await;
    }

    async fn pauses(&self) {
        self.push(self.message(1)).await;
        self.engine.pause(&self.queue, true).await.unwrap();
        self.engine.pause(&self.queue, true).await.unwrap();
        assert!(self.engine.paused().await.unwrap().contains(&self.queue));
        assert!(self.claim(1).await.is_empty(), "a paused queue hands out nothing");
        self.engine.pause(&self.queue, false).await.unwrap();
        assert_eq!(self.claim(1).await.len(), 1);
        self.purge().await;
    }

    async fn hands_on(&self, now_ms: &impl Fn() -> i64) {
        let waiting = self.push(self.message(1).at(now_ms() + 3_600_000)).await;
        assert!(self.engine.retry(&waiting, None).await.unwrap(), "what waits can run now");
        let claimed = self.claim(1).await;
        assert!(!self.engine.retry(&waiting, None).await.unwrap(), "what runs can not");
        assert!(self.engine.cancel(&waiting).await.unwrap(), "what runs can be cancelled");
        let lost = self.engine.extend(&[claimed[0].lease.clone()], LEASE).await.unwrap();
        assert_eq!(lost.len(), 1, "its worker is told");
        assert!(!self.engine.cancel(&waiting).await.unwrap(), "once");
        let mut edited = self.engine.find(&waiting).await.unwrap().unwrap().message;
        edited.set_arguments(vec![json!("new")], serde_json::Map::new()).unwrap();
        assert!(self.engine.retry(&waiting, Some(&edited)).await.unwrap());
        let again = self.claim(1).await;
        assert_eq!(again[0].message.arguments::<String>().unwrap(), "new");
        self.end(&again, Verdict::Park).await;
        let name = again[0].message.name().to_owned();
        assert_eq!(self.engine.unpark(&["another".into()]).await.unwrap(), 0);
        assert_eq!(self.engine.unpark(&[name]).await.unwrap(), 1);
        let counts = self.engine.counts().await.unwrap();
        let ours: Vec<_> = counts.iter().filter(|count| count.queue == self.queue).collect();
        assert_eq!(ours.len(), 1);
        assert_eq!((ours[0].state, ours[0].tasks), (State::Queued, 1));
        let filter = Filter { queue: Some(self.queue.clone()), ..Filter::default() };
        assert_eq!(self.engine.list(&filter).await.unwrap().len(), 1);
        assert_eq!(self.engine.purge(&self.queue, State::Queued).await.unwrap(), 1);
        assert!(self.engine.list(&filter).await.unwrap().is_empty());
        assert!(self.engine.find(&waiting).await.unwrap().is_none());
    }

    /// What moves elsewhere leaves nothing behind, so that it can come back.
    async fn leaving(&self, now_ms: &impl Fn() -> i64) {
        let message = self.message(1).unique(TaskId::random().to_string());
        for _ in 0..2 {
            let id = self.push(message.clone()).await;
            assert_eq!(id, message.id(), "nobody holds its key");
            self.end(&self.claim(1).await, Verdict::Moved).await;
            assert!(self.engine.find(&id).await.unwrap().is_none(), "forgotten, not finished");
        }
        let waiting = self.message(2).at(now_ms() + 60_000);
        for _ in 0..2 {
            let id = self.push(waiting.clone()).await;
            assert!(self.engine.forget(&id).await.unwrap());
            assert!(self.engine.find(&id).await.unwrap().is_none(), "forgotten, not cancelled");
            assert!(!self.engine.forget(&id).await.unwrap());
        }
        let id = self.push(self.message(3)).await;
        assert!(!self.engine.forget(&id).await.unwrap(), "what is ready may be with a worker");
        self.end(&self.claim(1).await, Verdict::Dead("it was wrong".into())).await;
        let letter = self.engine.find(&id).await.unwrap().unwrap();
        assert!(self.engine.forget(&id).await.unwrap(), "a dead letter can go");
        for _ in 0..2 {
            self.engine.keep_dead(&letter).await.unwrap();
        }
        let kept = self.engine.find(&id).await.unwrap().unwrap();
        assert_eq!(
            (kept.state, kept.reason),
            (State::Dead, letter.reason),
            "and come from elsewhere"
        );
        assert_eq!((kept.pushed_ms, kept.finished_ms), (letter.pushed_ms, letter.finished_ms));
        assert!(self.claim(1).await.is_empty(), "it is dead");
        assert!(self.engine.retry(&id, None).await.unwrap());
        assert_eq!(self.state(&id).await, State::Queued, "and lives again when it is told to");
        assert_eq!(self.claim(1).await[0].message.id(), id);
        self.purge().await;
    }

    async fn schedules(&self, now_ms: i64) {
        let role = TaskId::random().to_string();
        assert!(self.engine.lead(&role, "a", 2 * SECOND).await.unwrap());
        assert!(!self.engine.lead(&role, "b", 2 * SECOND).await.unwrap(), "one leads");
        self.hand.advance(SECOND);
        assert!(self.engine.lead(&role, "a", 2 * SECOND).await.unwrap(), "a leader stays");
        self.hand.advance(3 * SECOND);
        assert!(self.engine.lead(&role, "b", 2 * SECOND).await.unwrap(), "a dead one is followed");
        let schedule = TaskId::random().to_string();
        assert_eq!(self.engine.last_fire(&schedule, now_ms).await.unwrap(), now_ms);
        assert_eq!(self.engine.last_fire(&schedule, now_ms + 7).await.unwrap(), now_ms);
        let message = self.message(1);
        let at_ms = now_ms + 60_000;
        let fire = Fire { schedule: &schedule, last_ms: now_ms, at_ms, message: Some(&message) };
        assert!(self.engine.fire(&fire).await.unwrap());
        let second = Fire { message: Some(&self.message(2)), ..fire };
        assert!(!self.engine.fire(&second).await.unwrap(), "a time fires once");
        assert_eq!(self.engine.last_fire(&schedule, 0).await.unwrap(), at_ms);
        assert_eq!(self.claim(10).await.len(), 1);
        self.purge().await;
    }

    fn message(&self, argument: usize) -> Message {
        Message::new("exercise", [argument]).unwrap().queue(&self.queue)
    }

    async fn push(&self, message: Message) -> TaskId {
        self.engine.push(&[message]).await.unwrap().pop().unwrap()
    }

    fn claim_of<'c>(&self, limit: usize, queues: &'c [String]) -> Claim<'c> {
        let worker = "bench";
        Claim { worker, queues, names: None, limit, takes_suspect: true, lease: LEASE }
    }

    async fn claim(&self, limit: usize) -> Vec<Claimed> {
        let queues = [self.queue.clone()];
        let Batch { tasks, .. } = self.engine.claim(&self.claim_of(limit, &queues)).await.unwrap();
        tasks
    }

    async fn end(&self, claimed: &[Claimed], verdict: Verdict) {
        let end =
            |claimed: &Claimed| Ended { lease: claimed.lease.clone(), verdict: verdict.clone() };
        let ended: Vec<Ended> = claimed.iter().map(end).collect();
        let recorded = self.engine.settle(&ended).await.unwrap();
        assert!(recorded.iter().all(|is_recorded| *is_recorded), "{verdict:?} is recorded");
    }

    async fn tend(&self) {
        self.engine.tend(3).await.unwrap();
    }

    async fn state(&self, id: &TaskId) -> State {
        self.engine.find(id).await.unwrap().unwrap().state
    }

    async fn unfollowed(&self, id: &TaskId) -> Option<Record> {
        // A bounded number is told at a time, among them such as were forgotten meanwhile.
        for _ in 0..100 {
            let tasks = self.engine.unfollowed().await.unwrap();
            if let Some(record) = tasks.into_iter().find(|record| record.id() == *id) {
                return Some(record);
            }
        }
        None
    }

    /// Leaves nothing of ours behind.
    async fn purge(&self) {
        let filter = Filter { queue: Some(self.queue.clone()), limit: 5000, ..Filter::default() };
        for record in self.engine.list(&filter).await.unwrap() {
            self.engine.cancel(&record.id()).await.unwrap();
        }
        for state in State::ALL {
            self.engine.purge(&self.queue, state).await.unwrap();
        }
        let left = self.engine.list(&filter).await.unwrap();
        assert!(left.is_empty(), "a purged queue is empty");
    }
}

fn id(claimed: Claimed) -> TaskId {
    claimed.message.id()
}

fn done(claimed: &Claimed, result: Value) -> Ended {
    Ended { lease: claimed.lease.clone(), verdict: Verdict::Done(result) }
}

const SECOND: Duration = Duration::from_secs(1);
const LEASE: Duration = Duration::from_secs(10);
