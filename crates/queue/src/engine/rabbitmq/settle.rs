//! Leases and ends: of tasks that have a row, and of those that a delivery alone holds.

use std::{borrow::Cow, sync::Arc, time::Duration};

use super::{
    Broker, Held, LIGHT,
    envelope::Told,
    receipt::{Receipt, acknowledge},
};
use crate::{
    Result, TaskId,
    engine::{
        Claim, Ended, Engine as _, Lease, Tended, Verdict, celery, database::afloat::Arrived,
    },
};

impl Broker {
    pub(super) async fn extend_leases(&self, leases: &[Lease], by: Duration) -> Result<Vec<Lease>> {
        // A claim that is under way does it as well.
        if let Ok(_one) = self.taking.try_lock() {
            self.mind_the_lost().await?;
        }
        let known: Vec<Lease> = leases.iter().map(|lease| self.known_as(lease)).collect();
        let (light, rows): (Vec<Lease>, Vec<Lease>) =
            known.iter().cloned().partition(|lease| lease.row == LIGHT);
        let mut lost = match rows.is_empty() {
            true => Vec::new(),
            false => self.carrier.ledger.extend(&rows, by).await?,
        };
        // The worker knows them by the leases that it was given.
        for lost in &mut lost {
            if let Some(at) = known.iter().position(|lease| lease == lost) {
                *lost = leases[at].clone();
            }
        }
        let until = self.clock.elapsed().saturating_add(by);
        let mut all = self.lock_held();
        for lease in light {
            match all.get_mut(&lease) {
                Some(held) => held.until = until,
                None => lost.push(lease),
            }
        }
        drop(all);
        let mut replies = self.lock_replies();
        lost.iter().for_each(|lease| drop(replies.remove(lease)));
        Ok(lost)
    }

    pub(super) async fn settle_ended(&self, ended: &[Ended]) -> Result<Vec<bool>> {
        let known = |ended: &Ended| Ended { lease: self.known_as(&ended.lease), ..ended.clone() };
        let told: &[Ended] = ended;
        let has_adopted = !self.lock_adopted().is_empty();
        let ended: Cow<'_, [Ended]> = match has_adopted {
            true => ended.iter().map(known).collect(),
            false => ended.into(),
        };
        let light = |ended: &&Ended| ended.lease.row == LIGHT;
        // The ledger first: if it fails, nothing has happened and all of it is tried again.
        let rows: Vec<Ended> = ended.iter().filter(|ended| !light(ended)).cloned().collect();
        self.keep_light(ended.iter().filter(light)).await?;
        let mut recorded = match rows.is_empty() {
            true => Vec::new(),
            false => self.carrier.ledger.settle(&rows).await?,
        }
        .into_iter();
        let light = self.end_light(ended.iter().filter(light)).await;
        let mut light = light.into_iter();
        let recorded: Vec<bool> = ended
            .iter()
            .map(|ended| if ended.lease.row == LIGHT { light.next() } else { recorded.next() })
            .map(|is_recorded| is_recorded.unwrap_or(false))
            .collect();
        self.tell(told, &recorded).await;
        if has_adopted {
            let mut adopted = self.lock_adopted();
            told.iter().for_each(|ended| drop(adopted.remove(&ended.lease)));
        }
        if rows.iter().any(|ended| ended.verdict == Verdict::Release) {
            self.carrier.carry().await?;
        }
        self.carrier.ledger.signals().finished();
        Ok(recorded)
    }

    /// Makes rows for those whose message must not go with its delivery: what is tried again, dead
    /// or parked.
    async fn keep_light(&self, ended: impl Iterator<Item = &Ended>) -> Result<()> {
        let is_kept = |verdict: &Verdict| {
            matches!(
                verdict,
                Verdict::Retry { .. } | Verdict::Later { .. } | Verdict::Dead(_) | Verdict::Park
            )
        };
        for Ended { lease, verdict } in ended.filter(|ended| is_kept(&ended.verdict)) {
            let found =
                self.lock_held().get(lease).map(|held| (held.message(), held.worker.clone()));
            let Some((Ok(message), worker)) = found else { continue };
            let queues = [message.queue_name().to_owned()];
            let claim = Claim {
                worker: &worker,
                queues: &queues,
                names: None,
                limit: 1,
                takes_suspect: false,
                lease: Duration::from_secs(60),
            };
            let token: Arc<str> = TaskId::random().as_str().into();
            let arrived = Arrived { message, is_kept: false, crashes: 0 };
            let taken = self.carrier.ledger.take_rows(&claim, &token, &[arrived]).await?;
            let end = |lease: Lease| Ended { lease, verdict: verdict.clone() };
            let ends: Vec<Ended> = taken.into_iter().map(|claimed| end(claimed.lease)).collect();
            self.carrier.ledger.settle(&ends).await?;
        }
        Ok(())
    }

    async fn end_light<'e>(&self, ended: impl Iterator<Item = &'e Ended>) -> Vec<bool> {
        let is_released = |ended: &Ended| ended.verdict == Verdict::Release;
        let ends: Vec<(&Ended, Option<Held>)> = {
            let mut all = self.lock_held();
            let take = |ended: &'e Ended| {
                let held = all.remove(&ended.lease);
                // In one step: if the node is lost meanwhile, it is known that these have run.
                if let Some(held) = held.as_ref().filter(|_| !is_released(ended)) {
                    self.recent.add(&held.link, ended.lease.id.clone());
                }
                (ended, held)
            };
            ended.map(take).collect()
        };
        let over = ends.iter().filter(|(ended, _)| !is_released(ended));
        let over: Vec<&Receipt> =
            over.filter_map(|(_, held)| held.as_ref().map(|held| &held.receipt)).collect();
        let mut told = acknowledge(&over).await.into_iter();
        let (mut recorded, mut untold) = (Vec::with_capacity(ends.len()), Vec::new());
        for (at, (ended, held)) in ends.iter().enumerate() {
            let Some(held) = held else {
                recorded.push(false);
                continue;
            };
            if is_released(ended) {
                recorded.push(held.receipt.give_back().await);
                continue;
            }
            let is_told = told.next().unwrap_or(false);
            if !is_told {
                untold.push((at, ended.lease.id.clone()));
            }
            recorded.push(is_told);
        }
        if !untold.is_empty() {
            // The broker gives them out again, and whoever gets them finds them noted here.
            let ids: Vec<TaskId> = untold.iter().map(|(_, id)| id.clone()).collect();
            let is_noted = self.carrier.ledger.note_ran(&ids).await.is_ok();
            untold.iter().for_each(|(at, _)| recorded[*at] = is_noted);
        }
        recorded
    }

    /// Sends results to whoever waits for them by Celery's RPC backend.
    async fn tell(&self, ended: &[Ended], recorded: &[bool]) {
        let mut told = Vec::new();
        {
            let mut replies = self.lock_replies();
            let ended = if replies.is_empty() { &[] } else { ended };
            for (Ended { lease, verdict }, is_recorded) in ended.iter().zip(recorded) {
                let Some((to, correlation_id)) = replies.remove(lease) else { continue };
                let result = celery::result(&lease.id, verdict, self.clock.now_ms());
                if let Some(result) = result.filter(|_| *is_recorded) {
                    told.push(Told::of(&to, &correlation_id, &result));
                }
            }
        }
        // Whoever waits has its queue on one of the nodes; the others drop it.
        for link in self.carrier.router.links() {
            for told in &told {
                link.tell(told).await;
            }
        }
    }

    pub(super) async fn tend_tasks(&self, max_crashes: u32) -> Result<Tended> {
        let tended = self.carrier.ledger.tend(max_crashes).await?;
        self.let_go_of_late().await;
        // What another process left behind is carried by one of those that live.
        if self.carrier.ledger.lead(CARRIES, &self.holder, CARRY_LEASE).await? {
            self.carrier.ledger.promote_due().await?;
            self.carrier.carry().await?;
        }
        Ok(tended)
    }
}

const CARRIES: &str = "carry";
const CARRY_LEASE: Duration = Duration::from_secs(4);
