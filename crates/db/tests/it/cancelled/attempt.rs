//! What a visitor of a site tries, any of it cut short anywhere, and what must be left of it.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicU32, Ordering},
};

use futures_util::StreamExt;
use sea_orm::{
    ConnectionTrait, DbBackend, DbErr, Statement, StreamTrait, TransactionError, TransactionTrait,
};
use sqlx::Connection;
use throng_db::{
    Db, Driver, Migration, Schema, Tx,
    outbox::{self, Entry},
};

use super::cut::{Dice, poll_most};

/// One try at something, by number.
#[derive(Debug)]
pub(super) struct Attempt {
    pub(super) n: i64,
    state: Mutex<State>,
    hooks: AtomicU32,
}

#[derive(Clone, Debug, Default)]
struct State {
    doing: &'static str,
    /// Parts that belong together: all of them are there in the end, or none.
    parts: Vec<i64>,
    stage: Stage,
    has_hook: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    /// Nothing of it may be there.
    #[default]
    Open,
    /// Nobody knows.
    Committing,
    /// All of it must be there.
    Acknowledged,
}

impl Attempt {
    pub(super) fn new(n: i64) -> Arc<Self> {
        Arc::new(Self { n, state: Mutex::default(), hooks: AtomicU32::new(0) })
    }

    fn tries(&self, doing: &'static str, parts: &[i64]) {
        let mut state = self.state.lock().unwrap();
        (state.doing, state.parts) = (doing, parts.to_vec());
    }

    fn commits(&self) {
        self.state.lock().unwrap().stage = Stage::Committing;
    }

    fn is_acknowledged(&self) {
        self.state.lock().unwrap().stage = Stage::Acknowledged;
    }

    fn hooks_into(self: &Arc<Self>, tx: &Tx) {
        self.state.lock().unwrap().has_hook = true;
        let attempt = self.clone();
        tx.after_commit(move || {
            attempt.hooks.fetch_add(1, Ordering::SeqCst);
        });
    }

    /// What is wrong with the parts that are there.
    pub(super) fn verdict(&self, mut there: Vec<i64>) -> Result<(), String> {
        let state = self.state.lock().unwrap().clone();
        let hooks = self.hooks.load(Ordering::SeqCst);
        there.sort_unstable();
        let is_whole = !state.parts.is_empty() && there == state.parts;
        let is_right = match state.stage {
            Stage::Open => there.is_empty(),
            Stage::Committing => is_whole || there.is_empty(),
            Stage::Acknowledged => is_whole,
        };
        let is_told = match hooks {
            0 => !state.has_hook || state.stage != Stage::Acknowledged,
            1 => is_whole,
            _ => false,
        };
        if is_right && is_told {
            return Ok(());
        }
        Err(format!("attempt {}: {state:?} left {there:?} and was told of {hooks} times", self.n))
    }
}

/// Tries something on `db`.
pub(super) async fn run(db: Db, attempt: Arc<Attempt>, mut dice: Dice) -> Result<(), DbErr> {
    match dice.below(20) {
        0..=1 => single(&db, &attempt, dice).await,
        2..=5 => pair(&db, &attempt, dice).await,
        6..=8 => savepoint(&db, &attempt, dice).await,
        9..=10 => closure(&db, &attempt, dice).await,
        11..=12 => stream(&db, &attempt, dice).await,
        13..=14 => raw(&db, &attempt, dice).await,
        15..=16 => message(&db, &attempt, dice).await,
        17..=18 => read(&db, &attempt, dice).await,
        _ => migrate(&db, &attempt).await,
    }
}

/// Something of everything, with nobody in the way.
pub(super) async fn last(db: &Db, attempt: &Arc<Attempt>) -> Result<(), DbErr> {
    attempt.tries("the last", &[1, 2]);
    ask(db, &mut Dice::new(0)).await?;
    let tx = db.begin().await?;
    attempt.hooks_into(&tx);
    insert(&tx, attempt.n, 1).await?;
    tx.commit().await?;
    insert(db, attempt.n, 2).await?;
    attempt.is_acknowledged();
    Ok(())
}

async fn single(db: &Db, attempt: &Attempt, mut dice: Dice) -> Result<(), DbErr> {
    attempt.tries("one statement", &[1]);
    attempt.commits();
    match dice.below(3) {
        0 => db.execute_unprepared(&insertion(attempt.n, 1)).await.map(drop)?,
        1 => insert(&db.visitor(None), attempt.n, 1).await?,
        _ => insert(db, attempt.n, 1).await?,
    }
    attempt.is_acknowledged();
    Ok(())
}

async fn pair(db: &Db, attempt: &Arc<Attempt>, mut dice: Dice) -> Result<(), DbErr> {
    let counts = dice.one_in(3);
    attempt.tries("a transaction", if counts { &[1, 2, TALLIED] } else { &[1, 2] });
    let tx = db.begin().await?;
    if dice.one_in(2) {
        attempt.hooks_into(&tx);
    }
    insert(&tx, attempt.n, 1).await?;
    match dice.below(4) {
        0 => some_rows(&tx, &mut dice).await?,
        1 => ask(&tx, &mut dice).await?,
        _ => {}
    }
    if counts {
        insert(&tx, attempt.n, TALLIED).await?;
        tx.execute_unprepared("UPDATE tally SET n = n + 1 WHERE id = 1").await?;
    }
    insert(&tx, attempt.n, 2).await?;
    match dice.below(8) {
        0 => return tx.rollback().await,
        1 => return Ok(()),
        _ => {}
    }
    attempt.commits();
    tx.commit().await?;
    attempt.is_acknowledged();
    Ok(())
}

async fn savepoint(db: &Db, attempt: &Arc<Attempt>, mut dice: Dice) -> Result<(), DbErr> {
    let how = dice.below(6);
    attempt.tries("savepoints", if how == 0 { &[1, 2, 3] } else { &[1, 2] });
    let tx = db.begin().await?;
    insert(&tx, attempt.n, 1).await?;
    let point = tx.begin().await?;
    match how {
        0 => {
            attempt.hooks_into(&point);
            insert(&point, attempt.n, 3).await?;
            point.commit().await?;
        }
        1 => {
            insert(&point, attempt.n, UNDONE).await?;
            point.rollback().await?;
        }
        2 => {
            insert(&point, attempt.n, UNDONE).await?;
            drop(point);
        }
        3 => {
            let inner = point.begin().await?;
            insert(&inner, attempt.n, UNDONE).await?;
            drop(point);
            drop(inner);
        }
        4 => {
            let polls = dice.below(6);
            if poll_most(polls, insert(&point, attempt.n, UNDONE)).await.is_none() && polls > 0 {
                drop(point);
                insert(&tx, attempt.n, 2).await.expect_err("nobody knows what has been done");
                return tx.rollback().await;
            }
            drop(point);
        }
        _ => {
            let failed = point.transaction_async(async |inner| {
                insert(inner, attempt.n, UNDONE).await?;
                Err::<(), _>(DbErr::Custom("no".to_owned()))
            });
            let failed = failed.await.unwrap_err();
            if let TransactionError::Connection(error) = failed {
                return Err(error);
            }
            drop(point);
        }
    }
    insert(&tx, attempt.n, 2).await?;
    attempt.commits();
    tx.commit().await?;
    attempt.is_acknowledged();
    Ok(())
}

async fn closure(db: &Db, attempt: &Arc<Attempt>, mut dice: Dice) -> Result<(), DbErr> {
    attempt.tries("a closure", &[1, 2]);
    let is_refused = dice.one_in(4);
    let done = db
        .transaction_async(async |tx| {
            attempt.hooks_into(tx);
            insert(tx, attempt.n, 1).await?;
            insert(tx, attempt.n, 2).await?;
            if is_refused {
                return Err(DbErr::Custom("no".to_owned()));
            }
            attempt.commits();
            Ok(())
        })
        .await;
    match done {
        Ok(()) => attempt.is_acknowledged(),
        Err(TransactionError::Transaction(DbErr::Custom(_))) if is_refused => {}
        Err(TransactionError::Transaction(error) | TransactionError::Connection(error)) => {
            return Err(error);
        }
    }
    Ok(())
}

async fn stream(db: &Db, attempt: &Attempt, mut dice: Dice) -> Result<(), DbErr> {
    attempt.tries("a stream", &[]);
    if dice.one_in(2) {
        some_rows(db, &mut dice).await
    } else {
        some_rows(&db.primary(), &mut dice).await
    }
}

async fn raw(db: &Db, attempt: &Attempt, dice: Dice) -> Result<(), DbErr> {
    match db.get_database_backend() {
        DbBackend::Sqlite => raw_as::<sqlx::Sqlite>(db, attempt, dice).await,
        DbBackend::Postgres => raw_as::<sqlx::Postgres>(db, attempt, dice).await,
        _ => raw_as::<sqlx::MySql>(db, attempt, dice).await,
    }
}

async fn raw_as<D: Driver>(db: &Db, attempt: &Attempt, mut dice: Dice) -> Result<(), DbErr>
where
    for<'c> &'c mut D::Connection: sqlx::Executor<'c, Database = D>,
{
    attempt.tries("a raw connection", &[1, 2]);
    let run = |part| sqlx::raw_sql(sqlx::AssertSqlSafe(insertion(attempt.n, part)));
    let failed = |error: sqlx::Error| DbErr::Custom(error.to_string());
    let mut conn = db.raw::<D>().await?;
    if dice.one_in(3) {
        sqlx::raw_sql("BEGIN").execute(&mut *conn).await.map_err(failed)?;
        run(UNDONE).execute(&mut *conn).await.map_err(failed)?;
        return Ok(());
    }
    let mut tx = conn.begin().await.map_err(failed)?;
    run(1).execute(&mut *tx).await.map_err(failed)?;
    run(2).execute(&mut *tx).await.map_err(failed)?;
    attempt.commits();
    tx.commit().await.map_err(failed)?;
    attempt.is_acknowledged();
    Ok(())
}

async fn message(db: &Db, attempt: &Arc<Attempt>, mut dice: Dice) -> Result<(), DbErr> {
    let entry = Entry { kind: "test".to_owned(), key: "k".to_owned(), payload: attempt.n.into() };
    if dice.one_in(3) {
        attempt.tries("a message", &[MESSAGE]);
        attempt.commits();
        outbox::push(db, entry).await?;
    } else {
        attempt.tries("a message in a transaction", &[1, MESSAGE]);
        let tx = db.begin().await?;
        attempt.hooks_into(&tx);
        outbox::push_in(&tx, entry).await?;
        insert(&tx, attempt.n, 1).await?;
        attempt.commits();
        tx.commit().await?;
    }
    attempt.is_acknowledged();
    Ok(())
}

async fn read(db: &Db, attempt: &Attempt, mut dice: Dice) -> Result<(), DbErr> {
    attempt.tries("reading", &[]);
    let visitor = db.visitor(None);
    ask(&visitor, &mut dice).await?;
    let token = visitor.token().await;
    ask(&db.visitor(token), &mut dice).await?;
    ask(&db.primary(), &mut dice).await
}

async fn migrate(db: &Db, attempt: &Attempt) -> Result<(), DbErr> {
    attempt.tries("a migration", &[MIGRATED]);
    attempt.commits();
    let name: &'static str = format!("{ROOM}{}_0001_only", attempt.n).leak();
    let migration = Migration::new(name, |schema: &mut Schema| {
        schema.sql(schema.backend(), "INSERT INTO migrated (n) VALUES (1)");
    });
    let applied = db.migrate_room(&[migration]).await;
    assert_eq!(applied.map_err(|error| DbErr::Custom(format!("{error:?}")))?.names, [name]);
    attempt.is_acknowledged();
    Ok(())
}

/// Reads some of the big rows and drops the rest.
async fn some_rows<S: StreamTrait + Sync>(db: &S, dice: &mut Dice) -> Result<(), DbErr>
where
    for<'a> S::Stream<'a>: Send,
{
    let mark = dice.below(30);
    // On a server more than comes at once, so that the driver is in the midst of a row.
    let (words, bytes) = match db.get_database_backend() {
        DbBackend::Sqlite => ("words", BIG_BYTES),
        _ => ("repeat(words, 8) AS words", BIG_BYTES * 8),
    };
    let sql = format!("SELECT id, {words} FROM big WHERE {mark} = {mark} ORDER BY id");
    let rows = db.stream_raw(Statement::from_string(db.get_database_backend(), sql)).await?;
    let mut rows = Box::pin(rows);
    for wanted in 0..dice.below(BIG_ROWS + 2) {
        let polls = if dice.one_in(4) { dice.below(4) } else { u64::MAX };
        match poll_most(polls, rows.next()).await {
            None => break,
            Some(None) => assert_eq!(wanted, BIG_ROWS, "no row is missing"),
            Some(Some(row)) => {
                let row = row?;
                let (id, words): (i64, String) =
                    (row.try_get("", "id")?, row.try_get("", "words")?);
                assert_eq!((id.unsigned_abs(), words.len()), (wanted, bytes));
            }
        }
    }
    Ok(())
}

/// The answer must be to this question.
async fn ask(db: &impl ConnectionTrait, dice: &mut Dice) -> Result<(), DbErr> {
    let wanted = 1000 + dice.below(40).cast_signed();
    let backend = db.get_database_backend();
    let question = Statement::from_string(backend, format!("SELECT id + {wanted} AS v FROM tally"));
    let answers = db.query_all_raw(question).await?;
    assert_eq!(answers.len(), 1);
    assert_eq!(answers[0].try_get::<i64>("", "v")?, 1 + wanted);
    Ok(())
}

async fn insert(db: &impl ConnectionTrait, n: i64, part: i64) -> Result<(), DbErr> {
    let backend = db.get_database_backend();
    let sql = match backend {
        DbBackend::Postgres => "INSERT INTO mark (attempt, part) VALUES ($1, $2)",
        _ => "INSERT INTO mark (attempt, part) VALUES (?, ?)",
    };
    let insert = Statement::from_sql_and_values(backend, sql, [n.into(), part.into()]);
    let done = db.execute_raw(insert).await?;
    assert_eq!(done.rows_affected(), 1);
    Ok(())
}

fn insertion(n: i64, part: i64) -> String {
    format!("INSERT INTO mark (attempt, part) VALUES ({n}, {part})")
}

/// Part of what counts itself in the tally too.
pub(super) const TALLIED: i64 = 5;
/// Part that is a migration in the ledger.
pub(super) const MIGRATED: i64 = 6;
/// Part that is a message in the outbox.
pub(super) const MESSAGE: i64 = 7;
/// Part that must never be there.
const UNDONE: i64 = 9;
/// What the names of migrations begin with.
pub(super) const ROOM: &str = "m";
pub(super) const BIG_ROWS: u64 = 12;
pub(super) const BIG_BYTES: usize = 40_000;
