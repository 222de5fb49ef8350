//! The connection to the server: shared by all, and made anew as soon as a request finds it broken.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use ::redis::{
    AsyncConnectionConfig, Client, Cmd, ErrorKind, Pipeline, RedisError, RedisFuture, Value,
    aio::{ConnectionLike, MultiplexedConnection},
};
use futures_util::FutureExt as _;

/// Cheap to clone; all clones are one connection.
#[derive(Clone)]
pub(crate) struct Line(Arc<Inner>);

struct Inner {
    client: Client,
    config: AsyncConnectionConfig,
    state: Mutex<State>,
    /// Held while a connection is made.
    making: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct State {
    connection: Option<MultiplexedConnection>,
    /// Counts the connections, so that a late failure does not end the next one.
    number: u64,
    refused: Option<Instant>,
}

impl Line {
    pub(super) async fn open(client: Client, limit: Duration) -> Result<Self, RedisError> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(limit))
            .set_response_timeout(Some(limit));
        let (state, making) = Default::default();
        let line = Self(Arc::new(Inner { client, config, state, making }));
        line.get().await?;
        Ok(line)
    }

    /// Lets go of a connection that gives no answer; the next request makes another.
    pub(super) fn cut(&self) {
        let number = self.lock().number;
        self.end(number);
    }

    async fn get(&self) -> Result<(u64, MultiplexedConnection), RedisError> {
        if let Some(found) = self.found() {
            return Ok(found);
        }
        let _one = self.0.making.lock().await;
        if let Some(found) = self.found() {
            return Ok(found);
        }
        // All who waited for the same attempt fail with it.
        if self.lock().refused.is_some_and(|at| at.elapsed() < AGAIN) {
            return Err((ErrorKind::Io, "the server was not reached a moment ago").into());
        }
        let made = self.0.client.get_multiplexed_async_connection_with_config(&self.0.config).await;
        let mut state = self.lock();
        match made {
            Ok(connection) => {
                state.number += 1;
                state.refused = None;
                state.connection = Some(connection.clone());
                Ok((state.number, connection))
            }
            Err(error) => {
                state.refused = Some(Instant::now());
                Err(error)
            }
        }
    }

    fn found(&self) -> Option<(u64, MultiplexedConnection)> {
        let state = self.lock();
        state.connection.clone().map(|connection| (state.number, connection))
    }

    fn end(&self, number: u64) {
        let mut state = self.lock();
        if state.number == number {
            state.connection = None;
        }
    }

    /// An answer that never came says as much as a connection that was closed.
    fn judge<T>(&self, number: u64, answer: Result<T, RedisError>) -> Result<T, RedisError> {
        if answer.as_ref().is_err_and(is_broken) {
            self.end(number);
        }
        answer
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ConnectionLike for Line {
    fn req_packed_command<'a>(&'a mut self, cmd: &'a Cmd) -> RedisFuture<'a, Value> {
        async move {
            let (number, mut connection) = self.get().await?;
            self.judge(number, connection.req_packed_command(cmd).await)
        }
        .boxed()
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        async move {
            let (number, mut connection) = self.get().await?;
            self.judge(number, connection.req_packed_commands(pipeline, offset, count).await)
        }
        .boxed()
    }

    fn get_db(&self) -> i64 {
        self.0.client.get_connection_info().redis_settings().db()
    }
}

/// Whether the connection is to blame rather than what was asked.
pub(super) fn is_broken(error: &RedisError) -> bool {
    error.is_io_error() || error.is_timeout() || error.is_connection_dropped()
}

const AGAIN: Duration = Duration::from_millis(50);
