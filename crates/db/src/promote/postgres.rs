//! PostgreSQL: `pg_promote`, and the others told by `primary_conninfo`.

use std::time::{Duration, Instant};

use sea_orm::{DbBackend, DbErr};
use throng_core::url::Host;

use super::{RECEIVERS_STOP, Standby, row};
use crate::{engine::Conn, error::refused, sight::Position};

/// A standby that still receives may still get commits, and the primary is not gone.
pub(super) async fn settle(standby: &mut Standby) -> Result<Position, DbErr> {
    let deadline = Instant::now() + RECEIVERS_STOP;
    let count = "SELECT count(*) FROM pg_stat_wal_receiver WHERE status = 'streaming'";
    while number(&mut standby.conn, count).await? > 0 {
        if Instant::now() > deadline {
            let name = &standby.name;
            return Err(refused(format!("{name} still receives from a primary; stop it first")));
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let at = "SELECT (greatest(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn()) \
              - '0/0'::pg_lsn)::bigint";
    let at = number(&mut standby.conn, at).await?.cast_unsigned();
    let timeline = "SELECT timeline_id::bigint FROM pg_control_checkpoint()";
    let timeline = number(&mut standby.conn, timeline).await?;
    Ok(Position { timeline: timeline as u32, at })
}

pub(super) async fn raise(standby: &mut Standby) -> Result<(), DbErr> {
    let promote = "SELECT pg_promote(true, 10)::int::bigint";
    if number(&mut standby.conn, promote).await? != 1 {
        return Err(refused(format!("{} was not promoted within 10 s", standby.name)));
    }
    Ok(())
}

/// It goes over without a restart.
pub(super) async fn follow(conn: &mut Conn, primary: &Host) -> Result<(), DbErr> {
    let show = "SELECT current_setting('primary_conninfo') AS info";
    let old: String = row(conn, DbBackend::Postgres, show).await?.try_get("", "info")?;
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
    row(conn, DbBackend::Postgres, sql).await?.try_get_by_index(0)
}
