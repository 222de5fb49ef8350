//! A chord counts each of its parts once, whoever notes it and however often.

use futures_util::future::join_all;
use serde_json::{Value, json};

use super::{Bench, SECOND};
use crate::{State, TaskId, engine::Part};

impl Bench<'_> {
    pub(super) async fn chords(&self, now_ms: &impl Fn() -> i64) {
        self.joins().await;
        self.joins_what_failed().await;
        self.joins_at_once().await;
        self.leaves_parts(now_ms).await;
    }

    async fn joins(&self) {
        let (group, ids) = (TaskId::random(), [TaskId::random(), TaskId::random()]);
        self.engine.open_chord(group.as_str(), 2).await.unwrap();
        let results = [json!({"first": [1, "ü"]}), Value::Null];
        let part = |at: usize| Part {
            group: group.as_str(),
            id: &ids[at],
            index: Some(at as u64),
            outcome: Ok(&results[at]),
        };
        for _ in 0..2 {
            assert!(self.engine.join(&part(1)).await.unwrap().is_none(), "one part is one part");
        }
        for _ in 0..2 {
            let all = self.engine.join(&part(0)).await.unwrap().unwrap();
            let kept: Vec<&Value> = all.iter().map(|part| &part[3]).collect();
            assert_eq!(kept, [&results[0], &results[1]], "the parts' order, not that of the ends");
            assert!(all.iter().all(|part| part[2] == "SUCCESS"));
        }
        assert!(self.engine.join(&part(1)).await.unwrap().is_none(), "one pushes the body");
        self.engine.close_chord(&part(0), None).await.unwrap();
        for at in 0..2 {
            assert!(self.engine.join(&part(at)).await.unwrap().is_none(), "a chord is done once");
        }
    }

    async fn joins_what_failed(&self) {
        let (group, ids) = (TaskId::random(), [TaskId::random(), TaskId::random()]);
        self.engine.open_chord(group.as_str(), 2).await.unwrap();
        let result = json!(1);
        let part = |at: usize, outcome| Part {
            group: group.as_str(),
            id: &ids[at],
            index: Some(at as u64),
            outcome,
        };
        assert!(self.engine.join(&part(0, Err("no luck"))).await.unwrap().is_none());
        let last = part(1, Ok(&result));
        let all = self.engine.join(&last).await.unwrap().unwrap();
        assert_eq!((&all[0][2], &all[1][2]), (&json!("FAILURE"), &json!("SUCCESS")));
        assert_eq!(all[0][1], json!(ids[0]));
        assert_eq!(all[0][3]["exc_message"], json!(["no luck"]));
        let body = TaskId::random();
        self.engine.close_chord(&last, Some((&body, "no luck"))).await.unwrap();
        assert!(self.engine.join(&last).await.unwrap().is_none());
    }

    async fn joins_at_once(&self) {
        let group = TaskId::random();
        let ids: Vec<TaskId> = (0..40).map(|_| TaskId::random()).collect();
        self.engine.open_chord(group.as_str(), ids.len()).await.unwrap();
        let joins = ids.iter().enumerate().map(async |(at, id)| {
            let (index, result) = (Some(at as u64), json!(at));
            let part = Part { group: group.as_str(), id, index, outcome: Ok(&result) };
            let all = self.engine.join(&part).await.unwrap()?;
            self.engine.close_chord(&part, None).await.unwrap();
            Some(all)
        });
        let complete: Vec<Vec<Value>> = join_all(joins).await.into_iter().flatten().collect();
        assert_eq!(complete.len(), 1, "one of many finds all parts");
        let results: Vec<Value> = complete[0].iter().map(|part| part[3].clone()).collect();
        assert_eq!(json!(results), json!((0..40).collect::<Vec<u64>>()));
    }

    /// Whoever works must tell their chords that they will not come.
    async fn leaves_parts(&self, now_ms: &impl Fn() -> i64) {
        let body = self.message(0);
        let part = |at| self.message(at).in_group("group", at, Some(&body)).unwrap();
        let cancelled = self.push(part(0).at(now_ms() + 3_600_000)).await;
        assert!(self.engine.cancel(&cancelled).await.unwrap());
        let expired = self.push(part(1).ignore_result().expires_at(now_ms() + 1_000)).await;
        self.hand.advance(2 * SECOND);
        self.tend().await;
        for (id, state) in [(cancelled, State::Cancelled), (expired, State::Expired)] {
            let record = self.unfollowed(&id).await.expect("its chord must hear of it");
            assert_eq!(record.state, state);
            assert!(self.engine.tend(3).await.unwrap().has_unfollowed);
            self.engine.followed(&[record]).await.unwrap();
            assert!(self.unfollowed(&id).await.is_none(), "once");
            assert_eq!(self.state(&id).await, state, "its record is kept");
        }
        self.purge().await;
    }
}
