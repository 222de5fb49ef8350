//! Moving tasks from one engine to another: as they are, in their order, and none is lost.

use std::time::Duration;

use crate::{
    Error, Filter, Message, Queue, Record, Result, State, TaskId, backoff,
    engine::{Claim, Claimed, Ended, Verdict},
};

/// How far a move has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Moved {
    /// Tasks that were ready.
    pub queued: u64,
    /// Tasks that were held back, and are so at the target.
    pub waiting: u64,
    /// Tasks that no worker knew.
    pub parked: u64,
    /// Dead letters, which are so at the target too.
    pub dead: u64,
}

impl Moved {
    /// All of them.
    #[must_use]
    pub fn total(self) -> u64 {
        self.queued + self.waiting + self.parked + self.dead
    }
}

impl Queue {
    /// Moves the tasks of `queue` that are ready, held back, parked or dead to `target`, under the
    /// same ids, higher priorities first and then as they were pushed. `tell` hears how far it is.
    ///
    /// Each task is at the target before it is forgotten here. So a move that is killed loses
    /// nothing: what it held is ready here again after a minute, and the next move pushes it under
    /// the same id, which does nothing where it is known. (A task that is to run at most once and
    /// was held by a move that was killed is a dead letter here.) Workers may go on meanwhile on
    /// both sides. What runs and the records of what finished well stay.
    ///
    /// # Errors
    /// [`Error::Move`] when the queue is paused here, or both engines keep their tasks in one place;
    /// when an engine does not answer: then what was being moved is given back.
    pub async fn move_to(
        &self,
        target: &Self,
        queue: &str,
        tell: &mut (dyn FnMut(Moved) + Send),
    ) -> Result<Moved> {
        let mover = format!("move-{}", &TaskId::random().as_str()[..8]);
        self.check_move(target, queue, &mover).await?;
        // What a move that was killed held, where no worker runs any more that would see to it.
        self.engine().tend(u32::MAX).await?;
        let mut moved = Moved::default();
        let queues = [queue.to_owned()];
        let claim = Claim {
            worker: &mover,
            queues: &queues,
            names: None,
            limit: AT_ONCE,
            takes_suspect: true,
            lease: LEASE,
        };
        // A broker may hand out a moment later what it has.
        let mut empty = 0;
        while empty < 2 {
            let tasks = self.engine().claim(&claim).await?.tasks;
            empty = if tasks.is_empty() { empty + 1 } else { 0 };
            moved.queued += self.hand_over(target, tasks).await?;
            tell(moved);
        }
        for (state, count) in [
            (State::Waiting, &mut moved.waiting),
            (State::Parked, &mut moved.parked),
            (State::Dead, &mut moved.dead),
        ] {
            *count = self.hand_over_resting(target, queue, state).await?;
        }
        tell(moved);
        Ok(moved)
    }

    async fn check_move(&self, target: &Self, queue: &str, mover: &str) -> Result<()> {
        let refuse =
            |reason: &str| Err(Error::Move { queue: queue.to_owned(), reason: reason.to_owned() });
        if self.paused().await?.iter().any(|paused| paused == queue) {
            return refuse("it is paused where it is, and hands out nothing; resume it first");
        }
        // Whoever moves into the place that he takes from would forget what he has just pushed. So
        // a role that is taken here must be free at the target. A move that begins at this moment
        // may have the same role for as long: then another tells.
        let probe = format!("{mover}-target");
        for _ in 0..TRIES {
            let role = format!("move-{}", backoff::dice() % ROLES);
            if !self.engine().lead(&role, mover, PROBE).await? {
                continue;
            }
            let is_elsewhere = target.engine().lead(&role, &probe, PROBE).await?;
            self.engine().lead(&role, mover, Duration::ZERO).await?;
            if is_elsewhere {
                return target.engine().lead(&role, &probe, Duration::ZERO).await.map(drop);
            }
        }
        refuse("both engines keep their tasks in one place")
    }

    async fn hand_over(&self, target: &Self, tasks: Vec<Claimed>) -> Result<u64> {
        if tasks.is_empty() {
            return Ok(0);
        }
        let now_ms = self.clock().now_ms();
        let messages = tasks.iter().map(|task| {
            let mut message = task.message.clone();
            message.complete();
            // What was told to run now does not wait for its time again.
            if message.due_ms(now_ms).is_some_and(|due_ms| due_ms > now_ms) {
                message.clear_eta();
            }
            message
        });
        let messages: Vec<Message> = messages.collect();
        let pushed = target.push_in_order(&messages).await;
        let verdict = if pushed.is_ok() { Verdict::Moved } else { Verdict::Release };
        let end = |task: Claimed| Ended { lease: task.lease, verdict: verdict.clone() };
        let ended: Vec<Ended> = tasks.into_iter().map(end).collect();
        // What is not held any more is ready here again, and is counted when it is met again.
        let recorded = self.engine().settle(&ended).await?;
        pushed.map(|()| recorded.into_iter().map(u64::from).sum())
    }

    /// A broker keeps tasks whose result is ignored apart from the others, and their order only
    /// among themselves.
    async fn push_in_order(&self, messages: &[Message]) -> Result<()> {
        for alike in messages.chunk_by(|one, next| ignores_result(one) == ignores_result(next)) {
            self.engine().push(alike).await?;
        }
        Ok(())
    }

    async fn hand_over_resting(&self, target: &Self, queue: &str, state: State) -> Result<u64> {
        let limit = AT_ONCE as u64;
        let filter =
            Filter { queue: Some(queue.to_owned()), state: Some(state), name: None, limit };
        let mut moved = 0;
        loop {
            // A list has the newest first.
            let mut resting = self.list(&filter).await?;
            resting.reverse();
            for record in &mut resting {
                record.message.complete();
            }
            match state {
                State::Dead => {
                    for letter in &resting {
                        target.engine().keep_dead(letter).await?;
                    }
                }
                _ => {
                    let due = |record: &Record| match record.due_ms {
                        Some(due_ms) => record.message.clone().at(due_ms),
                        None => record.message.clone(),
                    };
                    let messages: Vec<Message> = resting.iter().map(due).collect();
                    target.engine().push(&messages).await?;
                }
            }
            let mut gone = 0;
            for record in &resting {
                // One that has begun meanwhile stays; at the target it runs again.
                gone += u64::from(self.engine().forget(&record.id()).await?);
            }
            moved += gone;
            if gone == 0 {
                return Ok(moved);
            }
        }
    }
}

fn ignores_result(message: &Message) -> bool {
    message.header_value("ignore_result").is_some_and(|is_so| is_so == true)
}

const AT_ONCE: usize = 500;
const LEASE: Duration = Duration::from_secs(60);
/// How long it takes at most to ask both sides whether they are one.
const PROBE: Duration = Duration::from_secs(10);
/// Roles to ask with, each a line that stays; and how many are tried.
const ROLES: u64 = 64;
const TRIES: usize = 5;
