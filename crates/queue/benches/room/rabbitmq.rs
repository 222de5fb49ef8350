//! What is measured on RabbitMQ alone: confirmed pushes, and what is left when ours is taken away: lapin
//! with such messages, and a socket that writes them from bytes made once.

use super::{Bench, CALLERS, bare::Bare, socket::Socket};

impl Bench {
    /// Acknowledged pushes, which are confirmed ones, in turn with their ceilings: as many such
    /// messages on their way at once. The middle one of three rounds each.
    pub(crate) async fn push_in_turn(&self, url: &str, tasks: usize) -> anyhow::Result<()> {
        let celery = self.celery(&["push"])?;
        let mut rounds = [[[0.0; 2]; 3]; 3];
        let [ours, lapin, socket] = &mut rounds;
        for round in 0..3 {
            ours[round] = self.push_at_once(tasks).await?;
            let bare = Bare::open(url, format!("{}-alone-{round}", self.name)).await?;
            lapin[round] = bare.publish(tasks, CALLERS).await?;
            bare.close().await?;
            let mut bare = Socket::open(url, format!("{}-socket-{round}", self.name))?;
            socket[round] = bare.publish(tasks, CALLERS)?;
            bare.close()?;
        }
        for rounds in &mut rounds {
            rounds.sort_by(|one, other| one[0].total_cmp(&other[0]));
        }
        let [ours, lapin, socket] = rounds.map(|rounds| rounds[1]);
        self.rates("push, 256 callers at once", ours, &celery, &[], "ours >= 15000");
        self.rates("lapin alone, 256 at once", lapin, &[], &[], "");
        self.rates("a socket alone, 256 at once", socket, &[], &[], "");
        self.push_beside_apalis(ours)
    }

    /// apalis-amqp 1.0.0 has no way to ask for confirmations: what it pushes counts when the queue
    /// says that it has it. What its worker takes, pushed by hand and confirmed, comes after.
    fn push_beside_apalis(&self, ours: [f64; 2]) -> anyhow::Result<()> {
        for (case, tasks, name) in [
            ("many", APALIS_PUSHES, "apalis 1.0 (not confirmed)"),
            ("confirmed", APALIS_PUSHES * 10, "apalis' messages, confirmed, by lapin"),
        ] {
            let theirs = self.apalis(case, tasks)?;
            for (at, unit) in ["tasks/s", "us of the processor"].into_iter().enumerate() {
                if let Some(figure) = theirs.get(at) {
                    let peer = Some((*figure, name));
                    self.tell("push, 256 callers at once", unit, ours[at], peer, "");
                }
            }
        }
        Ok(())
    }

    /// What the broker hands out at most to whoever takes and acknowledges it.
    pub(crate) async fn take_alone(&self, url: &str, tasks: usize) -> anyhow::Result<()> {
        let bare = Bare::open(url, format!("{}-taken", self.name)).await?;
        bare.publish(tasks, CALLERS).await?;
        let lapin = bare.take(tasks).await?;
        bare.close().await?;
        let mut bare = Socket::open(url, format!("{}-taken-too", self.name))?;
        bare.publish(tasks, CALLERS)?;
        let socket = bare.take(tasks)?;
        bare.close()?;
        self.rates("lapin alone takes", lapin, &[], &[], "");
        self.rates("a socket alone takes", socket, &[], &[], "");
        Ok(())
    }

    /// What of the wait from a push to its start is not ours: from a publication to its delivery.
    pub(crate) async fn latency_alone(&self, url: &str) -> anyhow::Result<()> {
        let bare = Bare::open(url, format!("{}-alone", self.name)).await?;
        let lapin = bare.deliver(200).await?;
        bare.close().await?;
        let mut bare = Socket::open(url, format!("{}-socket", self.name))?;
        let socket = bare.deliver(200)?;
        bare.close()?;
        for (who, took) in [("lapin", lapin), ("a socket", socket)] {
            let (middle, late) = (took[took.len() / 2], took[took.len() * 99 / 100]);
            self.case(&format!("{who} alone, idle, p50"), "ms", middle, None, "");
            self.case(&format!("{who} alone, idle, p99"), "ms", late, None, "");
        }
        Ok(())
    }
}

/// It makes a channel and declares its queue for each.
const APALIS_PUSHES: usize = 2048;
