//! Shutdown as a value: a [`Trigger`] asks once, every clone of [`Shutdown`] hears it.

use tokio::sync::watch;

/// Hears that the process, or a part of it, should stop. Clone it into every spawned task.
#[derive(Clone, Debug)]
pub struct Shutdown {
    asked: watch::Receiver<bool>,
}

/// Asks everything that holds the matching [`Shutdown`] to stop; dropping it asks too.
#[derive(Debug)]
pub struct Trigger {
    ask: watch::Sender<bool>,
}

impl Shutdown {
    /// A new pair: the one who asks and the one who hears.
    #[must_use]
    pub fn pair() -> (Trigger, Self) {
        let (ask, asked) = watch::channel(false);
        (Trigger { ask }, Self { asked })
    }

    /// Whether stopping has been asked for.
    #[must_use]
    pub fn is_requested(&self) -> bool {
        *self.asked.borrow() || self.asked.has_changed().is_err()
    }

    /// Returns when stopping is asked for; at once if it already was. Cancel safe.
    pub async fn requested(&self) {
        let mut asked = self.asked.clone();
        // An error means that the trigger is gone, which asks too: nobody could ask any more.
        let _ = asked.wait_for(|asked| *asked).await;
    }
}

impl Trigger {
    /// Asks every holder of the matching [`Shutdown`] to stop. Asking twice is asking once.
    pub fn request(&self) {
        self.ask.send_replace(true);
    }

    /// One more [`Shutdown`] that hears this trigger.
    #[must_use]
    pub fn shutdown(&self) -> Shutdown {
        Shutdown { asked: self.ask.subscribe() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_clone_hears_one_request() {
        let (trigger, shutdown) = Shutdown::pair();
        let other = shutdown.clone();
        assert!(!shutdown.is_requested());
        trigger.request();
        shutdown.requested().await;
        other.requested().await;
        assert!(trigger.shutdown().is_requested());
    }

    #[tokio::test]
    async fn dropping_the_trigger_asks_too() {
        let (trigger, shutdown) = Shutdown::pair();
        drop(trigger);
        shutdown.requested().await;
        assert!(shutdown.is_requested());
    }
}
