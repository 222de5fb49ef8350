//! Migrations: named, ordered, each in a transaction of its own, recorded in `throng_migrations`.
//!
//! There is no checksum of a migration's text: the text is built by sea-query, whose newer versions
//! may write the same table differently, and a false alarm at start would stop a healthy site. What
//! a migration did is fixed by its name; to change it, add another.

use std::collections::HashSet;

use sea_orm::{ConnectionTrait, DbBackend, DbErr, Statement, StatementBuilder};
use sea_query::{
    ColumnDef, IndexCreateStatement, Order, Query, Table, TableAlterStatement, TableCreateStatement,
};

use crate::{
    Db, Tx,
    error::{Error, Result},
};
#[cfg(feature = "mysql")]
use crate::{cluster::Servers, engine::Conn, error};

/// One step of a schema. The name is for ever; by custom it is `room_0001_what`.
#[derive(Clone, Copy, Debug)]
pub struct Migration {
    name: &'static str,
    up: fn(&mut Schema),
}

/// Collects the statements of one migration, in the dialect of the database.
#[derive(Debug)]
pub struct Schema {
    backend: DbBackend,
    statements: Vec<Statement>,
}

/// What a list of migrations is about.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Scope {
    /// Everything that the database has.
    Site,
    /// The same, in one that a copy is under way into.
    Copy,
    /// The tables of one room, whatever else is there.
    Room,
}

/// What [`Db::migrate`] did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct Applied {
    /// Names of the migrations that were applied now, in their order.
    pub names: Vec<&'static str>,
}

impl Migration {
    /// A migration called `name` that does what `up` tells the [`Schema`].
    #[must_use]
    pub const fn new(name: &'static str, up: fn(&mut Schema)) -> Self {
        Self { name, up }
    }

    /// Its name.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }
}

impl Schema {
    /// The dialect, for what differs between engines.
    #[must_use]
    pub fn backend(&self) -> DbBackend {
        self.backend
    }

    /// Creates a table.
    pub fn table(&mut self, table: TableCreateStatement) {
        self.statement(&table);
    }

    /// Creates an index.
    pub fn index(&mut self, index: IndexCreateStatement) {
        self.statement(&index);
    }

    /// Alters a table.
    pub fn alter(&mut self, table: TableAlterStatement) {
        self.statement(&table);
    }

    /// Runs any statement of sea-query, such as an insert.
    pub fn statement(&mut self, statement: &impl StatementBuilder) {
        self.statements.push(self.backend.build(statement));
    }

    /// Runs raw SQL on one engine; the others skip it. It may hold several statements.
    pub fn sql(&mut self, backend: DbBackend, sql: impl Into<String>) {
        if backend == self.backend {
            self.statements.push(Statement::from_string(backend, sql.into()));
        }
    }
}

impl Db {
    /// Applies what is missing of `sets`, in their order. Safe to call from several processes at
    /// once: one applies, the others wait and find nothing to do.
    ///
    /// ```
    /// # use throng_db::{Db, Migration, Schema};
    /// const MIGRATIONS: &[Migration] = &[Migration::new("shop_0001_orders", |schema: &mut Schema| {
    ///     schema.sql(schema.backend(), "CREATE TABLE shop_order (id integer PRIMARY KEY)");
    /// })];
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> throng_db::Result<()> {
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let db = Db::sqlite(folder.path().join("shop.db")).await?;
    /// assert_eq!(db.pending(&[MIGRATIONS]).await?, ["shop_0001_orders"]);
    /// assert_eq!(db.migrate(&[MIGRATIONS]).await?.names, ["shop_0001_orders"]);
    /// assert!(db.migrate(&[MIGRATIONS]).await?.names.is_empty());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Newer`] before anything is changed, when the database has a migration that is in no
    /// set; [`Error::Migration`] for the first one that failed, with those before it kept.
    pub async fn migrate(&self, sets: &[&[Migration]]) -> Result<Applied> {
        self.migrate_as(sets, Scope::Site).await
    }

    /// Applies what is missing of a room's `set` in a database that may be a site's, of which this
    /// program knows no more.
    ///
    /// # Errors
    /// As [`migrate`](Self::migrate), but migrations of others, whose names begin with another word,
    /// are nobody's business here.
    pub async fn migrate_room(&self, set: &[Migration]) -> Result<Applied> {
        self.migrate_as(&[set], Scope::Room).await
    }

    /// The same for a database that a copy is under way into.
    pub(crate) async fn migrate_copy(&self, sets: &[&[Migration]]) -> Result<()> {
        self.migrate_as(sets, Scope::Copy).await.map(drop)
    }

    async fn migrate_as(&self, sets: &[&[Migration]], scope: Scope) -> Result<Applied> {
        let migrations = in_order(sets)?;
        let db = self.primary();
        let mut applied = Applied::default();
        if self.missing(sets, scope).await?.is_empty() {
            return Ok(applied);
        }
        let failed = |source| Error::Query { doing: "lock the list of migrations", source };
        let _held = Held::take(&db).await.map_err(failed)?;
        for migration in &migrations {
            let failed = |source| Error::Migration { name: migration.name.to_owned(), source };
            let tx = db.begin().await.map_err(failed)?;
            lock(&tx).await.map_err(failed)?;
            if names(&tx).await.map_err(failed)?.iter().any(|name| name == migration.name) {
                tx.rollback().await.map_err(failed)?;
                continue;
            }
            apply(&tx, migration, self.cluster().clock.now_ms()).await.map_err(failed)?;
            tx.commit().await.map_err(failed)?;
            tracing::info!("applied migration {}", migration.name);
            applied.names.push(migration.name);
        }
        Ok(applied)
    }

    /// Names of the migrations of `sets` that the database lacks, in their order.
    ///
    /// # Errors
    /// [`Error::Newer`] when the database has a migration that is in no set; [`Error::Unfinished`]
    /// when a copy into it was cut short.
    pub async fn pending(&self, sets: &[&[Migration]]) -> Result<Vec<&'static str>> {
        self.missing(sets, Scope::Site).await
    }

    /// The same for a room's `set`, as [`migrate_room`](Self::migrate_room) has it.
    ///
    /// # Errors
    /// [`Error::Newer`] when the database has a migration of that room that is not in the set;
    /// [`Error::Unfinished`] when a copy into it was cut short.
    pub async fn pending_room(&self, set: &[Migration]) -> Result<Vec<&'static str>> {
        self.missing(&[set], Scope::Room).await
    }

    async fn missing(&self, sets: &[&[Migration]], scope: Scope) -> Result<Vec<&'static str>> {
        let migrations = in_order(sets)?;
        let failed = |source| Error::Query { doing: "read the list of migrations", source };
        // A site that has lost its primary can still be started for reading.
        let db = if self.is_read_only() { self.clone() } else { self.primary() };
        let done = match names(&db).await {
            Ok(done) => done,
            Err(_) => {
                make_ledger(&db).await.map_err(failed)?;
                names(&db).await.map_err(failed)?
            }
        };
        let mut done: HashSet<String> = done.into_iter().collect();
        if done.remove(COPYING) && scope != Scope::Copy {
            return Err(Error::Unfinished);
        }
        let known: HashSet<&str> = migrations.iter().map(Migration::name).collect();
        let rooms: HashSet<&str> = known.iter().map(|name| room(name)).collect();
        let is_ours = |name: &str| scope != Scope::Room || rooms.contains(room(name));
        let is_newer = |name: &&String| !known.contains(name.as_str()) && is_ours(name);
        let mut newer: Vec<_> = done.iter().filter(is_newer).collect();
        newer.sort_unstable();
        if let Some(name) = newer.first() {
            return Err(Error::Newer { name: (*name).clone() });
        }
        let all = migrations.iter().map(Migration::name);
        Ok(all.filter(|name| !done.contains(*name)).collect())
    }
}

async fn apply(tx: &Tx, migration: &Migration, now_ms: i64) -> Result<(), DbErr> {
    let mut schema = Schema { backend: tx.get_database_backend(), statements: Vec::new() };
    (migration.up)(&mut schema);
    for statement in schema.statements {
        if statement.values.is_some() {
            tx.execute_raw(statement).await?;
        } else {
            tx.execute_unprepared(&statement.sql).await?;
        }
    }
    let record = Query::insert()
        .into_table(LEDGER)
        .columns(["name", "applied_at_ms"])
        .values_panic([migration.name.into(), now_ms.into()])
        .to_owned();
    tx.execute(&record).await?;
    Ok(())
}

/// Makes the other processes wait until this transaction ends.
async fn lock(tx: &Tx) -> Result<(), DbErr> {
    // On SQLite the transaction holds the write lock already, and on MySQL a transaction ends with
    // each CREATE TABLE, so that a connection of its own holds the lock.
    if tx.get_database_backend() == DbBackend::Postgres {
        tx.execute_unprepared("SELECT pg_advisory_xact_lock(7473627401)").await?;
    }
    Ok(())
}

/// What must be held while migrations run; dropping it lets go.
struct Held {
    #[cfg(feature = "mysql")]
    _conn: Option<Conn>,
}

impl Held {
    /// On a connection beside those of the pool, which lives as long as the lock: of a pool's, whoever
    /// waits here could keep the last one from whom he waits for.
    #[cfg(feature = "mysql")]
    async fn take(db: &Db) -> Result<Self, DbErr> {
        let Servers::Fleet(fleet) = &db.cluster.servers else { return Ok(Self { _conn: None }) };
        if db.get_database_backend() != DbBackend::MySql {
            return Ok(Self { _conn: None });
        }
        let (_, node) = fleet.primary().ok_or_else(|| error::refused("the primary is gone"))?;
        let mut conn = node.pool.connect().await?;
        let lock = Statement::from_string(DbBackend::MySql, GET_LOCK);
        let row = conn.fetch_one(lock, false).await?;
        let taken: Option<i64> = row.map(|row| row.try_get_by_index(0)).transpose()?.flatten();
        if taken != Some(1) {
            let reason = "another process has been migrating for a minute";
            return Err(error::exec(error::late(reason)));
        }
        Ok(Self { _conn: Some(conn) })
    }

    #[cfg(not(feature = "mysql"))]
    async fn take(_: &Db) -> Result<Self, DbErr> {
        Ok(Self {})
    }
}

/// Makes the ledger; several may try at once.
async fn make_ledger(db: &Db) -> Result<(), DbErr> {
    let tx = db.begin().await?;
    lock(&tx).await?;
    tx.execute(&ledger()).await?;
    tx.commit().await
}

pub(crate) async fn names(db: &impl ConnectionTrait) -> Result<Vec<String>, DbErr> {
    let select = Query::select()
        .column("name")
        .from(LEDGER)
        .order_by("applied_at_ms", Order::Asc)
        .to_owned();
    let rows = db.query_all(&select).await?;
    rows.iter().map(|row| row.try_get("", "name")).collect()
}

fn ledger() -> TableCreateStatement {
    Table::create()
        .table(LEDGER)
        .if_not_exists()
        .col(ColumnDef::new("name").string_len(190).not_null().primary_key())
        .col(ColumnDef::new("applied_at_ms").big_integer().not_null())
        .to_owned()
}

/// The first word of a migration's name.
fn room(name: &str) -> &str {
    name.split('_').next().unwrap_or(name)
}

fn in_order(sets: &[&[Migration]]) -> Result<Vec<Migration>> {
    let mut seen = HashSet::new();
    let migrations = sets.concat();
    match migrations.iter().find(|migration| !seen.insert(migration.name)) {
        Some(twice) => Err(Error::Twice { name: twice.name.to_owned() }),
        None => Ok(migrations),
    }
}

/// Marks the database as one that a copy is under way into: the site does not start on it.
pub(crate) async fn mark_copying(db: &Db) -> Result<(), DbErr> {
    make_ledger(db).await?;
    let now_ms = db.cluster().clock.now_ms();
    let mark = Query::insert()
        .into_table(LEDGER)
        .columns(["name", "applied_at_ms"])
        .values_panic([COPYING.into(), now_ms.into()])
        .to_owned();
    db.execute(&mark).await.map(drop)
}

pub(crate) async fn unmark_copying(db: &Db) -> Result<(), DbErr> {
    let unmark = Query::delete()
        .from_table(LEDGER)
        .and_where(sea_query::ExprTrait::eq(sea_query::Expr::col("name"), COPYING))
        .to_owned();
    db.execute(&unmark).await.map(drop)
}

pub(crate) const LEDGER: &str = "throng_migrations";
/// Stands among the migrations while a copy is under way.
pub(crate) const COPYING: &str = "throng_copy_unfinished";

/// The answer is 1 when it was taken, within a minute.
#[cfg(feature = "mysql")]
const GET_LOCK: &str = "SELECT GET_LOCK('throng_migrations', 60)";
