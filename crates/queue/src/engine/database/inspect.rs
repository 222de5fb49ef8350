//! Looking at tasks, and setting them right by hand.

use sea_orm::{
    ConnectionTrait, DbErr, QueryResult,
    sea_query::{Expr, ExprTrait, OnConflict, Query, SelectStatement, UpdateStatement, Value},
};

use super::{Database, push::rank, schema as s};
use crate::{Count, Filter, Message, Record, State, TaskId};

impl Database {
    pub(super) async fn find_row(&self, id: &TaskId) -> Result<Option<Record>, DbErr> {
        let mut select = records();
        select.and_where(Expr::col(s::ID).eq(id.as_str()));
        self.db.query_one(&select).await?.map(|row| read(&row)).transpose()
    }

    pub(super) async fn list_rows(&self, filter: &Filter) -> Result<Vec<Record>, DbErr> {
        let mut select = records();
        if let Some(queue) = &filter.queue {
            select.and_where(Expr::col(s::QUEUE).eq(queue.as_str()));
        }
        if let Some(name) = &filter.name {
            select.and_where(Expr::col(s::NAME).eq(name.as_str()));
        }
        if let Some(state) = filter.state {
            select.and_where(Expr::col(s::STATE).is_in(codes(state)));
        }
        select.order_by(s::SEQ, sea_orm::Order::Desc).limit(filter.limit);
        self.db.query_all(&select).await?.iter().map(read).collect()
    }

    pub(super) async fn count_rows(&self) -> Result<Vec<Count>, DbErr> {
        let mut select = Query::select();
        select
            .columns([s::QUEUE, s::STATE])
            .expr(Expr::col(s::SEQ).count())
            .from(s::TASK)
            .group_by_columns([s::QUEUE, s::STATE]);
        let mut counts: Vec<Count> = Vec::new();
        for row in self.db.query_all(&select).await? {
            let queue: String = row.try_get_by_index(0)?;
            let state = s::state(row.try_get_by_index(1)?);
            let tasks = u64::try_from(row.try_get_by_index::<i64>(2)?).unwrap_or(0);
            match counts.iter_mut().find(|count| count.queue == queue && count.state == state) {
                Some(count) => count.tasks += tasks,
                None => counts.push(Count { queue, state, tasks }),
            }
        }
        counts.sort_by(|a, b| (&a.queue, a.state).cmp(&(&b.queue, b.state)));
        Ok(counts)
    }

    pub(super) async fn retry_row(
        &self,
        id: &TaskId,
        edited: Option<&Message>,
    ) -> Result<bool, DbErr> {
        let states = [State::Waiting, State::Dead, State::Parked, State::Cancelled, State::Expired];
        let mut update = Query::update();
        // What had expired must be able to run: the expiry that it came with is over.
        update
            .table(s::TASK)
            .value(s::STATE, s::code(State::Queued))
            .value(s::TOKEN, Value::String(None))
            .value(s::TURN_MS, Value::BigInt(None))
            .value(s::EXPIRES_MS, Value::BigInt(None))
            .value(s::RETRIES, 0)
            .value(s::CRASHES, 0)
            .value(s::FINISHED_MS, Value::BigInt(None))
            .and_where(Expr::col(s::ID).eq(id.as_str()))
            .and_where(Expr::col(s::STATE).is_in(states.map(s::code)));
        if let Some(message) = edited {
            update.value(s::MESSAGE, message.to_json()).value(s::RANK, rank(message));
        }
        let is_retried = self.db.execute(&update).await?.rows_affected() == 1;
        if is_retried {
            self.signals.ready();
        }
        Ok(is_retried)
    }

    pub(super) async fn cancel_row(&self, id: &TaskId) -> Result<bool, DbErr> {
        let open = [State::Waiting, State::Queued, State::Running, State::Parked];
        let mut update: UpdateStatement = self.finish(State::Cancelled, Some("cancelled"));
        update
            .and_where(Expr::col(s::ID).eq(id.as_str()))
            .and_where(Expr::col(s::STATE).is_in(open.into_iter().flat_map(codes)));
        let tx = self.begin().await?;
        let is_cancelled = tx.execute(&update).await?.rows_affected() == 1;
        if is_cancelled {
            self.leave_parts(&tx, Expr::col(s::ID).eq(id.as_str())).await?;
        }
        tx.commit().await?;
        self.signals.finished();
        Ok(is_cancelled)
    }

    pub(super) async fn insert_dead(&self, letter: &Record) -> Result<(), DbErr> {
        let message = &letter.message;
        let mut insert = Query::insert();
        insert.into_table(s::TASK).columns(DEAD).values_panic([
            message.id().as_str().into(),
            message.queue_name().into(),
            message.name().into(),
            s::code(State::Dead).into(),
            rank(message).into(),
            message.to_json().into(),
            i32::from(message.is_at_most_once()).into(),
            i32::try_from(letter.retries).unwrap_or(i32::MAX).into(),
            i32::try_from(letter.crashes).unwrap_or(i32::MAX).into(),
            letter.pushed_ms.into(),
            letter.started_ms.into(),
            letter.finished_ms.unwrap_or_else(|| self.now_ms()).into(),
            letter.worker.clone().into(),
            letter.reason.clone().into(),
        ]);
        insert.on_conflict(OnConflict::new().do_nothing_on([s::SEQ]).to_owned());
        self.db.execute(&insert).await.map(drop)
    }

    pub(super) async fn forget_row(&self, id: &TaskId) -> Result<bool, DbErr> {
        let mut delete = Query::delete();
        delete
            .from_table(s::TASK)
            .and_where(Expr::col(s::ID).eq(id.as_str()))
            .and_where(Expr::col(s::STATE).is_in(RESTING.map(s::code)));
        Ok(self.db.execute(&delete).await?.rows_affected() == 1)
    }

    pub(super) async fn purge_rows(&self, queue: &str, state: State) -> Result<u64, DbErr> {
        if state == State::Running {
            return Ok(0);
        }
        let mut delete = Query::delete();
        delete
            .from_table(s::TASK)
            .and_where(Expr::col(s::QUEUE).eq(queue))
            .and_where(Expr::col(s::STATE).is_in(codes(state)));
        Ok(self.db.execute(&delete).await?.rows_affected())
    }

    pub(super) async fn pause_queue(&self, queue: &str, is_paused: bool) -> Result<(), DbErr> {
        if is_paused {
            let mut insert = Query::insert();
            insert
                .into_table(s::PAUSE)
                .columns([s::QUEUE])
                .values_panic([queue.into()])
                .on_conflict(OnConflict::column(s::QUEUE).do_nothing_on([s::QUEUE]).to_owned());
            self.db.execute(&insert).await?;
        } else {
            let mut delete = Query::delete();
            delete.from_table(s::PAUSE).and_where(Expr::col(s::QUEUE).eq(queue));
            self.db.execute(&delete).await?;
            self.signals.ready();
        }
        Ok(())
    }

    pub(super) async fn paused_queues(&self) -> Result<Vec<String>, DbErr> {
        let mut select = Query::select();
        select.column(s::QUEUE).from(s::PAUSE).order_by(s::QUEUE, sea_orm::Order::Asc);
        let rows = self.db.query_all(&select).await?;
        rows.iter().map(|row| row.try_get_by_index(0)).collect()
    }
}

/// The numbers under which a state is kept.
fn codes(state: State) -> Vec<i32> {
    match state {
        State::Queued => vec![s::code(state), s::SUSPECT, s::AFLOAT],
        _ => vec![s::code(state)],
    }
}

pub(super) fn records() -> SelectStatement {
    let mut select = Query::select();
    select.columns(COLUMNS).from(s::TASK);
    select
}

pub(super) fn read(row: &QueryResult) -> Result<Record, DbErr> {
    let text: String = row.try_get("", s::MESSAGE)?;
    let mut message = Message::from_json(text.as_bytes())
        .map_err(|error| DbErr::Custom(format!("a task's row cannot be read: {error}")))?;
    let number = |name: &str| row.try_get::<Option<i64>>("", name);
    let count =
        |name: &str| row.try_get::<i32>("", name).map(|number| u32::try_from(number).unwrap_or(0));
    let state = s::state(row.try_get("", s::STATE)?);
    let retries = count(s::RETRIES)?;
    message.set_retries(retries);
    let result: Option<String> = row.try_get("", s::RESULT)?;
    let value: Option<serde_json::Value> = result.and_then(|text| serde_json::from_str(&text).ok());
    Ok(Record {
        message,
        state,
        retries,
        crashes: count(s::CRASHES)?,
        pushed_ms: number(s::PUSHED_MS)?.unwrap_or(0),
        due_ms: number(s::TURN_MS)?.filter(|_| state == State::Waiting),
        started_ms: number(s::STARTED_MS)?,
        finished_ms: number(s::FINISHED_MS)?,
        worker: row.try_get("", s::WORKER)?,
        reason: row.try_get("", s::REASON)?,
        progress: value.clone().filter(|_| state == State::Running),
        result: value.filter(|_| state == State::Done),
    })
}

const COLUMNS: [&str; 11] = [
    s::MESSAGE,
    s::STATE,
    s::RETRIES,
    s::CRASHES,
    s::PUSHED_MS,
    s::TURN_MS,
    s::STARTED_MS,
    s::FINISHED_MS,
    s::WORKER,
    s::REASON,
    s::RESULT,
];

/// What is forgotten one by one, as what moves elsewhere is.
const RESTING: [State; 3] = [State::Waiting, State::Parked, State::Dead];
const DEAD: [&str; 14] = [
    s::ID,
    s::QUEUE,
    s::NAME,
    s::STATE,
    s::RANK,
    s::MESSAGE,
    s::AT_MOST_ONCE,
    s::RETRIES,
    s::CRASHES,
    s::PUSHED_MS,
    s::STARTED_MS,
    s::FINISHED_MS,
    s::WORKER,
    s::REASON,
];
