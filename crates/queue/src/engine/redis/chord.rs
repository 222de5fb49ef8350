//! Chords in the keys that Celery's workers keep them in, so that parts may run on either side.

use ::redis::RedisError;
use serde_json::Value;

use super::Redis;
use crate::{
    TaskId,
    engine::{Part, Verdict, celery, chord::CLAIM_S},
};

impl Redis {
    pub(super) async fn open_group(&self, group: &str, parts: usize) -> Result<(), RedisError> {
        let key = |what| self.key(format_args!("celery-taskset-meta-{group}{what}"));
        let mut pipe = ::redis::pipe();
        pipe.cmd("DEL").arg(key(".c")).ignore();
        pipe.cmd("SET").arg(key(".s")).arg(parts).arg("EX").arg(DAY_S).ignore();
        pipe.query_async(&mut self.connection.clone()).await
    }

    pub(super) async fn join_part(
        &self,
        part: &Part<'_>,
    ) -> Result<Option<Vec<Value>>, RedisError> {
        let place = part.index.map_or("+inf".to_owned(), |index| index.to_string());
        let kept = part.kept().to_string();
        let (claim_s, keep_s) = (CLAIM_S.to_string(), DAY_S.to_string());
        let arguments = [part.group, part.id.as_str(), &place, &kept, &claim_s, &keep_s];
        let parts: Vec<Vec<u8>> = self.run(&self.scripts.join, &arguments).await?;
        let read = |bytes: &Vec<u8>| serde_json::from_slice(bytes).unwrap_or(Value::Null);
        Ok((!parts.is_empty()).then(|| parts.iter().map(read).collect()))
    }

    pub(super) async fn close_group(
        &self,
        part: &Part<'_>,
        failed: Option<(&TaskId, &str)>,
    ) -> Result<(), RedisError> {
        let (body, result) = match failed {
            Some((body, reason)) => {
                let verdict = Verdict::Dead(reason.to_owned());
                let result = celery::result(body, &verdict, self.clock.now_ms());
                (body.as_str(), result.map(|result| result.to_string()).unwrap_or_default())
            }
            None => ("", String::new()),
        };
        let arguments = [part.group, part.id.as_str(), body, &result];
        self.run::<i64>(&self.scripts.close, &arguments).await.map(drop)
    }
}

const DAY_S: u32 = 86_400;
