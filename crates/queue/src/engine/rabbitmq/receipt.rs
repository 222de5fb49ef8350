//! Acknowledgements: the broker is told of many messages in one word where their tags allow it.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures_util::{FutureExt as _, future::join_all};
use lapin::{
    Acker,
    message::Delivery,
    options::{BasicAckOptions, BasicNackOptions},
};

/// The right to acknowledge one message or to give it back, once.
#[derive(Clone, Debug)]
pub(super) struct Receipt {
    acker: Acker,
    tag: u64,
    open: Arc<Open>,
}

/// The tags of a channel's messages that are neither acknowledged nor given back.
#[derive(Debug, Default)]
pub(super) struct Open(Mutex<BTreeSet<u64>>);

impl Receipt {
    /// For what came over the channel of `open`. Made in the order in which messages come.
    pub(super) fn of(delivery: &Delivery, open: &Arc<Open>) -> Self {
        open.lock().insert(delivery.delivery_tag);
        Self { acker: delivery.acker.clone(), tag: delivery.delivery_tag, open: open.clone() }
    }

    /// Whether the channel is gone: then the broker hands the message out again by itself.
    pub(super) fn is_void(&self) -> bool {
        self.acker.poisoned()
    }

    /// Gives the message back to the broker. The answer says whether it was told.
    pub(super) async fn give_back(&self) -> bool {
        let options = BasicNackOptions { requeue: true, ..Default::default() };
        let mut word = Box::pin(self.acker.nack(options));
        let begun = {
            let mut tags = self.open.lock();
            tags.remove(&self.tag);
            word.as_mut().now_or_never()
        };
        let told = match begun {
            Some(told) => told,
            None => word.await,
        };
        told.unwrap_or_else(|error| {
            tracing::debug!(error = ?error, "cannot give a task back: {error}");
            false
        })
    }
}

/// Acknowledges all; the answer says of each whether the broker was told.
pub(super) async fn acknowledge(receipts: &[&Receipt]) -> Vec<bool> {
    let mut told = vec![false; receipts.len()];
    let mut left: Vec<usize> = (0..receipts.len()).collect();
    while let Some(first) = left.first() {
        let open = &receipts[*first].open;
        let (here, elsewhere) =
            left.into_iter().partition(|at| Arc::ptr_eq(&receipts[*at].open, open));
        acknowledge_together(open, receipts, here, &mut told).await;
        left = elsewhere;
    }
    told
}

/// As [`acknowledge`], for those at `here`, which came over one channel.
async fn acknowledge_together(
    open: &Open,
    receipts: &[&Receipt],
    here: Vec<usize>,
    told: &mut [bool],
) {
    let words: Vec<_> = {
        // Words leave in the order in which their tags were taken out: none that covers earlier
        // tags overtakes theirs.
        let mut tags = open.lock();
        for at in &here {
            tags.remove(&receipts[*at].tag);
        }
        let word = |group: Vec<usize>| {
            let last = group.iter().copied().max_by_key(|at| receipts[*at].tag)?;
            let options = BasicAckOptions { multiple: group.len() > 1 };
            let mut word = Box::pin(receipts[last].acker.ack(options));
            let begun = word.as_mut().now_or_never();
            Some((group, begun, word))
        };
        let (covered, others) = split(&tags, here, |at| receipts[*at].tag);
        let others = others.into_iter().map(|at| vec![at]);
        std::iter::once(covered).chain(others).filter_map(word).collect()
    };
    let answers = words.into_iter().map(|(group, begun, word)| async move {
        let answer = match begun {
            Some(answer) => answer,
            None => word.await,
        };
        (group, answer.unwrap_or(false))
    });
    for (group, is_told) in join_all(answers).await {
        group.into_iter().for_each(|at| told[at] = is_told);
    }
}

/// Those before the first tag that is still open, which one word covers, and the others.
fn split<T>(open: &BTreeSet<u64>, all: Vec<T>, tag: impl Fn(&T) -> u64) -> (Vec<T>, Vec<T>) {
    let first = open.first().copied().unwrap_or(u64::MAX);
    all.into_iter().partition(|one| tag(one) < first)
}

impl Open {
    fn lock(&self) -> MutexGuard<'_, BTreeSet<u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_word_covers_what_comes_before_the_first_that_is_open() {
        let check = |open: &[u64], all: &[u64]| {
            split(&open.iter().copied().collect(), all.to_vec(), |tag| *tag)
        };
        assert_eq!(check(&[], &[3, 1, 2]), (vec![3, 1, 2], vec![]));
        assert_eq!(check(&[2, 9], &[1, 3, 10]), (vec![1], vec![3, 10]));
        assert_eq!(check(&[1], &[2]), (vec![], vec![2]));
    }
}
