//! Pushes that arrive while others are under way gather and share the next commit.
//!
//! A durable commit costs a wait for the disk and a request a trip over the network, however little
//! it holds. So whoever leads takes along everything that waits. A [`Baton`] makes a leader; when
//! it is dropped, also because its holder was, the first of those that wait leads.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::oneshot;

#[cfg(feature = "rabbitmq")]
use super::lasting::lasting;

/// Pushes that wait for the commit that they will share. A `T` is
/// what is pushed, cheap to clone; an `A` is the answer for one.
#[derive(Debug)]
pub(super) struct Gather<T, A> {
    state: Mutex<State<T, A>>,
    /// How many commits may be under way at once.
    leaders: usize,
    /// How much one commit takes along, beside what its leader brings.
    most: usize,
}

#[derive(Debug)]
struct State<T, A> {
    waiting: VecDeque<Waiting<T, A>>,
    leading: usize,
}

#[derive(Debug)]
struct Waiting<T, A> {
    items: Vec<T>,
    word: oneshot::Sender<Word<T, A>>,
}

/// What one who waits is told.
#[derive(Debug)]
enum Word<T, A> {
    Pushed(Vec<A>),
    /// With the items that waited.
    Lead(
        Baton<T, A>,
        #[cfg_attr(
            not(feature = "rabbitmq"),
            expect(dead_code, reason = "only `push_once` takes them")
        )]
        Vec<T>,
    ),
}

/// The right to commit.
#[derive(Debug)]
struct Baton<T, A>(Arc<Gather<T, A>>);

impl<T: Clone, A> Gather<T, A> {
    pub(super) fn new(leaders: usize, most: usize) -> Arc<Self> {
        let state = State { waiting: VecDeque::new(), leading: 0 };
        Arc::new(Self { state: Mutex::new(state), leaders, most })
    }

    /// Pushes `items`, alone or with others, by one call of `commit`, which answers for each item
    /// that it is given, in their order.
    pub(super) async fn push<E, F>(
        self: &Arc<Self>,
        items: Vec<T>,
        commit: impl Fn(Vec<T>) -> F + Send + Sync,
    ) -> Result<Vec<A>, E>
    where
        F: Future<Output = Result<Vec<A>, E>> + Send,
    {
        let baton = match self.enter(|| items.clone()) {
            Ok(baton) => baton,
            Err(word) => match word.await {
                Ok(Word::Pushed(answers)) => return Ok(answers),
                Ok(Word::Lead(baton, _)) => baton,
                // Whoever took ours failed or was dropped. Pushing an id twice is harmless, and
                // each gets the engine's own words.
                Err(_) => return commit(items).await,
            },
        };
        let others = self.take();
        let mut all = items.clone();
        all.extend(others.iter().flat_map(|other| &other.items).cloned());
        let pushed = commit(all).await;
        drop(baton);
        let mut answers = match pushed {
            Ok(answers) => answers,
            Err(error) if others.is_empty() => return Err(error),
            Err(_) => {
                drop(others);
                return commit(items).await;
            }
        };
        tell(others, answers.split_off(items.len()));
        Ok(answers)
    }

    /// As [`push`](Self::push), for what must not be done twice: what `commit` began goes on when
    /// whoever leads it leaves, and it answers for each item rather than fail. None when whoever
    /// led panicked.
    #[cfg(feature = "rabbitmq")]
    pub(super) async fn push_once<F>(
        self: &Arc<Self>,
        items: Vec<T>,
        commit: impl FnOnce(Vec<T>) -> F + Send,
    ) -> Option<Vec<A>>
    where
        F: Future<Output = Vec<A>> + Send + 'static,
        T: Send + 'static,
        A: Send + 'static,
    {
        let (own, mut items) = (items.len(), Some(items));
        let (baton, mut all) = match self.enter(|| items.take().unwrap_or_default()) {
            Ok(baton) => (baton, items.unwrap_or_default()),
            Err(word) => match word.await.ok()? {
                Word::Pushed(answers) => return Some(answers),
                Word::Lead(baton, items) => (baton, items),
            },
        };
        let others = self.take();
        all.extend(others.iter().flat_map(|other| &other.items).cloned());
        let commit = commit(all);
        let work = async move {
            let mut answers = commit.await;
            drop(baton);
            tell(others, answers.split_off(own));
            answers
        };
        Some(lasting(work).await)
    }

    /// Leads if there is room for one more who does, and waits with his items for a word otherwise.
    fn enter(
        self: &Arc<Self>,
        items: impl FnOnce() -> Vec<T>,
    ) -> Result<Baton<T, A>, oneshot::Receiver<Word<T, A>>> {
        let mut state = self.lock();
        if state.leading < self.leaders {
            state.leading += 1;
            return Ok(Baton(self.clone()));
        }
        let (word, answer) = oneshot::channel();
        state.waiting.push_back(Waiting { items: items(), word });
        Err(answer)
    }

    fn take(&self) -> Vec<Waiting<T, A>> {
        let mut state = self.lock();
        let (mut count, mut items) = (0, 0);
        for waiting in &state.waiting {
            items += waiting.items.len();
            if items > self.most {
                break;
            }
            count += 1;
        }
        state.waiting.drain(..count).collect()
    }
}

/// Gives each who waited the answers for its items.
fn tell<T, A>(others: Vec<Waiting<T, A>>, mut answers: Vec<A>) {
    for Waiting { items, word } in others {
        let after = answers.split_off(items.len());
        let _ = word.send(Word::Pushed(std::mem::replace(&mut answers, after)));
    }
}

impl<T, A> Gather<T, A> {
    fn lock(&self) -> MutexGuard<'_, State<T, A>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T, A> Drop for Baton<T, A> {
    fn drop(&mut self) {
        loop {
            let next = {
                let mut state = self.0.lock();
                let next = state.waiting.pop_front();
                if next.is_none() {
                    state.leading -= 1;
                }
                next
            };
            let Some(Waiting { items, word }) = next else { return };
            if !word.is_closed() {
                // One that is dropped with the word drops this baton, and so passes it on.
                drop(word.send(Word::Lead(Self(self.0.clone()), items)));
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::TaskId;

    async fn commit(numbers: Vec<u32>) -> Result<Vec<TaskId>, u32> {
        tokio::time::sleep(Duration::from_millis(2)).await;
        match numbers.iter().find(|number| **number >= 1000) {
            Some(number) => Err(*number),
            None => Ok(numbers.iter().map(|number| number.to_string().into()).collect()),
        }
    }

    #[tokio::test]
    async fn everybody_gets_his_own_answers_or_his_own_error() {
        let gather = Gather::new(2, 50);
        let pushes = (0..200_u32).map(|number| {
            let gather = gather.clone();
            async move {
                let number = if number % 50 == 7 { number + 1000 } else { number };
                let items = vec![number; 1 + number as usize % 3];
                (items.clone(), gather.push(items, commit).await)
            }
        });
        for (items, pushed) in futures_util::future::join_all(pushes).await {
            match pushed {
                Ok(answers) => assert_eq!(answers, commit(items).await.unwrap()),
                Err(number) => assert_eq!(number, items[0]),
            }
        }
    }

    #[tokio::test]
    async fn one_who_leaves_holds_nobody_up() {
        let gather = Gather::new(1, 50);
        for _ in 0..20 {
            let pushes = (0..20_u32).map(|number| {
                let gather = gather.clone();
                tokio::spawn(async move { gather.push(vec![number], commit).await })
            });
            let pushes: Vec<_> = pushes.collect();
            tokio::task::yield_now().await;
            pushes.iter().step_by(3).for_each(tokio::task::JoinHandle::abort);
            for (number, push) in pushes.into_iter().enumerate() {
                if let Ok(pushed) = push.await {
                    assert_eq!(pushed.unwrap(), [TaskId::from(number.to_string())]);
                }
            }
        }
        assert_eq!(gather.lock().leading, 0);
    }

    #[cfg(feature = "rabbitmq")]
    #[tokio::test]
    async fn what_must_be_done_once_is_done_once_whoever_leaves() {
        let gather = Gather::new(2, 50);
        let done: Arc<Mutex<Vec<u32>>> = Arc::default();
        let push = |number: u32| {
            let (gather, done) = (gather.clone(), done.clone());
            let commit = move |all: Vec<u32>| async move {
                tokio::time::sleep(Duration::from_millis(2)).await;
                done.lock().unwrap().extend(&all);
                all
            };
            tokio::spawn(async move { gather.push_once(vec![number], commit).await })
        };
        for round in 0..20 {
            let pushes: Vec<_> = (0..20).map(|at| push(round * 20 + at)).collect();
            tokio::task::yield_now().await;
            pushes.iter().step_by(3).for_each(tokio::task::JoinHandle::abort);
            for (at, push) in pushes.into_iter().enumerate() {
                if let Ok(pushed) = push.await {
                    assert_eq!(pushed.unwrap(), [round * 20 + u32::try_from(at).unwrap()]);
                }
            }
        }
        let mut done = done.lock().unwrap().clone();
        let count = done.len();
        done.sort_unstable();
        done.dedup();
        assert_eq!(done.len(), count, "nothing is done twice");
        assert!(count >= 20 * 13, "those who stay are served: {count}");
    }
}
