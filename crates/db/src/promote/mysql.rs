//! MariaDB: the replica that has received the most applies it all, forgets its primary and takes
//! writes; the others are told by `CHANGE MASTER`.

use std::time::{Duration, Instant};

use sea_orm::{DbBackend, DbErr, QueryResult};
use throng_core::url::Host;

use super::{RECEIVERS_STOP, Standby, row};
use crate::{
    engine::{Conn, mysql},
    error::refused,
    sight::Position,
};

/// A replica that still receives may still get commits, and the primary is not gone.
pub(super) async fn settle(standby: &mut Standby) -> Result<Position, DbErr> {
    let name = standby.name.clone();
    let version: String = text(&mut standby.conn, "SELECT version() AS v", "v").await?;
    if !version.contains("MariaDB") {
        let reason = "is MySQL, which this command cannot promote; use its own tools";
        return Err(refused(format!("{name} {reason}")));
    }
    let deadline = Instant::now() + RECEIVERS_STOP;
    loop {
        let status = row(&mut standby.conn, DbBackend::MySql, STATUS).await.map_err(|_| {
            refused(format!(
                "{name} has never followed a primary, or the URL's user may not ask it: it needs \
                 the privileges REPLICA MONITOR, REPLICATION SLAVE ADMIN and READ_ONLY ADMIN"
            ))
        })?;
        // `Connecting` is a replica that has noticed.
        if status.try_get::<String>("", "Slave_IO_Running")? == "Yes" {
            if Instant::now() > deadline {
                return Err(refused(format!(
                    "{name} still receives from a primary; stop it first"
                )));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        }
        let received = received(&status, &mut standby.conn).await?;
        return mysql::position(&received).ok_or_else(|| {
            refused(format!(
                "{name} stands at `{received}`, which is not one replication domain: promote by hand"
            ))
        });
    }
}

/// Where a replica has got to with what it has not yet applied.
async fn received(status: &QueryResult, conn: &mut Conn) -> Result<String, DbErr> {
    let read: String = status.try_get("", "Gtid_IO_Pos")?;
    let applied = text(conn, "SELECT @@gtid_slave_pos AS p", "p").await?;
    let sequence = |text: &str| mysql::position(text).map_or(0, |position| position.at);
    // A replica that was restarted knows what it has applied before it knows what it has read.
    Ok(if sequence(&read) >= sequence(&applied) { read } else { applied })
}

pub(super) async fn raise(standby: &mut Standby) -> Result<(), DbErr> {
    let (name, conn) = (&standby.name, &mut standby.conn);
    if text(conn, "SELECT CAST(@@log_bin + 0 AS CHAR) AS b", "b").await? != "1" {
        return Err(refused(format!(
            "{name} has no binary log (`log_bin`), so nobody can follow it"
        )));
    }
    let status = row(conn, DbBackend::MySql, STATUS).await?;
    let wanted = received(&status, conn).await?;
    let is_stopped = |column: &str| Ok::<_, DbErr>(status.try_get::<String>("", column)? == "No");
    if is_stopped("Slave_SQL_Running")? {
        let applied = text(conn, "SELECT @@gtid_slave_pos AS p", "p").await?;
        // Started from a full stop, a replica throws away what it has received and asks its primary
        // for it again. While one of its threads runs, it does not.
        if is_stopped("Slave_IO_Running")? && applied != wanted {
            return Err(refused(format!(
                "{name} was stopped by hand with `{wanted}` received and `{applied}` applied, and \
                 would throw the rest away if it were started; save its relay log and apply it by hand"
            )));
        }
        conn.execute_unprepared("START SLAVE SQL_THREAD").await?;
    }
    let wait = format!("SELECT CAST(MASTER_GTID_WAIT('{wanted}', {APPLY_S}) AS CHAR) AS w");
    if text(conn, &wait, "w").await? != "0" {
        return Err(refused(format!(
            "{name} has received `{wanted}` and did not apply it within {APPLY_S} s; it still is a \
             replica: see its SHOW SLAVE STATUS, then try again"
        )));
    }
    conn.execute_unprepared("STOP SLAVE").await?;
    conn.execute_unprepared("RESET SLAVE ALL").await?;
    conn.execute_unprepared("SET GLOBAL read_only = 0").await?;
    Ok(())
}

/// User and password of the replication stay as they are.
pub(super) async fn follow(conn: &mut Conn, primary: &Host) -> Result<(), DbErr> {
    let (host, port) =
        (primary.name.replace(['\'', '\\'], ""), primary.port.unwrap_or(mysql::PORT));
    conn.execute_unprepared("STOP SLAVE").await?;
    conn.execute_unprepared(&format!(
        "CHANGE MASTER TO master_host = '{host}', master_port = {port}, master_use_gtid = slave_pos"
    ))
    .await?;
    conn.execute_unprepared("START SLAVE").await?;
    Ok(())
}

async fn text(conn: &mut Conn, sql: &str, column: &str) -> Result<String, DbErr> {
    row(conn, DbBackend::MySql, sql).await?.try_get("", column)
}

const STATUS: &str = "SHOW SLAVE STATUS";
/// How long the new primary may take to apply what it has received, in seconds.
const APPLY_S: u32 = 30;
