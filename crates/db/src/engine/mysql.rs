//! MariaDB and MySQL: connections, and where a server stands.

use sqlx::{
    AssertSqlSafe, ConnectOptions, Executor, MySqlConnection, Row, SqlSafeStr,
    mysql::{MySqlConnectOptions, MySqlDatabaseError, MySqlSslMode},
};
use sqlx_core::transaction::TransactionManager;
use throng_core::{EngineUrl, url::Host};

use super::{Begin, Identity, Manager};
use crate::{
    config::{Config, Tls},
    sight::{Position, Sight},
};

/// Opens connections to one server.
#[derive(Debug)]
pub(crate) struct Connector {
    options: MySqlConnectOptions,
    /// Said on each new connection.
    greeting: Option<String>,
}

impl Connector {
    pub(crate) fn new(url: &EngineUrl, host: &Host, config: &Config) -> Self {
        let database = url.path().trim_start_matches('/');
        let mut options = MySqlConnectOptions::new()
            .host(&host.name)
            .port(host.port.unwrap_or(PORT))
            .statement_cache_capacity(config.statement_cache)
            .disable_statement_logging();
        if let Some(user) = url.user() {
            options = options.username(user);
        }
        if let Some(password) = url.password() {
            options = options.password(password.reveal());
        }
        if !database.is_empty() {
            options = options.database(database);
        }
        options = options.ssl_mode(match config.tls {
            Tls::Disable => MySqlSslMode::Disabled,
            Tls::Prefer => MySqlSslMode::Preferred,
            Tls::Require => MySqlSslMode::Required,
            Tls::Verify => MySqlSslMode::VerifyIdentity,
        });
        // The server gives up a little later than we do, for the case that we are gone. MySQL takes
        // for a comment what MariaDB runs, and has no such limit for all statements.
        let limit_s = (config.statement_timeout_ms + GRACE_MS) as f64 / 1000.0;
        let greeting = (config.statement_timeout_ms > 0)
            .then(|| format!("SET autocommit = 1 /*M!, max_statement_time = {limit_s} */"));
        Self { options, greeting }
    }

    pub(crate) async fn connect(&self) -> Result<MySqlConnection, sqlx::Error> {
        let mut conn = self.options.connect().await?;
        if let Some(greeting) = &self.greeting {
            conn.execute(AssertSqlSafe(greeting.clone())).await?;
        }
        Ok(conn)
    }
}

pub(crate) async fn begin(conn: &mut MySqlConnection, mode: Begin) -> Result<(), sqlx::Error> {
    if let Some(isolation) = mode.isolation {
        // Holds for the next transaction only.
        let sql = format!("SET TRANSACTION ISOLATION LEVEL {isolation}");
        conn.execute(AssertSqlSafe(sql)).await?;
    }
    let sql = if mode.reads_only { "START TRANSACTION READ ONLY" } else { "START TRANSACTION" };
    Manager::<sqlx::MySql>::begin(conn, Some(sql.into_sql_str())).await
}

/// Whether the server has rolled back the whole transaction, not the statement alone. Of a wait for a
/// lock that was too long it depends on a setting of the server (`innodb_rollback_on_timeout`), so the
/// rest of the transaction is given up with it everywhere.
pub(crate) fn ends_transaction(error: &sqlx::Error) -> bool {
    let error = error.as_database_error().and_then(|e| e.try_downcast_ref::<MySqlDatabaseError>());
    error.is_some_and(|error| ENDS.contains(&error.number()))
}

/// The second in which MariaDB started. MySQL tells it elsewhere, and has no positions to lose.
pub(crate) async fn identify(conn: &mut MySqlConnection) -> Result<Identity, sqlx::Error> {
    let sql = "SELECT CAST(UNIX_TIMESTAMP() - variable_value AS SIGNED) \
               FROM information_schema.global_status WHERE variable_name = 'UPTIME'";
    match sqlx::query_scalar::<_, i64>(sql).fetch_optional(conn).await {
        Ok(started) => Ok(Identity { cluster: 0, run: started.unwrap_or(0).cast_unsigned() }),
        Err(sqlx::Error::Database(_)) => Ok(Identity::default()),
        Err(error) => Err(error),
    }
}

/// MariaDB tells a position: the last sequence number of its replication domain. MySQL does not in
/// a form that can be compared here, and a server with several domains neither; both are looked
/// after by the clock.
pub(crate) async fn look(conn: &mut MySqlConnection) -> Result<Sight, sqlx::Error> {
    let row = sqlx::query("SELECT @@read_only, version()").fetch_one(&mut *conn).await?;
    let is_primary = row.try_get::<i64, _>(0)? == 0;
    let version: String = row.try_get(1)?;
    let mut sight = Sight { is_primary, position: Position::default(), is_connected: true };
    if version.contains("MariaDB") {
        let name = if is_primary { "@@gtid_binlog_pos" } else { "@@gtid_slave_pos" };
        let sql = AssertSqlSafe(format!("SELECT {name}"));
        let text: String = sqlx::query_scalar(sql).fetch_one(conn).await?;
        sight.position = position(&text).unwrap_or_default();
    }
    Ok(sight)
}

/// Reads `domain-server-sequence`, where there is one domain.
pub(crate) fn position(text: &str) -> Option<Position> {
    let mut parts = text.split('-');
    let domain: u32 = parts.next()?.parse().ok()?;
    let _server: u32 = parts.next()?.parse().ok()?;
    let at = parts.next()?.parse().ok()?;
    // A timeline of 0 means that there is no position.
    parts.next().is_none().then_some(Position { timeline: domain + 1, at })
}

pub(crate) const PORT: u16 = 3306;
const GRACE_MS: u64 = 1_000;
/// Changed by others since it was read, a lock that took too long, too many locks, deadlock.
const ENDS: [u16; 4] = [1020, 1205, 1206, 1213];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_domain_is_a_position_and_several_are_none() {
        assert_eq!(position("0-1-42"), Some(Position { timeline: 1, at: 42 }));
        assert_eq!(position("0-1-42,1-2-7"), None);
        assert_eq!(position(""), None);
    }
}
