//! Promotes the most advanced standby after the primary has died.

use std::time::{Duration, Instant};

use sea_orm::{DbBackend, DbErr, Statement};
use serde::Serialize;
use throng_core::{EngineUrl, url::Host};
use tokio::time::timeout;

use crate::{
    config::Config,
    engine::{Conn, Connector},
    error::{Error, Result, conn, refused},
    fleet::Position,
};

/// What [`promote`] did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Promoted {
    /// The new primary.
    pub name: String,
    /// The standbys that follow it now.
    pub followers: Vec<String>,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
}

/// A standby that may be promoted.
struct Candidate {
    name: String,
    host: Host,
    conn: Conn,
    position: Position,
}

/// Promotes the most advanced standby of a PostgreSQL cluster whose primary is gone, and makes the
/// other standbys follow it.
///
/// With `synchronous_standby_names = 'ANY 1 (…)'` on the primary, an acknowledged commit is on at
/// least one standby; it is on the most advanced one when all of them are seen. So all standbys of
/// the URL must answer, and the primary must not.
///
/// # Errors
/// When a primary answers, a standby does not, or the promotion fails; nothing is changed before
/// every check has passed.
pub async fn promote(url: &EngineUrl) -> Result<Promoted> {
    let start = Instant::now();
    let doing = |source| Error::Query { doing: "promote a standby", source };
    let mut candidates = candidates(url).await?;
    wait_for_receivers(&mut candidates).await.map_err(doing)?;
    for candidate in &mut candidates {
        candidate.position = received(&mut candidate.conn).await.map_err(doing)?;
    }
    candidates.sort_by_key(|candidate| (candidate.position.timeline, candidate.position.at));
    let Some(mut best) = candidates.pop() else {
        return Err(doing(refused("the URL names no standby")));
    };
    let promoted = number(&mut best.conn, "SELECT pg_promote(true, 10)::int::bigint").await;
    if promoted.map_err(doing)? != 1 {
        return Err(doing(refused(format!("{} was not promoted within 10 s", best.name))));
    }
    let mut followers = Vec::new();
    for mut candidate in candidates {
        follow(&mut candidate.conn, &best.host).await.map_err(doing)?;
        followers.push(candidate.name);
    }
    tracing::info!("promoted {} after {} ms", best.name, start.elapsed().as_millis());
    let took_ms = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
    Ok(Promoted { name: best.name, followers, took_ms })
}

async fn candidates(url: &EngineUrl) -> Result<Vec<Candidate>> {
    let config = Config { statement_timeout_ms: 0, ..Config::default() };
    let mut candidates = Vec::new();
    let mut silent = Vec::new();
    for host in url.hosts() {
        let name = host.address(crate::engine::postgres::PORT);
        let connector = crate::engine::postgres::Connector::new(url, host, &config)?;
        let connector = Connector::Postgres(connector);
        let Ok(Ok(mut conn)) = timeout(ANSWER, connector.connect()).await else {
            silent.push(name);
            continue;
        };
        let look = timeout(ANSWER, conn.look()).await;
        let Ok(Ok(Some(sight))) = look else {
            silent.push(name);
            continue;
        };
        if sight.is_primary {
            let reason = format!("{name} is the primary and answers; stop it first");
            return Err(Error::Query { doing: "promote a standby", source: refused(reason) });
        }
        candidates.push(Candidate { name, host: host.clone(), conn, position: sight.position });
    }
    // The dead primary is one of the servers; whoever else is silent may have the last commits.
    if silent.len() > 1 {
        let reason = format!("only one server may be silent, but {} are", silent.join(" and "));
        return Err(Error::Query { doing: "promote a standby", source: refused(reason) });
    }
    if candidates.is_empty() {
        let source = conn(sqlx::Error::PoolClosed);
        return Err(Error::Connect { url: url.to_string(), source });
    }
    Ok(candidates)
}

/// A standby that still receives may still get commits, and the primary is not gone.
async fn wait_for_receivers(candidates: &mut [Candidate]) -> Result<(), DbErr> {
    let deadline = Instant::now() + RECEIVERS_STOP;
    for candidate in candidates {
        let count = "SELECT count(*) FROM pg_stat_wal_receiver WHERE status = 'streaming'";
        while number(&mut candidate.conn, count).await? > 0 {
            if Instant::now() > deadline {
                let name = &candidate.name;
                return Err(refused(format!(
                    "{name} still receives from a primary; stop it first"
                )));
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    Ok(())
}

/// How much of the log a standby has, replayed or not.
async fn received(conn: &mut Conn) -> Result<Position, DbErr> {
    let at = "SELECT (greatest(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn()) \
              - '0/0'::pg_lsn)::bigint";
    let at = number(conn, at).await?.cast_unsigned();
    let timeline = number(conn, "SELECT timeline_id::bigint FROM pg_control_checkpoint()").await?;
    Ok(Position { timeline: timeline as u32, at })
}

/// Points a standby to the new primary; it goes over without a restart.
async fn follow(conn: &mut Conn, primary: &Host) -> Result<(), DbErr> {
    let show = Statement::from_string(
        DbBackend::Postgres,
        "SELECT current_setting('primary_conninfo') AS info",
    );
    let row = conn.fetch_one(show, true).await?;
    let old: String =
        row.ok_or_else(|| refused("the standby tells no primary_conninfo"))?.try_get("", "info")?;
    // Of a word that stands twice the last one counts.
    let port = primary.port.unwrap_or(crate::engine::postgres::PORT);
    let info = format!("{old} hostaddr='' host={} port={port}", primary.name).replace('\'', "''");
    conn.execute_unprepared(&format!("ALTER SYSTEM SET primary_conninfo = '{info}'")).await?;
    conn.execute_unprepared("SELECT pg_reload_conf()").await?;
    // The paused ones would never catch up.
    conn.execute_unprepared("SELECT pg_wal_replay_resume()").await?;
    Ok(())
}

async fn number(conn: &mut Conn, sql: &str) -> Result<i64, DbErr> {
    let row = conn.fetch_one(Statement::from_string(DbBackend::Postgres, sql), true).await?;
    row.ok_or_else(|| refused("the server gave no answer"))?.try_get_by_index(0)
}

/// A server that takes longer is not there.
const ANSWER: Duration = Duration::from_millis(1_000);
const RECEIVERS_STOP: Duration = Duration::from_secs(3);
