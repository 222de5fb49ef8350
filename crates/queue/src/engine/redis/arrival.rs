//! Hearing of tasks that others push: a blocking look at a list that leaves it as it is.

use std::time::Duration;

use ::redis::{AsyncConnectionConfig, RedisError, aio::MultiplexedConnection};
use futures_util::future::select_all;

use super::Redis;
use crate::engine::Engine as _;

impl Redis {
    pub(super) async fn await_arrival(&self, queues: &[String]) {
        let paused = self.paused().await.unwrap_or_default();
        let looks: Vec<_> = queues
            .iter()
            .filter(|queue| !paused.contains(queue))
            .map(|queue| Box::pin(self.await_list(queue)))
            .collect();
        if looks.is_empty() {
            std::future::pending::<()>().await;
        }
        select_all(looks).await;
    }

    /// Returns when the queue's list of usual priority has a task, which stays where it is.
    async fn await_list(&self, queue: &str) {
        loop {
            if let Ok(true) = self.look(queue).await {
                return;
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// Moves the list's end to the list's end, which does nothing but wait for there to be one.
    /// The connection is this look's own, because it blocks, and goes when the look is dropped.
    async fn look(&self, queue: &str) -> Result<bool, RedisError> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(super::TIMEOUT))
            .set_response_timeout(None);
        let mut connection: MultiplexedConnection =
            self.client.get_multiplexed_async_connection_with_config(&config).await?;
        let list = self.list_key(queue, 0);
        loop {
            let mut command = ::redis::cmd("BLMOVE");
            command.arg(&list).arg(&list).arg("RIGHT").arg("RIGHT").arg(BLOCK_S);
            let asked = command.query_async::<Option<Vec<u8>>>(&mut connection);
            // A half-open connection would never answer.
            let limit = Duration::from_secs(BLOCK_S + 5);
            match tokio::time::timeout(limit, asked).await {
                Ok(found) if found.as_ref().is_ok_and(Option::is_none) => {}
                Ok(found) => return found.map(|_| true),
                Err(_) => return Ok(false),
            }
        }
    }
}

const BLOCK_S: u64 = 20;
const AGAIN: Duration = Duration::from_secs(1);
