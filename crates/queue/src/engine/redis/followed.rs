//! Tasks that ended while no worker held them: what follows them, and Celery's word on them.

use ::redis::RedisError;

use super::Redis;
use crate::{
    Record, State, TaskId,
    engine::{Verdict, celery},
};

impl Redis {
    pub(super) async fn unfollowed_tasks(&self) -> Result<Vec<Record>, RedisError> {
        let mut command = ::redis::cmd("SRANDMEMBER");
        command.arg(self.key(FOLLOW)).arg(FOLLOWED);
        let ids: Vec<String> = command.query_async(&mut self.connection.clone()).await?;
        let mut records = Vec::with_capacity(ids.len());
        for id in ids {
            match self.find_record(&TaskId::from(id.as_str())).await? {
                Some(record) => records.push(record),
                None => self.forget_unfollowed(&id).await?,
            }
        }
        Ok(records)
    }

    pub(super) async fn note_followed(&self, tasks: &[Record]) -> Result<(), RedisError> {
        for record in tasks {
            let id = record.id();
            let reason = || record.reason.clone().unwrap_or_default();
            let verdict = match record.state {
                State::Dead => Some(Verdict::Dead(reason())),
                State::Expired => Some(Verdict::Expire),
                State::Cancelled => Some(Verdict::Cancel),
                _ => None,
            };
            let verdict = verdict.filter(|_| !record.message.ignores_result());
            if let Some(verdict) = verdict {
                self.tell_celery(&id, &verdict).await?;
            }
            self.forget_unfollowed(id.as_str()).await?;
        }
        Ok(())
    }

    /// What `AsyncResult` reads, unless a worker has said something.
    async fn tell_celery(&self, id: &TaskId, verdict: &Verdict) -> Result<(), RedisError> {
        let Some(result) = celery::result(id, verdict, self.clock.now_ms()) else { return Ok(()) };
        let (key, result) = (self.key(format_args!("celery-task-meta-{id}")), result.to_string());
        let mut set = ::redis::cmd("SET");
        set.arg(&key).arg(&result).arg("NX").arg("EX").arg(RESULT_S);
        let mut connection = self.connection.clone();
        let kept: Option<String> = set.query_async(&mut connection).await?;
        if kept.is_some() {
            let mut publish = ::redis::cmd("PUBLISH");
            publish.arg(&key).arg(&result);
            publish.query_async::<i64>(&mut connection).await?;
        }
        Ok(())
    }

    async fn forget_unfollowed(&self, id: &str) -> Result<(), RedisError> {
        let mut command = ::redis::cmd("SREM");
        command.arg(self.key(FOLLOW)).arg(id);
        command.query_async(&mut self.connection.clone()).await
    }
}

const FOLLOW: &str = "throng:follow";
const FOLLOWED: usize = 200;
const RESULT_S: u32 = 86_400;
