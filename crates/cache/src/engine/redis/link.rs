//! One connection to the server that all calls share, and the task that brings it back.

use std::{sync::Arc, time::Duration};

use ::redis::{
    AsyncConnectionConfig, Client, Cmd, FromRedisValue, PushInfo, RedisError, Script,
    ScriptInvocation, Value,
    aio::{ConnectionLike, MultiplexedConnection},
};
use throng_core::Clock;
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
};

use super::tracking::Tracking;
use crate::metrics::EJECTIONS;

/// Sends calls over the connection. Dropping it ends the task that keeps it.
#[derive(Debug)]
pub(super) struct Link {
    state: watch::Receiver<State>,
    /// The last connection that was found broken.
    broken: watch::Sender<u64>,
    /// Leases that were asked for, and of which no answer came.
    lost: mpsc::Sender<Lost>,
    _keeper: JoinSet<()>,
}

/// What there is to connect to, and how patiently.
#[derive(Clone)]
pub(super) struct Place {
    pub(super) client: Client,
    /// `host:port`, for the log.
    pub(super) name: String,
    /// How long connecting, and any one answer, may take.
    pub(super) timeout: Duration,
    /// How often a server that is away is tried again.
    pub(super) retry: Duration,
    pub(super) clock: Clock,
    /// Who is told of what others change, if anybody is.
    pub(super) tracking: Option<Tracking>,
}

/// The server's name of a key, and the token of the lease on it that somebody may have.
pub(super) type Lost = (String, u64);

/// Something to ask the server.
pub(super) enum Call<'a> {
    Command(&'a Cmd),
    Script(&'a ScriptInvocation<'a>),
}

/// Why the server gave no answer.
#[derive(Clone, Debug, thiserror::Error)]
pub(super) enum Fault {
    #[error("it is away: {0}")]
    Away(Arc<RedisError>),
    #[error("it did not answer as it should: {0}")]
    Answer(Arc<RedisError>),
    #[error("its connection was closed")]
    Closed,
}

#[derive(Clone)]
enum State {
    /// Whoever calls waits for what comes next, which is at most one timeout away.
    Connecting,
    /// The connection, and its number among all.
    Up(MultiplexedConnection, u64),
    /// Nobody waits: calls are refused until it is back.
    Away(Arc<RedisError>),
}

impl Link {
    pub(super) fn new(place: Place) -> Self {
        let (tell, state) = watch::channel(State::Connecting);
        let (broken, heard) = watch::channel(0);
        let (lost, found) = mpsc::channel(MAX_LOST);
        let mut keeper = JoinSet::new();
        keeper.spawn(place.keep(tell, heard, found));
        Self { state, broken, lost, _keeper: keeper }
    }

    /// Has a lease given back, as soon as there is a connection, that may have been given to nobody.
    /// Those beyond the bound end by themselves.
    pub(super) fn lose(&self, lost: Lost) {
        let _ = self.lost.try_send(lost);
    }

    /// Asks, and asks once more over a new connection where the old one had been closed meanwhile
    /// and doing it twice is doing it once.
    pub(super) async fn ask<T: FromRedisValue>(
        &self,
        call: Call<'_>,
        is_repeatable: bool,
    ) -> Result<T, Fault> {
        let mut may_repeat = is_repeatable;
        loop {
            let (mut connection, number) = self.connection().await?;
            let error = match call.send(&mut connection).await {
                Ok(value) => {
                    let read = ::redis::from_redis_value(value);
                    return read.map_err(|error| Fault::Answer(Arc::new(error.into())));
                }
                Err(error) if !breaks(&error) => return Err(Fault::Answer(Arc::new(error))),
                Err(error) => error,
            };
            self.broken.send_if_modified(|broken| {
                let is_news = *broken < number;
                *broken = number.max(*broken);
                is_news
            });
            if !may_repeat || error.is_timeout() {
                return Err(Fault::Away(Arc::new(error)));
            }
            may_repeat = false;
            self.next_after(number).await;
        }
    }

    async fn connection(&self) -> Result<(MultiplexedConnection, u64), Fault> {
        let mut state = self.state.clone();
        let decided = state.wait_for(|state| !matches!(state, State::Connecting)).await;
        match decided.map_err(|_| Fault::Closed)?.clone() {
            State::Up(connection, number) => Ok((connection, number)),
            State::Away(error) => Err(Fault::Away(error)),
            State::Connecting => Err(Fault::Closed),
        }
    }

    /// Waits until connection `number` is no longer the one in use.
    async fn next_after(&self, number: u64) {
        let is_old = |state: &State| matches!(state, State::Up(_, now) if *now == number);
        let _ = self.state.clone().wait_for(|state| !is_old(state)).await;
    }
}

impl Place {
    /// Connects, and again whenever a call says that the connection is broken.
    async fn keep(
        self,
        tell: watch::Sender<State>,
        mut broken: watch::Receiver<u64>,
        mut lost: mpsc::Receiver<Lost>,
    ) {
        let release = Script::new(include_str!("scripts/release.lua"));
        let (mut number, mut is_away) = (0, false);
        loop {
            match self.connect().await {
                Ok(mut connection) => {
                    number += 1;
                    if std::mem::take(&mut is_away) {
                        tracing::info!(server = %self.name, "redis {} is back", self.name);
                    }
                    tell.send_replace(State::Up(connection.clone(), number));
                    loop {
                        let (key, token) = tokio::select! {
                            is_open = async { broken.wait_for(|broken| *broken >= number).await.is_ok() } => {
                                if is_open { break } else { return }
                            }
                            Some(lost) = lost.recv() => lost,
                        };
                        let mut call = release.key(&key);
                        call.key(format!("{key}.lease")).arg(token);
                        // Where that fails too, the lease ends by itself.
                        let _ = call.invoke_async::<()>(&mut connection).await;
                    }
                    tell.send_replace(State::Connecting);
                }
                Err(error) => {
                    if !std::mem::replace(&mut is_away, true) {
                        let name = &self.name;
                        tracing::warn!(server = %name, %error, "redis {name} is away: {error}");
                        metrics::counter!(EJECTIONS).increment(1);
                    }
                    tell.send_replace(State::Away(Arc::new(error)));
                    self.clock.sleep(self.retry).await;
                }
            }
        }
    }

    async fn connect(&self) -> Result<MultiplexedConnection, RedisError> {
        let mut config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.timeout))
            .set_response_timeout(Some(self.timeout));
        if let Some(tracking) = self.tracking.clone() {
            config = config.set_push_sender(move |push: PushInfo| {
                tracking.hear(&push);
                Ok::<(), std::convert::Infallible>(())
            });
        }
        let mut connection =
            self.client.get_multiplexed_async_connection_with_config(&config).await?;
        // A server that hangs accepts connections too.
        ::redis::cmd("PING").exec_async(&mut connection).await?;
        if let Some(tracking) = &self.tracking {
            tracking.command().exec_async(&mut connection).await?;
            // Of what was changed before, nobody has told.
            tracking.doubt_all();
        }
        Ok(connection)
    }
}

impl Call<'_> {
    async fn send(&self, connection: &mut MultiplexedConnection) -> Result<Value, RedisError> {
        match self {
            Self::Command(command) => connection.req_packed_command(command).await,
            Self::Script(script) => script.invoke_async(connection).await,
        }
    }
}

/// Whether another connection may do better: this one is gone, or leads to a replica since a
/// failover.
fn breaks(error: &RedisError) -> bool {
    error.is_io_error()
        || error.is_timeout()
        || error.is_connection_dropped()
        || error.is_unrecoverable_error()
        || error.code() == Some("READONLY")
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Connecting => "Connecting",
            Self::Up(..) => "Up",
            Self::Away(_) => "Away",
        })
    }
}

/// How many leases wait to be given back.
const MAX_LOST: usize = 1_024;
