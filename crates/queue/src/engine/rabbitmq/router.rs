//! Which node a message goes to: by weight among those that answer.

use std::{
    borrow::Borrow,
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_util::future::select_all;
use tokio::time::timeout;

use super::{
    envelope::Outgoing,
    node::{Fate, Link, Node},
};

#[derive(Debug)]
pub(super) struct Router {
    pub(super) nodes: Vec<Arc<Node>>,
    /// What each node is ahead of its share: smooth weighted round robin.
    turns: Mutex<Vec<i64>>,
    /// How long a push waits for a confirmation before its task goes another way.
    pub(super) confirm: Duration,
}

impl Router {
    pub(super) fn new(nodes: Vec<Arc<Node>>, confirm: Duration) -> Self {
        let turns = Mutex::new(vec![0; nodes.len()]);
        Self { nodes, turns, confirm }
    }

    /// The nodes that can be reached now.
    pub(super) fn links(&self) -> Vec<Arc<Link>> {
        self.nodes.iter().filter_map(|node| node.link()).collect()
    }

    /// Whether there is a node that whoever cannot wait may publish to.
    pub(super) fn is_usable(&self) -> bool {
        self.nodes.iter().any(|node| node.link().is_some() && !node.rests())
    }

    /// Returns when a node can be reached, at the latest after `limit`.
    pub(super) async fn wait_for_one(&self, limit: Duration) {
        let mut links: Vec<_> = self.nodes.iter().map(|node| node.links()).collect();
        let one = links.iter_mut().map(|link| Box::pin(link.wait_for(Option::is_some)));
        let _ = timeout(limit, select_all(one)).await;
    }

    /// Publishes all, and says of each what became of it. A node that has failed lately is asked
    /// only if there is no other and whoever sends `tries_resting`. What one node may have is not given to
    /// another: whoever sends it again must first see to it that it runs once.
    pub(super) async fn send(
        &self,
        all: &[impl Borrow<Outgoing> + Sync],
        patience: Duration,
        tries_resting: bool,
    ) -> Vec<Fate> {
        let mut sent = Vec::with_capacity(all.len());
        for window in all.chunks(WINDOW) {
            sent.extend(self.send_window(window, patience, tries_resting).await);
        }
        sent
    }

    async fn send_window(
        &self,
        window: &[impl Borrow<Outgoing> + Sync],
        patience: Duration,
        tries_resting: bool,
    ) -> Vec<Fate> {
        let mut sent = vec![Fate::Unsent; window.len()];
        for _ in 0..self.nodes.len() {
            let Some(node) = self.next(tries_resting) else { return sent };
            let Some(link) = node.link() else { continue };
            let left: Vec<usize> =
                (0..window.len()).filter(|at| sent[*at] == Fate::Unsent).collect();
            let rest: Vec<&Outgoing> = left.iter().map(|at| window[*at].borrow()).collect();
            let mut publishing = pin!(link.publish(&rest, patience));
            let fates = match timeout(self.confirm, &mut publishing).await {
                Ok(fates) => fates,
                Err(_) => {
                    // The next push goes another way at once, rather than wait as long as this one.
                    node.failed();
                    publishing.await
                }
            };
            if patience > self.confirm && fates.contains(&Fate::Unknown) {
                link.doubt.raise();
            }
            let is_kept = fates.iter().all(|fate| *fate == Fate::Kept);
            for (at, fate) in left.into_iter().zip(fates) {
                sent[at] = fate;
            }
            if is_kept {
                node.succeeded();
                return sent;
            }
            if !node.rests() {
                node.failed();
            }
            if link.is_alive() {
                return sent;
            }
        }
        sent
    }

    /// The node whose turn it is.
    fn next(&self, tries_resting: bool) -> Option<Arc<Node>> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        let linked = (0..self.nodes.len()).filter(|at| self.nodes[*at].link().is_some());
        let (rested, mut usable): (Vec<usize>, Vec<usize>) =
            linked.partition(|at| self.nodes[*at].rests());
        if usable.is_empty() && tries_resting {
            usable = rested;
        }
        let total: i64 = usable.iter().map(|at| i64::from(self.nodes[*at].weight)).sum();
        for at in &usable {
            turns[*at] += i64::from(self.nodes[*at].weight);
        }
        let chosen = usable.into_iter().max_by_key(|at| turns[*at])?;
        turns[chosen] -= total;
        Some(self.nodes[chosen].clone())
    }
}

/// Messages that are on their way to be confirmed at once.
pub(super) const WINDOW: usize = 256;
/// How long a push waits for a confirmation unless the URL says otherwise: with the commit that
/// follows, none waits 250 ms.
pub(super) const CONFIRM: Duration = Duration::from_millis(150);
/// How long whoever carries what is safe already waits for one.
pub(super) const CARRY: Duration = Duration::from_secs(5);
