//! Runs what was pushed, when the test says so.

use std::time::Duration;

use throng_core::Shutdown;
use throng_queue::{Filter, Record, State, WorkerConfig};

use super::Site;

impl Site {
    /// Runs every task that is due, those that they push, what was counted and what transactions
    /// left in the outbox.
    /// Returns how many ran. Tasks that are held back stay; [`Site::advance`] makes them due.
    ///
    /// # Panics
    /// When tasks are still not done after half a minute.
    pub async fn run_tasks(&self) -> u64 {
        self.works.settle_counters().await;
        let (trigger, shutdown) = Shutdown::pair();
        let worker = self.works.worker(WorkerConfig::default());
        let working = tokio::spawn(worker.run(shutdown));
        let mut relay = self.works.relay();
        let all_done = async {
            loop {
                let relayed = relay.drain().await.expect("the database of the test answers");
                if relayed == 0 && !self.has_due_tasks().await {
                    break;
                }
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        let is_done = tokio::time::timeout(LIMIT, all_done).await.is_ok();
        trigger.request();
        let report = working.await.expect("a worker does not panic");
        let left = self.left_behind().await;
        assert!(is_done, "tasks do not finish: {}", left.join(", "));
        report.map_or(0, |report| report.ran)
    }

    /// As [`Site::run_tasks`], and moves the clock on to whatever is held back (delays, retries)
    /// until no task is left that could run. Returns how many ran.
    ///
    /// # Panics
    /// When tasks do not come to an end, or the site was booted with the machine's clock.
    pub async fn run_until_idle(&self) -> u64 {
        let mut ran = 0;
        for _ in 0..MAX_ROUNDS {
            ran += self.run_tasks().await;
            if self.has_due_tasks().await {
                continue; // the worker gave some back when it was told to stop
            }
            let waiting = self.list(State::Waiting).await;
            let Some(due_ms) = waiting.iter().filter_map(|record| record.due_ms).min() else {
                return ran;
            };
            let wait_ms = (due_ms - self.ctx().clock.now_ms()).max(1);
            self.advance(Duration::from_millis(wait_ms.unsigned_abs()));
        }
        panic!("tasks go on for ever: {}", self.left_behind().await.join(", "));
    }

    /// Looks at those held back first: one that is started meanwhile is seen as running.
    async fn has_due_tasks(&self) -> bool {
        let now_ms = self.ctx().clock.now_ms();
        let waiting = self.list(State::Waiting).await;
        if waiting.iter().any(|record| record.due_ms.is_none_or(|due_ms| due_ms <= now_ms)) {
            return true;
        }
        let counts = self.ctx().queue.counts().await.expect("the database of the test answers");
        let is_busy = |state| matches!(state, State::Queued | State::Running);
        counts.iter().any(|count| is_busy(count.state) && count.tasks > 0)
    }

    async fn list(&self, state: State) -> Vec<Record> {
        let filter = Filter { state: Some(state), limit: 10_000, ..Filter::default() };
        self.ctx().queue.list(&filter).await.expect("the database of the test answers")
    }
}

/// Real time: the worker's own work is real, only its clock is not.
const LOOK_EVERY: Duration = Duration::from_millis(1);
const LIMIT: Duration = Duration::from_secs(30);
const MAX_ROUNDS: usize = 1_000;
