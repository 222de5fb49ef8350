//! What is over its rate is put off, and turns are counted over all who ask.

use futures_util::future::join_all;

use super::{Bench, SECOND};
use crate::{
    Message, Rate, State, TaskId,
    engine::{Limit, Turn, Verdict},
    rate::{self, Bucket},
};

impl Bench<'_> {
    pub(super) async fn rates(&self, now_ms: &impl Fn() -> i64) {
        for message in [self.message(1), self.message(2).ignore_result()] {
            self.puts_off(message, now_ms).await;
        }
        self.counts_turns(now_ms()).await;
        self.keeps_two_limits().await;
        self.agrees_with_the_model(now_ms).await;
    }

    async fn puts_off(&self, message: Message, now_ms: &impl Fn() -> i64) {
        let id = self.push(message).await;
        let claimed = self.claim(1).await;
        let at_ms = now_ms() + 5_000;
        self.end(&claimed, Verdict::Later { at_ms }).await;
        let record = self.engine.find(&id).await.unwrap().unwrap();
        assert_eq!((record.state, record.retries), (State::Waiting, 0), "no retry is counted");
        assert_eq!(record.due_ms, Some(at_ms));
        assert_eq!(record.reason.as_deref(), Some("over its rate limit"));
        assert!(self.claim(1).await.is_empty(), "what is put off is not claimed");
        self.hand.advance(6 * SECOND);
        let again = self.claim(1).await;
        assert_eq!(again[0].message.id(), id);
        assert_eq!((again[0].message.retries(), again[0].crashes), (0, 0));
        self.purge().await;
    }

    async fn counts_turns(&self, now_ms: i64) {
        let limit = limit(Rate::per_second(10));
        let wanted = vec![vec![limit]; 5];
        let asking = (0..8).map(|_| self.engine.turns(&wanted));
        let turns = join_all(asking).await.into_iter().flat_map(Result::unwrap);
        let mut taken: Vec<i64> = Vec::new();
        let mut later: Vec<i64> = Vec::new();
        for turn in turns {
            match turn {
                Turn::At(ms) => taken.push(ms - now_ms),
                Turn::Later(ms) => later.push(ms - now_ms),
            }
        }
        taken.sort_unstable();
        later.sort_unstable();
        let spaced = |from: i64, count: i64| (0..count).map(|nth| from + nth * 100).collect();
        let (first, rest): (Vec<i64>, Vec<i64>) = (spaced(0, 21), spaced(1100, 19));
        assert_eq!(taken, first, "whoever asks, a turn is given out once");
        assert_eq!(later, rest, "the others come back one after the other, in time for a turn");
    }

    async fn keeps_two_limits(&self) {
        let (wide, narrow) = (limit(Rate::per_second(1)), limit(Rate::per_hour(1)));
        let both = vec![wide.clone(), narrow];
        let turns = self.engine.turns(&[both.clone(), both.clone(), both]).await.unwrap();
        let taken = turns.iter().filter(|turn| matches!(turn, Turn::At(_))).count();
        assert_eq!(taken, 1, "a task is under all its limits");
        let turns = self.engine.turns(&[vec![wide.clone()], vec![wide]]).await.unwrap();
        let all_taken = turns.iter().all(|turn| matches!(turn, Turn::At(_)));
        assert!(all_taken, "what one limit refuses is not charged to another: {turns:?}");
        assert!(self.engine.turns(&[]).await.unwrap().is_empty());
    }

    /// However engines keep them, buckets do the same.
    async fn agrees_with_the_model(&self, now_ms: &impl Fn() -> i64) {
        let rates = [
            Rate::per_second(7),
            Rate::per_second(500),
            Rate::per_minute(40).burst(3),
            Rate::per_hour(2),
        ];
        let limits = rates.map(limit);
        let mut model = [Bucket { next: 0, line: 0 }; 4];
        // Any numbers will do that are not round.
        let mut dice = 88_172_645_463_325_252_u64;
        for step in 0..60 {
            dice ^= dice << 13;
            dice ^= dice >> 7;
            dice ^= dice << 17;
            let picked = (dice % 4) as usize;
            let other = (picked + 1 + (dice / 4 % 3) as usize) % 4;
            let picked =
                if (dice / 16).is_multiple_of(4) { vec![picked, other] } else { vec![picked] };
            let wanted: Vec<Limit> = picked.iter().map(|at| limits[*at].clone()).collect();
            let mut all: Vec<_> = picked.iter().map(|at| (rates[*at], model[*at])).collect();
            let expected = rate::take(&mut all, now_ms() * 1000);
            picked.iter().zip(&all).for_each(|(at, (_, bucket))| model[*at] = *bucket);
            let expected = match expected {
                Ok(us) => Turn::At((us + 999) / 1000),
                Err(us) => Turn::Later((us + 999) / 1000),
            };
            let told = self.engine.turns(&[wanted]).await.unwrap();
            assert_eq!(told, [expected], "step {step}");
            self.hand.advance(std::time::Duration::from_millis(dice / 64 % 300));
        }
    }
}

fn limit(rate: Rate) -> Limit {
    Limit { name: TaskId::random().to_string(), rate }
}
