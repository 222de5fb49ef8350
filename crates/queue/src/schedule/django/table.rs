//! Django's tables as SQL. Everything is read as text, since each engine keeps times and flags in a
//! form of its own.

use jiff::Timestamp;
use sea_orm::{ConnectionTrait, DbBackend, DbErr, QueryResult, Statement, Value};

use super::row::{Row, Times};
use crate::time;

/// When Django last changed a schedule.
pub(super) async fn last_update(
    connection: &impl ConnectionTrait,
) -> Result<Option<String>, DbErr> {
    let backend = connection.get_database_backend();
    let time = moment(backend, "last_update");
    let sql = format!("SELECT {time} FROM django_celery_beat_periodictasks WHERE ident = 1");
    let row = connection.query_one_raw(Statement::from_string(backend, sql)).await?;
    row.map_or(Ok(None), |row| row.try_get_by_index(0))
}

/// The schedules that are enabled.
pub(super) async fn rows(connection: &impl ConnectionTrait) -> Result<Vec<Row>, DbErr> {
    let backend = connection.get_database_backend();
    let (number, moment) = (|column| number(backend, column), |column| moment(backend, column));
    let columns = [
        "p.name".to_owned(),
        "p.task".into(),
        "p.args".into(),
        "p.kwargs".into(),
        "p.headers".into(),
        "p.queue".into(),
        "p.exchange".into(),
        "p.routing_key".into(),
        number("p.priority"),
        moment("p.expires"),
        number("p.expire_seconds"),
        "CASE WHEN p.one_off THEN '1' ELSE '0' END".into(),
        moment("p.start_time"),
        moment("p.last_run_at"),
        "CASE WHEN p.total_run_count > 0 THEN '1' ELSE '0' END".into(),
        moment("p.date_changed"),
        number("i.every"),
        "i.period".into(),
        "c.minute".into(),
        "c.hour".into(),
        "c.day_of_month".into(),
        "c.month_of_year".into(),
        "c.day_of_week".into(),
        "c.timezone".into(),
        moment("k.clocked_time"),
        number("p.solar_id"),
    ];
    let sql = format!(
        "SELECT {} FROM django_celery_beat_periodictask p \
         LEFT JOIN django_celery_beat_intervalschedule i ON i.id = p.interval_id \
         LEFT JOIN django_celery_beat_crontabschedule c ON c.id = p.crontab_id \
         LEFT JOIN django_celery_beat_clockedschedule k ON k.id = p.clocked_id \
         WHERE p.enabled ORDER BY p.id",
        columns.join(", ")
    );
    let rows = connection.query_all_raw(Statement::from_string(backend, sql)).await?;
    rows.iter().map(read).collect()
}

/// Notes that a row ran now, unless another has: what its `last_run_at` is then.
pub(super) async fn mark_run(
    connection: &impl ConnectionTrait,
    row: &Row,
    now_ms: i64,
) -> Result<Option<String>, DbErr> {
    let backend = connection.get_database_backend();
    let now = written(now_ms);
    let mut values: Vec<Value> = vec![typed(backend, &now), row.name.as_str().into()];
    let is_as_read = match &row.last_run {
        Some(last) => {
            values.push(typed(backend, last));
            format!("last_run_at = {}", parameter(backend, 3, true))
        }
        None => "last_run_at IS NULL".into(),
    };
    let sql = format!(
        "UPDATE django_celery_beat_periodictask \
         SET last_run_at = {}, total_run_count = total_run_count + 1 \
         WHERE name = {} AND enabled AND {is_as_read}",
        parameter(backend, 1, true),
        parameter(backend, 2, false),
    );
    let statement = Statement::from_sql_and_values(backend, sql, values);
    let is_first = connection.execute_raw(statement).await?.rows_affected() == 1;
    Ok(is_first.then_some(now))
}

/// Disables a row as Celery does; one that has run as it was to can be enabled for another run.
pub(super) async fn disable(
    connection: &impl ConnectionTrait,
    name: &str,
    is_spent: bool,
    now_ms: i64,
) -> Result<(), DbErr> {
    let backend = connection.get_database_backend();
    let reset = if is_spent { ", total_run_count = 0" } else { "" };
    let sql = format!(
        "UPDATE django_celery_beat_periodictask SET enabled = FALSE, last_run_at = NULL{reset} \
         WHERE name = {} AND enabled",
        parameter(backend, 1, false)
    );
    let statement = Statement::from_sql_and_values(backend, sql, [name.into()]);
    connection.execute_raw(statement).await?;
    if is_spent {
        let sql = format!(
            "UPDATE django_celery_beat_periodictasks SET last_update = {} WHERE ident = 1",
            parameter(backend, 1, true)
        );
        let values = [typed(backend, &written(now_ms))];
        connection.execute_raw(Statement::from_sql_and_values(backend, sql, values)).await?;
    }
    Ok(())
}

fn read(row: &QueryResult) -> Result<Row, DbErr> {
    let texts: Vec<Option<String>> =
        (0..COLUMNS).map(|at| row.try_get_by_index(at)).collect::<Result<_, _>>()?;
    let text = |at: usize| texts.get(at).cloned().flatten().filter(|text| !text.is_empty());
    let plain = |at: usize| text(at).unwrap_or_default();
    let number = |at: usize| text(at).and_then(|text| text.parse::<i64>().ok());
    let moment = |at: usize| text(at).as_deref().and_then(time::from_iso);
    let times = if text(25).is_some() {
        Err("it follows the sun, which only Celery's own scheduler does".to_owned())
    } else if let Some(every) = number(16) {
        Times::every(every, &plain(17))
    } else if let Some(at_ms) = moment(24) {
        Ok(Times::Clocked(at_ms))
    } else if text(18).is_some() {
        let fields = [18, 19, 20, 21, 22].map(plain);
        Times::cron(fields.each_ref().map(String::as_str), &plain(23))
    } else {
        Err("it has no schedule".to_owned())
    };
    Ok(Row {
        name: plain(0),
        task: plain(1),
        args: plain(2),
        kwargs: plain(3),
        headers: plain(4),
        queue: text(5),
        exchange: text(6),
        routing_key: text(7),
        priority: number(8).map(|priority| u8::try_from(priority).unwrap_or(u8::MAX)),
        expires_ms: moment(9),
        expire_s: number(10),
        is_one_off: plain(11) == "1",
        start_ms: moment(12),
        last_run: text(13),
        last_run_ms: moment(13),
        has_run: plain(14) == "1",
        changed_ms: moment(15).unwrap_or(0),
        times,
    })
}

/// A column's number as text.
fn number(backend: DbBackend, column: &str) -> String {
    match backend {
        DbBackend::MySql => format!("CAST({column} AS char)"),
        _ => format!("CAST({column} AS text)"),
    }
}

/// A column's time as text, in UTC.
fn moment(backend: DbBackend, column: &str) -> String {
    match backend {
        DbBackend::Postgres => {
            format!("to_char({column} AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US')")
        }
        DbBackend::MySql => format!("DATE_FORMAT({column}, '%Y-%m-%d %H:%i:%s.%f')"),
        _ => column.to_owned(),
    }
}

/// A time as Django writes it to SQLite, and as `moment` reads it elsewhere.
fn written(ms: i64) -> String {
    let time = Timestamp::from_millisecond(ms).unwrap_or(Timestamp::MAX);
    time.strftime("%Y-%m-%d %H:%M:%S.%6f").to_string()
}

fn typed(backend: DbBackend, time: &str) -> Value {
    match backend {
        DbBackend::Postgres => format!("{time}+00").into(),
        _ => time.into(),
    }
}

fn parameter(backend: DbBackend, number: usize, is_time: bool) -> String {
    match (backend, is_time) {
        (DbBackend::Postgres, true) => format!("CAST(${number} AS timestamptz)"),
        (DbBackend::Postgres, false) => format!("${number}"),
        _ => "?".into(),
    }
}

const COLUMNS: usize = 26;
