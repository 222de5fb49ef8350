//! Tasks that a delivery alone holds, when the connection of the delivery is lost: what has run is
//! noted, what runs gets a row.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use serde_json::Value;

use super::{Broker, Held, node::Link};
use crate::{
    Result, TaskId,
    engine::{Ended, Engine as _, Lease, Verdict, database::ran::Orphan},
};

/// What was acknowledged a moment ago, by connection. A node that is killed may have forgotten it.
#[derive(Debug, Default)]
pub(super) struct Recent(Mutex<Vec<Acknowledged>>);

#[derive(Debug)]
struct Acknowledged {
    link: Arc<Link>,
    ids: VecDeque<(Instant, TaskId)>,
}

impl Recent {
    pub(super) fn add(&self, link: &Arc<Link>, id: TaskId) {
        let mut all = self.lock();
        let at = all.iter().position(|one| Arc::ptr_eq(&one.link, link)).unwrap_or_else(|| {
            all.push(Acknowledged { link: link.clone(), ids: VecDeque::new() });
            all.len() - 1
        });
        let ids = &mut all[at].ids;
        while ids.front().is_some_and(|(since, _)| since.elapsed() > LONG) {
            ids.pop_front();
        }
        ids.push_back((Instant::now(), id));
    }

    /// Takes those of connections that are lost.
    fn take_lost(&self) -> Vec<Acknowledged> {
        self.lock().extract_if(.., |one| !one.link.is_alive()).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Acknowledged>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Broker {
    /// Sees to it that what a lost node had given to us does not run again, before anything new is
    /// taken. Whoever calls holds `taking`.
    pub(super) async fn mind_the_lost(&self) -> Result<()> {
        let (lost, orphans): (Vec<Acknowledged>, Vec<Orphan>) = {
            let all = self.lock_held();
            let ran = self.recent.take_lost();
            let lost = all.iter().filter(|(_, held)| !held.link.is_alive());
            let orphan = |(lease, held): (&Lease, &Held)| {
                let (lease, worker) = (lease.clone(), held.worker.to_string());
                Some(Orphan { lease, message: held.message().ok()?, worker })
            };
            (ran, lost.filter_map(orphan).collect())
        };
        let ran = lost.iter().flat_map(|one| &one.ids).map(|(_, id)| id.clone());
        let ran: Vec<TaskId> = ran.collect();
        if !ran.is_empty()
            && let Err(error) = self.carrier.ledger.note_ran(&ran).await
        {
            // Nobody else knows of it: it is noted at the next try.
            self.recent.lock().extend(lost);
            return Err(error);
        }
        if orphans.is_empty() {
            return Ok(());
        }
        let adopted = self.carrier.ledger.adopt(&orphans, LEASE).await?;
        let mut over = Vec::new();
        {
            let mut held = self.lock_held();
            let mut rows = self.lock_adopted();
            for (orphan, row) in orphans.into_iter().zip(adopted) {
                let is_over = held.remove(&orphan.lease).is_none();
                match row {
                    Some(row) if is_over => over.push(row),
                    Some(row) => drop(rows.insert(orphan.lease, row)),
                    None => {}
                }
            }
        }
        // What ended meanwhile has its end noted, but not in its row.
        let ends =
            over.into_iter().map(|lease| Ended { lease, verdict: Verdict::Done(Value::Null) });
        self.carrier.ledger.settle(&ends.collect::<Vec<_>>()).await.map(drop)
    }

    /// The lease under which the ledger knows a task.
    pub(super) fn known_as(&self, lease: &Lease) -> Lease {
        self.lock_adopted().get(lease).unwrap_or(lease).clone()
    }

    pub(super) fn lock_adopted(&self) -> MutexGuard<'_, HashMap<Lease, Lease>> {
        self.adopted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long a node may take to write down what was acknowledged.
const LONG: Duration = Duration::from_secs(5);
/// Until the next heartbeat prolongs it.
const LEASE: Duration = Duration::from_secs(6);
