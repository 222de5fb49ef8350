//! What a run shares with the worker that began it: the task, and the strings to stop it by.
//!
//! One allocation for all of it, because a worker may have tens of thousands of runs.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

use crate::{
    Message, Policy, Queue,
    engine::{Claimed, Lease},
};

/// A run, as both sides know it.
#[derive(Debug)]
pub(crate) struct Course {
    pub(crate) message: Message,
    pub(super) lease: Lease,
    pub(super) queue: Queue,
    pub(super) crashes: u32,
    pub(super) policy: Policy,
    is_asked: AtomicBool,
    asked: Notify,
    stopped: Notify,
}

impl Course {
    pub(super) fn new(claimed: Claimed, policy: Policy, queue: Queue) -> Self {
        let Claimed { lease, message, crashes } = claimed;
        let (is_asked, asked, stopped) = Default::default();
        Self { message, lease, queue, crashes, policy, is_asked, asked, stopped }
    }

    /// Asks the task to stop.
    pub(super) fn ask(&self) {
        self.is_asked.store(true, Ordering::SeqCst);
        self.asked.notify_waiters();
    }

    pub(super) fn is_asked(&self) -> bool {
        self.is_asked.load(Ordering::SeqCst)
    }

    /// Returns when the task is asked to stop. Cancel safe.
    pub(super) async fn asked(&self) {
        while !self.is_asked() {
            let asked = self.asked.notified();
            // What is asked from here on is heard.
            if !self.is_asked() {
                asked.await;
            }
        }
    }

    /// Stops the run where it next awaits.
    pub(super) fn stop(&self) {
        self.stopped.notify_one();
    }

    /// Returns once when the run is to be stopped.
    pub(super) async fn stopped(&self) {
        self.stopped.notified().await;
    }
}
