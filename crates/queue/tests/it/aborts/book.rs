//! What happened in the storm, and whether it may have.

use std::{
    collections::{HashMap, HashSet},
    sync::{Mutex, MutexGuard},
    time::{Duration, Instant},
};

use throng_queue::{Error, Message, Queue, Record, State, TaskId};

use super::dice::Dice;

/// All that was pushed, and what became of it.
#[derive(Default)]
pub(super) struct Book(Mutex<Pages>);

#[derive(Default)]
struct Pages {
    /// Together all or none, whoever heard of it.
    batches: Vec<Vec<TaskId>>,
    acknowledged: HashSet<TaskId>,
    chords: Vec<(Vec<TaskId>, TaskId)>,
    parts: HashSet<TaskId>,
    /// Those with a key that another may have had.
    keyed: HashSet<TaskId>,
    /// Those that run at most once.
    once: HashSet<TaskId>,
    begun: HashMap<TaskId, u32>,
    ended: HashSet<TaskId>,
    cancelled: HashSet<TaskId>,
    tried_again: HashSet<TaskId>,
}

impl Book {
    pub(super) fn pushed(&self, ids: Vec<TaskId>) {
        self.lock().batches.push(ids);
    }

    pub(super) fn acknowledged(&self, ids: impl IntoIterator<Item = TaskId>) {
        self.lock().acknowledged.extend(ids);
    }

    pub(super) fn chord(&self, parts: Vec<TaskId>, body: TaskId) {
        let mut pages = self.lock();
        pages.parts.extend(parts.iter().cloned());
        pages.chords.push((parts, body));
    }

    pub(super) fn keyed(&self, id: TaskId) {
        self.lock().keyed.insert(id);
    }

    pub(super) fn once(&self, message: Message) -> Message {
        self.lock().once.insert(message.id());
        message
    }

    pub(super) fn begun(&self, id: &TaskId) {
        *self.lock().begun.entry(id.clone()).or_default() += 1;
    }

    pub(super) fn ended(&self, id: &TaskId) {
        self.lock().ended.insert(id.clone());
    }

    pub(super) fn cancelled(&self, id: &TaskId) {
        self.lock().cancelled.insert(id.clone());
    }

    /// Whether somebody may try it again: what runs at most once would run twice, and a part would
    /// end after its chord.
    pub(super) fn tries_again(&self, id: &TaskId) -> bool {
        let mut pages = self.lock();
        let may = !pages.once.contains(id) && !pages.parts.contains(id);
        if may {
            pages.tried_again.insert(id.clone());
        }
        may
    }

    /// Some task of late.
    pub(super) fn any(&self, dice: &mut Dice) -> Option<TaskId> {
        let pages = self.lock();
        let late = pages.batches.len().min(20) as u64;
        let nth = (late > 0).then(|| dice.below(late) as usize)?;
        pages.batches.iter().rev().nth(nth)?.first().cloned()
    }

    pub(super) fn len(&self) -> usize {
        self.lock().batches.iter().map(Vec::len).sum()
    }

    /// Waits until everything that is known has ended; what has not, after a while.
    pub(super) async fn settle(&self, queue: &Queue) -> Vec<String> {
        let mut left: Vec<TaskId> = {
            let pages = self.lock();
            let bodies = pages.chords.iter().map(|(_, body)| body);
            pages.batches.iter().flatten().chain(bodies).cloned().collect()
        };
        let begun = Instant::now();
        loop {
            let mut open = Vec::new();
            for id in left {
                let found = queue.find(&id).await;
                if let Some(why) = self.is_open(queue, &id, found) {
                    open.push((id, why));
                }
            }
            if open.is_empty() || begun.elapsed() > super::PATIENCE {
                return open.into_iter().map(|(id, why)| format!("{id} ({why})")).collect();
            }
            left = open.into_iter().map(|(id, _)| id).collect();
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    fn is_open(
        &self,
        queue: &Queue,
        id: &TaskId,
        found: throng_queue::Result<Record>,
    ) -> Option<String> {
        match found {
            Ok(record) if record.state.is_final() => None,
            Ok(record) => Some(format!("{record:?}")),
            Err(Error::Unknown(_)) => {
                let pages = self.lock();
                // One that waited in the spool may have found its key taken when it came.
                let is_late = queue.engine_name() == "redis" && pages.keyed.contains(id);
                let has_ended = pages.ended.contains(id);
                let is_missing = pages.acknowledged.contains(id) && !has_ended && !is_late;
                is_missing.then(|| "it is not known and has not run".to_owned())
            }
            Err(error) => Some(format!("{error:?}")),
        }
    }

    /// Once all have ended: whether they ended as they may.
    pub(super) async fn check(&self, queue: &Queue) {
        let pages = std::mem::take(&mut *self.lock());
        let state = async |id: &TaskId| queue.find(id).await.ok().map(|record| record.state);
        let is_there =
            async |id: &TaskId| pages.begun.contains_key(id) || state(id).await.is_some();
        for id in &pages.once {
            let times = pages.begun.get(id).copied().unwrap_or(0);
            let record = queue.find(id).await.ok();
            assert!(times <= 1, "{id} runs at most once and ran {times} times: {record:?}");
        }
        for batch in &pages.batches {
            let mut there = 0;
            for id in batch {
                there += usize::from(is_there(id).await);
            }
            let (all, first) = (batch.len(), &batch[0]);
            assert!(there == 0 || there == all, "{there} of {all} with {first} were pushed");
        }
        for id in pages.cancelled.difference(&pages.tried_again) {
            assert_eq!(state(id).await, Some(State::Cancelled), "{id}");
        }
        for (parts, body) in &pages.chords {
            let mut done = 0;
            for part in parts {
                done += usize::from(state(part).await == Some(State::Done));
            }
            let of_body = state(body).await;
            if done == parts.len() {
                assert!(of_body.is_some(), "{body} is pushed when all its parts are done");
            } else {
                // One that is cancelled between its end and the record of it has ended all the same.
                let have_ended = parts.iter().all(|part| pages.ended.contains(part));
                let has_run = pages.begun.contains_key(body);
                assert!(!has_run || have_ended, "{body} ran and not all its parts");
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Pages> {
        self.0.lock().unwrap()
    }
}
