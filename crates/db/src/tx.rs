//! A transaction: nested ones are savepoints, and what is dropped is rolled back.

use std::{
    fmt,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use sea_orm::{
    AccessMode, ConnectionTrait, DbBackend, DbErr, ExecResult, IsolationLevel, QueryResult,
    Statement, StreamTrait, TransactionError, TransactionOptions, TransactionSession,
    TransactionTrait,
};
use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};

use crate::{
    Db,
    classify::Verdict,
    cluster::Cluster,
    engine::Begin,
    error::refused,
    lease::Lease,
    nest::{At, Nest},
    session::Session,
    stream::{Left, Rows},
};

/// An open transaction. Made by [`Db::begin`](crate::Db::begin); ends with
/// [`commit`](Tx::commit) or [`rollback`](Tx::rollback). Dropping it
/// rolls back.
///
/// [`begin`](TransactionTrait::begin) inside it makes a savepoint, which is a `Tx` too. Work of a
/// nested `Tx` that was dropped is undone before the next statement. While one is held, the
/// transaction around it only reads, for what it wrote would be undone with the savepoint.
///
/// A statement whose future was dropped amid it, or that ran too long, leaves a transaction that can
/// only be rolled back. So does an error with which the database ends the whole transaction: any on
/// PostgreSQL, a deadlock or a wait for a lock on MariaDB, a full disk on SQLite.
#[must_use = "a transaction that is dropped is rolled back"]
pub struct Tx {
    core: Arc<Core>,
    at: At,
    is_open: bool,
}

struct Core {
    cluster: Arc<Cluster>,
    session: Arc<Session>,
    reads_only: bool,
    /// None once the transaction is over.
    lease: Arc<AsyncMutex<Option<Lease>>>,
    /// What is left of a stream that was dropped early.
    left: Arc<Left>,
    nest: Mutex<Nest>,
    hooks: Mutex<Vec<Hook>>,
}

/// What to do after the commit, and the level that asked for it.
struct Hook {
    level: u32,
    run: Box<dyn FnOnce() + Send>,
}

impl Tx {
    pub(crate) async fn start(db: Db, mut lease: Lease, mode: Begin) -> Result<Self, DbErr> {
        lease.begin(mode).await?;
        let core = Core {
            cluster: db.cluster,
            session: db.session,
            reads_only: mode.reads_only,
            lease: Arc::new(AsyncMutex::new(Some(lease))),
            left: Arc::default(),
            nest: Mutex::default(),
            hooks: Mutex::default(),
        };
        Ok(Self { core: Arc::new(core), at: At::TOP, is_open: true })
    }

    /// Runs `work` once the whole transaction has committed; never if it, or the savepoint in which
    /// this was called, is rolled back. For waking somebody up: the work must be short and must not
    /// be needed for correctness, because a crash right after the commit skips it.
    pub fn after_commit(&self, work: impl FnOnce() + Send + 'static) {
        if self.core.nest().has(self.at) {
            self.core.hooks().push(Hook { level: self.at.level, run: Box::new(work) });
        }
    }

    /// Makes everything that was done in it last, or, of a savepoint, part of the transaction
    /// around it. On disk when it returns.
    ///
    /// # Errors
    /// When the database refuses, or is lost: then nobody knows whether it was committed.
    pub async fn commit(self) -> Result<(), DbErr> {
        self.finish(End::Commit).await
    }

    /// Undoes everything that was done in it.
    ///
    /// # Errors
    /// When the database is lost; then nothing of it is kept either.
    pub async fn rollback(self) -> Result<(), DbErr> {
        self.finish(End::Rollback).await
    }

    /// The dialect of the database.
    #[must_use]
    pub fn get_database_backend(&self) -> DbBackend {
        self.core.cluster.backend()
    }

    pub(crate) fn cluster(&self) -> &Arc<Cluster> {
        &self.core.cluster
    }

    /// Runs `work` in this transaction: commits when it gives `Ok`, rolls back when it gives `Err`.
    async fn run<F, T, E>(self, work: F) -> Result<T, TransactionError<E>>
    where
        F: for<'c> FnOnce(&'c Self) -> Pin<Box<dyn Future<Output = Result<T, E>> + Send + 'c>>
            + Send,
        T: Send,
        E: fmt::Display + fmt::Debug + Send,
    {
        let done = work(&self).await.map_err(TransactionError::Transaction);
        let ended = if done.is_ok() { self.commit().await } else { self.rollback().await };
        ended.map_err(TransactionError::Connection)?;
        done
    }

    /// Like [`TransactionTrait::transaction`], for an async closure.
    ///
    /// # Errors
    /// Those of the closure, of BEGIN and of COMMIT.
    pub async fn transaction_async<F, T, E>(&self, work: F) -> Result<T, TransactionError<E>>
    where
        F: for<'c> AsyncFnOnce(&'c Self) -> Result<T, E> + Send,
        T: Send,
        E: fmt::Display + fmt::Debug + Send,
    {
        let tx = self.begin().await.map_err(TransactionError::Connection)?;
        tx.run_async(work).await
    }

    pub(crate) async fn run_async<F, T, E>(self, work: F) -> Result<T, TransactionError<E>>
    where
        F: for<'c> AsyncFnOnce(&'c Self) -> Result<T, E> + Send,
        T: Send,
        E: fmt::Display + fmt::Debug + Send,
    {
        let done = work(&self).await.map_err(TransactionError::Transaction);
        let ended = if done.is_ok() { self.commit().await } else { self.rollback().await };
        ended.map_err(TransactionError::Connection)?;
        done
    }

    async fn finish(mut self, how: End) -> Result<(), DbErr> {
        let level = self.at.level;
        if how == End::Rollback && self.core.is_undone(level).await {
            self.is_open = false;
            return Ok(());
        }
        // Nothing below leaves work half-ended: a dropped future drops the lease, or the savepoint,
        // which is undone before the next statement.
        let mut guard = self.core.lease(self.at).await?;
        let lease = open(&mut guard)?;
        // Savepoints that are still held are undone, as if they had been dropped.
        if self.core.nest().depth() > level {
            self.core.undo_to(lease, level + 1).await?;
        }
        if level > 1 {
            self.core.end_savepoint(lease, level, how).await?;
            drop(guard);
            self.is_open = false;
            return Ok(());
        }
        self.core.end(lease, how).await?;
        drop(guard.take());
        drop(guard);
        self.is_open = false;
        let hooks = std::mem::take(&mut *self.core.hooks());
        if how == End::Commit {
            hooks.into_iter().for_each(|hook| (hook.run)());
        }
        Ok(())
    }
}

impl Core {
    /// The connection, with what was dropped undone first.
    async fn lease(&self, at: At) -> Result<OwnedMutexGuard<Option<Lease>>, DbErr> {
        let mut guard = self.lock().await;
        let lease = open(&mut guard)?;
        if lease.is_busy() {
            return Err(refused(
                "a statement of this transaction was cancelled halfway; it can only be rolled back",
            ));
        }
        if lease.conn_ref().is_over {
            return Err(refused(
                "the database has rolled this transaction back after an error; it can only be begun anew",
            ));
        }
        let undo = self.nest().undo();
        if let Some(level) = undo {
            self.undo_to(lease, level).await?;
        }
        if !self.nest().has(at) {
            return Err(refused("the transaction around this savepoint is over"));
        }
        Ok(guard)
    }

    /// Whether there is nothing more to be said for a rollback: a statement that was cut short takes
    /// the transaction with it, and so does a database that has ended it by itself.
    async fn is_undone(&self, level: u32) -> bool {
        let mut guard = self.lock().await;
        let is_undone =
            guard.as_ref().is_some_and(|lease| lease.is_busy() || lease.conn_ref().is_over);
        if is_undone && level == 1 {
            // Whoever gets the connection next finds it as new, or another one.
            drop(guard.take());
        }
        is_undone
    }

    /// Waits for the statement that is under way, and reads what is left of a stream.
    async fn lock(&self) -> OwnedMutexGuard<Option<Lease>> {
        loop {
            self.left.read().await;
            tokio::select! {
                biased;
                guard = self.lease.clone().lock_owned() => return guard,
                // The stream that is under way was dropped.
                () = self.left.more() => {}
            }
        }
    }

    /// Ends the innermost savepoint.
    async fn end_savepoint(&self, lease: &mut Lease, level: u32, how: End) -> Result<(), DbErr> {
        if how == End::Rollback {
            return self.undo_to(lease, level).await;
        }
        lease.execute_unprepared(&format!("RELEASE SAVEPOINT {}", savepoint(level))).await?;
        self.nest().end(level);
        for hook in &mut *self.hooks() {
            hook.level = hook.level.min(level - 1);
        }
        Ok(())
    }

    /// Ends the transaction itself.
    async fn end(&self, lease: &mut Lease, how: End) -> Result<(), DbErr> {
        match how {
            End::Rollback => lease.rollback().await,
            End::Commit if self.reads_only => lease.commit().await,
            End::Commit => {
                // Before as well as after: nobody knows about a commit that was cut short.
                self.session.wrote();
                let done = lease.commit().await;
                self.session.wrote();
                done
            }
        }
    }

    /// The connection for a statement, looked after for what that leaves on it when the transaction
    /// is over.
    async fn lease_for(&self, at: At, sql: &str) -> Result<OwnedMutexGuard<Option<Lease>>, DbErr> {
        let mut guard = self.lease(at).await?;
        let classifier = &self.cluster.classifier;
        let verdict = classifier.classify(sql);
        if verdict != Verdict::Read {
            self.nest().check_innermost(at)?;
        }
        if classifier.changes_connection(sql, verdict) {
            open(&mut guard)?.will_change()?;
        }
        Ok(guard)
    }

    async fn undo_to(&self, lease: &mut Lease, level: u32) -> Result<(), DbErr> {
        let name = savepoint(level);
        lease.execute_unprepared(&format!("ROLLBACK TO SAVEPOINT {name}")).await?;
        lease.execute_unprepared(&format!("RELEASE SAVEPOINT {name}")).await?;
        lease.conn().is_aborted = false;
        self.nest().end(level);
        self.hooks().retain(|hook| hook.level < level);
        Ok(())
    }

    fn nest(&self) -> std::sync::MutexGuard<'_, Nest> {
        self.nest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hooks(&self) -> std::sync::MutexGuard<'_, Vec<Hook>> {
        self.hooks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Tx {
    fn drop(&mut self) {
        if !self.is_open {
            return;
        }
        if self.at.level > 1 {
            self.core.nest().will_undo(self.at);
            return;
        }
        self.core.left.discard();
        if let Ok(mut lease) = self.core.lease.try_lock() {
            // Ends the transaction now, even if a savepoint of it is still held somewhere.
            drop(lease.take());
        }
    }
}

impl fmt::Debug for Tx {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tx(level {})", self.at.level)
    }
}

#[async_trait]
impl ConnectionTrait for Tx {
    fn get_database_backend(&self) -> DbBackend {
        self.core.cluster.backend()
    }

    async fn execute_raw(&self, statement: Statement) -> Result<ExecResult, DbErr> {
        let mut guard = self.core.lease_for(self.at, &statement.sql).await?;
        open(&mut guard)?.execute(statement).await
    }

    async fn execute_unprepared(&self, sql: &str) -> Result<ExecResult, DbErr> {
        let mut guard = self.core.lease_for(self.at, sql).await?;
        open(&mut guard)?.execute_unprepared(sql).await
    }

    async fn query_one_raw(&self, statement: Statement) -> Result<Option<QueryResult>, DbErr> {
        let reads_only = self.core.cluster.reads_only(&statement.sql);
        let mut guard = self.core.lease_for(self.at, &statement.sql).await?;
        open(&mut guard)?.fetch_one(statement, reads_only).await
    }

    async fn query_all_raw(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        let mut guard = self.core.lease_for(self.at, &statement.sql).await?;
        open(&mut guard)?.fetch_all(statement).await
    }

    fn support_returning(&self) -> bool {
        self.core.cluster.has_returning()
    }
}

impl StreamTrait for Tx {
    type Stream<'a> = Rows<'a>;

    fn get_database_backend(&self) -> DbBackend {
        self.core.cluster.backend()
    }

    fn stream_raw<'a>(
        &'a self,
        statement: Statement,
    ) -> Pin<Box<dyn Future<Output = Result<Rows<'a>, DbErr>> + 'a + Send>> {
        Box::pin(async move {
            let guard = self.core.lease_for(self.at, &statement.sql).await?;
            Ok(Rows::of_transaction(guard, statement, &self.core.left))
        })
    }
}

#[async_trait]
impl TransactionTrait for Tx {
    type Transaction = Self;

    async fn begin(&self) -> Result<Self, DbErr> {
        let mut guard = self.core.lease(self.at).await?;
        self.core.nest().check_innermost(self.at)?;
        let level = self.core.nest().depth() + 1;
        let sql = format!("SAVEPOINT {}", savepoint(level));
        open(&mut guard)?.execute_unprepared(&sql).await?;
        let at = self.core.nest().open();
        drop(guard);
        Ok(Self { core: self.core.clone(), at, is_open: true })
    }

    /// A savepoint has the isolation and the access of its transaction.
    async fn begin_with_config(
        &self,
        _: Option<IsolationLevel>,
        _: Option<AccessMode>,
    ) -> Result<Self, DbErr> {
        self.begin().await
    }

    /// A savepoint has the isolation and the access of its transaction.
    async fn begin_with_options(&self, _: TransactionOptions) -> Result<Self, DbErr> {
        self.begin().await
    }

    async fn transaction<F, T, E>(&self, work: F) -> Result<T, TransactionError<E>>
    where
        F: for<'c> FnOnce(&'c Self) -> Pin<Box<dyn Future<Output = Result<T, E>> + Send + 'c>>
            + Send,
        T: Send,
        E: fmt::Display + fmt::Debug + Send,
    {
        let tx = self.begin().await.map_err(TransactionError::Connection)?;
        tx.run(work).await
    }

    async fn transaction_with_config<F, T, E>(
        &self,
        work: F,
        _: Option<IsolationLevel>,
        _: Option<AccessMode>,
    ) -> Result<T, TransactionError<E>>
    where
        F: for<'c> FnOnce(&'c Self) -> Pin<Box<dyn Future<Output = Result<T, E>> + Send + 'c>>
            + Send,
        T: Send,
        E: fmt::Display + fmt::Debug + Send,
    {
        self.transaction(work).await
    }
}

#[async_trait]
impl TransactionSession for Tx {
    async fn commit(self) -> Result<(), DbErr> {
        self.finish(End::Commit).await
    }

    async fn rollback(self) -> Result<(), DbErr> {
        self.finish(End::Rollback).await
    }
}

pub(crate) async fn run<F, T, E>(tx: Tx, work: F) -> Result<T, TransactionError<E>>
where
    F: for<'c> FnOnce(&'c Tx) -> Pin<Box<dyn Future<Output = Result<T, E>> + Send + 'c>> + Send,
    T: Send,
    E: fmt::Display + fmt::Debug + Send,
{
    tx.run(work).await
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Commit,
    Rollback,
}

fn open(guard: &mut OwnedMutexGuard<Option<Lease>>) -> Result<&mut Lease, DbErr> {
    guard.as_mut().ok_or_else(|| refused("the transaction is over"))
}

fn savepoint(level: u32) -> String {
    format!("throng_{level}")
}
