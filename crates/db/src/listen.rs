//! What a PostgreSQL server is notified of, heard on a connection of its own.

use std::time::Duration;

use sea_orm::DbErr;
use sqlx::postgres::{PgListener, PgPoolOptions};
use tokio::time::timeout;

use crate::{Db, cluster::Servers, engine::Connector, error};

/// Hears one channel of the primary until its connection is lost; then another one is made by
/// [`Db::listen`], perhaps to another server.
#[derive(Debug)]
pub struct Listener {
    inner: PgListener,
}

impl Db {
    /// Hears what is notified on `channel` from now on, on a connection beside those of the pool.
    ///
    /// # Errors
    /// When the database is not PostgreSQL, when a pooler stands before it (which gives each
    /// transaction another connection), or when it cannot be reached.
    pub async fn listen(&self, channel: &str) -> Result<Listener, DbErr> {
        let Servers::Fleet(fleet) = &self.cluster.servers else { return Err(cannot()) };
        let (_, node) = fleet.primary().ok_or_else(|| error::refused("the primary is gone"))?;
        let Connector::Postgres(connector) = node.pool.connector() else { return Err(cannot()) };
        if connector.is_pooled() {
            return Err(error::refused("behind a pooler nothing can be listened to"));
        }
        let options = connector.options().application_name(LISTENER);
        let heard = async {
            let pool = PgPoolOptions::new()
                .max_connections(1)
                .max_lifetime(None)
                .idle_timeout(None)
                .acquire_timeout(PATIENCE)
                .connect_with(options)
                .await?;
            let mut inner = PgListener::connect_with(&pool).await?;
            inner.eager_reconnect(false);
            inner.listen(channel).await?;
            Ok(Listener { inner })
        };
        let late = || error::late("no answer to LISTEN in time");
        timeout(PATIENCE, heard).await.unwrap_or_else(|_| Err(late())).map_err(error::conn)
    }
}

impl Listener {
    /// The next notification's payload. None when there was none for half a minute; the connection
    /// was tried then. Cancel safe but for that.
    ///
    /// # Errors
    /// When the connection is lost: what was notified since then is not known.
    pub async fn next(&mut self) -> Result<Option<String>, DbErr> {
        match timeout(QUIET, self.inner.try_recv()).await {
            Ok(Ok(Some(told))) => Ok(Some(told.payload().to_owned())),
            Ok(Ok(None)) => Err(error::refused("the connection that listens was lost")),
            Ok(Err(error)) => Err(error::conn(error)),
            // Of a connection that was cut without a word nothing else would be heard.
            Err(_) => self.count().await.map(|_| None),
        }
    }

    /// How many hear this database's notifications, this one included.
    ///
    /// # Errors
    /// When the connection is lost.
    pub async fn count(&mut self) -> Result<u64, DbErr> {
        let ask = sqlx::query_scalar::<_, i64>(COUNT).bind(LISTENER).fetch_one(&mut self.inner);
        let late = || error::late("the connection that listens does not answer");
        let count = timeout(PATIENCE, ask).await.unwrap_or_else(|_| Err(late()));
        count.map(i64::unsigned_abs).map_err(error::conn)
    }
}

fn cannot() -> DbErr {
    error::refused("only PostgreSQL can be listened to")
}

const LISTENER: &str = "throng listener";
const COUNT: &str = "SELECT count(*) FROM pg_stat_activity \
                     WHERE application_name = $1 AND datname = current_database()";
const PATIENCE: Duration = Duration::from_secs(5);
const QUIET: Duration = Duration::from_secs(30);
