//! PostgreSQL: connections, and where a server stands.

use sea_orm::AccessMode;
use sqlx::{
    AssertSqlSafe, ConnectOptions, PgConnection, Row, SqlSafeStr,
    postgres::{PgConnectOptions, PgSslMode},
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
    options: PgConnectOptions,
    is_pooled: bool,
}

impl Connector {
    pub(crate) fn new(url: &EngineUrl, host: &Host, config: &Config) -> Self {
        let database = url.path().trim_start_matches('/');
        let mut options = PgConnectOptions::new_without_pgpass()
            .host(&host.name)
            .port(host.port.unwrap_or(PORT))
            .application_name("throng")
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
            Tls::Disable => PgSslMode::Disable,
            Tls::Prefer => PgSslMode::Prefer,
            Tls::Require => PgSslMode::Require,
            Tls::Verify => PgSslMode::VerifyFull,
        });
        if config.pooler {
            // A pooler refuses parameters that it does not keep apart for each client.
            options = options.extra_float_digits(None).statement_cache_capacity(0);
        } else {
            options = options.statement_cache_capacity(config.statement_cache);
            if config.statement_timeout_ms > 0 {
                // The server gives up a little later than we do, for the case that we are gone.
                let limit = config.statement_timeout_ms + GRACE_MS;
                options = options.options([("statement_timeout", limit.to_string())]);
            }
        }
        Self { options, is_pooled: config.pooler }
    }

    pub(crate) fn is_pooled(&self) -> bool {
        self.is_pooled
    }

    /// For a connection that does not belong to the pool.
    pub(crate) fn options(&self) -> PgConnectOptions {
        self.options.clone()
    }

    pub(crate) async fn connect(&self) -> Result<PgConnection, sqlx::Error> {
        self.options.connect().await
    }
}

pub(crate) async fn begin(conn: &mut PgConnection, mode: Begin) -> Result<(), sqlx::Error> {
    let mut sql = String::from("BEGIN");
    if let Some(isolation) = mode.isolation {
        sql.push_str(&format!(" ISOLATION LEVEL {isolation}"));
    }
    if mode.reads_only {
        sql.push_str(&format!(" {}", AccessMode::ReadOnly));
    }
    Manager::<sqlx::Postgres>::begin(conn, Some(AssertSqlSafe(sql).into_sql_str())).await
}

/// One round trip of about 25 us.
pub(crate) async fn look(
    conn: &mut PgConnection,
    keeps_statements: bool,
) -> Result<Sight, sqlx::Error> {
    // Behind a pooler in one message, because the next one may reach another process of the server.
    let row = if keeps_statements {
        sqlx::query(LOOK).fetch_one(conn).await?
    } else {
        sqlx::raw_sql(LOOK).fetch_one(conn).await?
    };
    let is_standby: bool = row.try_get(0)?;
    let at = row.try_get::<Option<i64>, _>(1)?.unwrap_or(0).cast_unsigned();
    let timeline: i64 = row.try_get::<Option<i64>, _>(2)?.unwrap_or(0);
    let segment = bytes(row.try_get(4)?);
    let at = if is_standby { at } else { before_page_header(at, segment) };
    Ok(Sight {
        is_primary: !is_standby,
        position: Position { timeline: timeline as u32, at },
        is_connected: row.try_get(3)?,
    })
}

/// The number that all servers of one cluster share and no other, and what changes with each start.
/// A crash of one process makes the server start again without a new start time, but its statistics
/// begin anew then.
pub(crate) async fn identify(conn: &mut PgConnection) -> Result<Identity, sqlx::Error> {
    let row = sqlx::raw_sql(IDENTIFY).fetch_one(conn).await?;
    let number = |at| row.try_get::<i64, _>(at).map(i64::cast_unsigned);
    Ok(Identity { cluster: number(0)?, run: number(1)?.max(1) })
}

/// `16MB`, as the server writes the size of a log segment.
fn bytes(text: &str) -> u64 {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "kB" => 1 << 10,
        "MB" => 1 << 20,
        "GB" => 1 << 30,
        _ => 1,
    };
    digits.parse::<u64>().unwrap_or(16 << 20) * unit
}

/// Where the last record ends exactly at the end of a page, the insert position points behind the
/// header of the next page, which no replica ever replays on its own.
///
/// An offset of 24 cannot be the end of a record on an ordinary page, and 40 cannot on the first
/// page of a segment; 40 on an ordinary page can, and must stay.
fn before_page_header(at: u64, segment: u64) -> u64 {
    if segment > 0 && at % segment == LONG_HEADER {
        at - LONG_HEADER
    } else if at % PAGE == SHORT_HEADER {
        at - SHORT_HEADER
    } else {
        at
    }
}

/// The timeline of a primary is in the name of its log file; the control file is late after a
/// promotion. A standby's is that of its receiver while it has one.
const LOOK: &str = "SELECT s.standby, \
    (CASE WHEN s.standby THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_insert_lsn() END \
     - '0/0'::pg_lsn)::bigint, \
    CASE WHEN s.standby \
     THEN coalesce((SELECT received_tli FROM pg_stat_wal_receiver), \
                   (SELECT timeline_id FROM pg_control_checkpoint()))::bigint \
     ELSE ('x' || lpad(substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8), 16, '0')) \
          ::bit(64)::bigint \
     END, \
    NOT s.standby OR EXISTS (SELECT 1 FROM pg_stat_wal_receiver WHERE pid IS NOT NULL), \
    current_setting('wal_segment_size') \
    FROM (SELECT pg_is_in_recovery() AS standby) AS s";

const IDENTIFY: &str = "SELECT (SELECT system_identifier FROM pg_control_system()), \
    hashtextextended(extract(epoch FROM pg_postmaster_start_time())::text || ' ' || \
                     coalesce(extract(epoch FROM stats_reset)::text, ''), 0) \
    FROM pg_stat_bgwriter";

pub(crate) const PORT: u16 = 5432;
const GRACE_MS: u64 = 1_000;
const PAGE: u64 = 8192;
const SHORT_HEADER: u64 = 24;
const LONG_HEADER: u64 = 40;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_behind_a_page_header_is_lowered_and_no_other() {
        let segment = 16 << 20;
        let check = |at, wanted| assert_eq!(before_page_header(at, segment), wanted, "{at}");
        check(3 * PAGE + 24, 3 * PAGE);
        check(2 * segment + 40, 2 * segment);
        check(3 * PAGE + 40, 3 * PAGE + 40);
        check(3 * PAGE + 25, 3 * PAGE + 25);
        check(3 * PAGE, 3 * PAGE);
        check(2 * segment + 48, 2 * segment + 48);
    }
}
