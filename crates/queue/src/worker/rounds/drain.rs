//! A worker that stops: it claims nothing more and waits for what runs, for a while.

use super::{Event, Rounds};
use crate::engine::Verdict;

impl Rounds {
    pub(super) fn drain(&mut self) {
        self.is_draining = true;
        self.release_ready();
        self.release_paced();
        let running = self.running.len();
        let name = &self.config.name;
        tracing::info!(worker = %name, "worker {name} is stopping and waits for {running} tasks");
        for started in self.running.values() {
            started.course.ask();
        }
        self.after(self.config.drain, Event::GiveUp);
    }

    pub(super) fn give_up(&mut self) {
        for (lease, started) in std::mem::take(&mut self.running) {
            started.course.stop();
            if started.course.message.is_at_most_once() {
                // It has begun. Its lease runs out, and whoever tends next buries it as it does
                // what a dead worker held.
                self.forget_suspect(&lease);
                continue;
            }
            self.end(lease, Verdict::Release);
        }
        // What an engine that is away has not heard of by then, it takes back by itself.
        self.after(self.config.lease, Event::Leave);
    }

    pub(super) fn is_idle(&self) -> bool {
        self.tasks.is_empty()
            && self.ready.is_empty()
            && self.pace.held().next().is_none()
            && self.ended.is_empty()
            && self.settling.is_empty()
            && !self.is_claiming
    }
}
