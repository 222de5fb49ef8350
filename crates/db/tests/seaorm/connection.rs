//! Our handle with the methods that SeaORM's tests expect of theirs beside its traits.

use std::{
    fmt,
    io::Write,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use real_sea_orm::*;
use sea_query::SelectStatement;
use sea_schema::sqlx_types::SqlxRow;
use throng_db::{Db, Driver, Reader, Rows, Tx};

/// Our handle under the name that the tests know. It hands every call on.
#[derive(Clone, Debug)]
pub struct DatabaseConnection(Arc<Counted>);

#[derive(Debug)]
struct Counted {
    db: Db,
    /// The control: each statement belongs to another visitor, who has no token.
    forgets: bool,
}

/// Opens our handle for a URL of SeaORM's tests.
#[derive(Debug)]
pub struct Database;

impl Database {
    /// Connects as SeaORM does. `THRONG_SUITE_HOSTS` lists the servers that stand behind the URL's
    /// one; each `sqlite::memory:` is a file of its own.
    ///
    /// # Errors
    /// What stands in the way.
    pub async fn connect(options: impl Into<ConnectOptions>) -> Result<DatabaseConnection, DbErr> {
        let options = options.into();
        let mut url = if options.get_url().starts_with("sqlite") {
            let folder = std::env::temp_dir().join(format!("throng-suite-{}", std::process::id()));
            let count = COUNT.fetch_add(1, Ordering::Relaxed);
            format!("sqlite:{}/{count}.db?", folder.display())
        } else {
            let most = options.get_max_connections().unwrap_or(10);
            format!("{}?connections={most}&", with_hosts(options.get_url()))
        };
        let patience = options.get_acquire_timeout().unwrap_or(Duration::from_secs(30));
        url += &format!("acquire_timeout={}ms", patience.as_millis());
        let db = Db::open(&url).await;
        let db = db.map_err(|error| DbErr::Custom(format!("{error}: {error:?}")))?;
        wait_for_replicas(&db).await;
        let forgets = std::env::var_os("THRONG_SUITE_FORGETS").is_some();
        Ok(DatabaseConnection(Arc::new(Counted { db, forgets })))
    }
}

/// A database that was made a moment ago is not on the replicas yet. The tests would pass without
/// them, but show less.
async fn wait_for_replicas(db: &Db) {
    let start = Instant::now();
    let is_ready = || db.status().servers.iter().all(|s| s.role == "primary" || s.serves_reads);
    while !is_ready() && start.elapsed() < Duration::from_secs(5) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

impl DatabaseConnection {
    fn db(&self) -> Db {
        let Counted { db, forgets } = &*self.0;
        if *forgets { db.visitor(None) } else { db.clone() }
    }

    /// As in SeaORM.
    pub fn get_database_backend(&self) -> DbBackend {
        self.0.db.get_database_backend()
    }

    /// As in SeaORM.
    pub fn get_schema_builder(&self) -> SchemaBuilder {
        Schema::new(self.get_database_backend()).builder()
    }

    /// As in SeaORM.
    pub async fn ping(&self) -> Result<(), DbErr> {
        self.0.db.ping().await
    }

    /// The tests close the pool that they find here.
    pub fn get_postgres_connection_pool(&self) -> &Db {
        &self.0.db
    }

    /// The tests close the pool that they find here.
    pub fn get_mysql_connection_pool(&self) -> &Db {
        &self.0.db
    }

    /// The tests close the pool that they find here.
    pub fn get_sqlite_connection_pool(&self) -> &Db {
        &self.0.db
    }

    /// As in SeaORM.
    pub async fn transaction_async<F, T, E>(&self, work: F) -> Result<T, TransactionError<E>>
    where
        F: for<'c> AsyncFnOnce(&'c Tx) -> Result<T, E> + Send,
        T: Send,
        E: fmt::Display + fmt::Debug + Send,
    {
        self.0.db.transaction_async(work).await
    }

    /// As in SeaORM.
    pub async fn transaction_with_config_async<F, T, E>(
        &self,
        work: F,
        isolation_level: Option<IsolationLevel>,
        access_mode: Option<AccessMode>,
    ) -> Result<T, TransactionError<E>>
    where
        F: for<'c> AsyncFnOnce(&'c Tx) -> Result<T, E> + Send,
        T: Send,
        E: fmt::Display + fmt::Debug + Send,
    {
        self.0.db.transaction_with_config_async(work, isolation_level, access_mode).await
    }
}

impl Drop for Counted {
    /// Tells where the reads went.
    fn drop(&mut self) {
        let Ok(path) = std::env::var("THRONG_SUITE_COUNTS") else { return };
        let file = std::fs::OpenOptions::new().append(true).create(true).open(path);
        for server in self.db.status().servers {
            let line = format!("{} {}\n", server.role, server.reads);
            file.as_ref().unwrap().write_all(line.as_bytes()).unwrap();
        }
    }
}

#[async_trait::async_trait]
impl ConnectionTrait for DatabaseConnection {
    fn get_database_backend(&self) -> DbBackend {
        self.0.db.get_database_backend()
    }

    async fn execute_raw(&self, statement: Statement) -> Result<ExecResult, DbErr> {
        self.db().execute_raw(statement).await
    }

    async fn execute_unprepared(&self, sql: &str) -> Result<ExecResult, DbErr> {
        self.db().execute_unprepared(sql).await
    }

    async fn query_one_raw(&self, statement: Statement) -> Result<Option<QueryResult>, DbErr> {
        self.db().query_one_raw(statement).await
    }

    async fn query_all_raw(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        self.db().query_all_raw(statement).await
    }

    fn support_returning(&self) -> bool {
        self.0.db.support_returning()
    }
}

impl StreamTrait for DatabaseConnection {
    type Stream<'a> = Rows<'a>;

    fn get_database_backend(&self) -> DbBackend {
        self.0.db.get_database_backend()
    }

    fn stream_raw<'a>(
        &'a self,
        statement: Statement,
    ) -> Pin<Box<dyn Future<Output = Result<Rows<'a>, DbErr>> + 'a + Send>> {
        self.0.db.stream_raw(statement)
    }
}

#[async_trait::async_trait]
impl TransactionTrait for DatabaseConnection {
    type Transaction = Tx;

    async fn begin(&self) -> Result<Tx, DbErr> {
        self.0.db.begin().await
    }

    async fn begin_with_config(
        &self,
        isolation_level: Option<IsolationLevel>,
        access_mode: Option<AccessMode>,
    ) -> Result<Tx, DbErr> {
        self.0.db.begin_with_config(isolation_level, access_mode).await
    }

    async fn begin_with_options(&self, options: TransactionOptions) -> Result<Tx, DbErr> {
        self.0.db.begin_with_options(options).await
    }

    async fn transaction<F, T, E>(&self, work: F) -> Result<T, TransactionError<E>>
    where
        F: for<'c> FnOnce(&'c Tx) -> Pin<Box<dyn Future<Output = Result<T, E>> + Send + 'c>> + Send,
        T: Send,
        E: fmt::Display + fmt::Debug + Send,
    {
        self.0.db.transaction(work).await
    }

    async fn transaction_with_config<F, T, E>(
        &self,
        work: F,
        isolation_level: Option<IsolationLevel>,
        access_mode: Option<AccessMode>,
    ) -> Result<T, TransactionError<E>>
    where
        F: for<'c> FnOnce(&'c Tx) -> Pin<Box<dyn Future<Output = Result<T, E>> + Send + 'c>> + Send,
        T: Send,
        E: fmt::Display + fmt::Debug + Send,
    {
        self.0.db.transaction_with_config(work, isolation_level, access_mode).await
    }
}

/// SeaORM's `sync` asks the drivers for rows, which our raw connections give.
#[async_trait::async_trait]
impl sea_schema::Connection for DatabaseConnection {
    async fn query_all(&self, select: SelectStatement) -> Result<Vec<SqlxRow>, sqlx::Error> {
        let sql = match self.get_database_backend() {
            DbBackend::Postgres => select.to_string(sea_query::PostgresQueryBuilder),
            DbBackend::MySql => select.to_string(sea_query::MysqlQueryBuilder),
            _ => select.to_string(sea_query::SqliteQueryBuilder),
        };
        sea_schema::Connection::query_all_raw(self, sql).await
    }

    async fn query_all_raw(&self, sql: String) -> Result<Vec<SqlxRow>, sqlx::Error> {
        let reader = self.db().read();
        match self.get_database_backend() {
            DbBackend::Postgres => rows::<sqlx::Postgres>(&reader, sql, SqlxRow::Postgres).await,
            DbBackend::MySql => rows::<sqlx::MySql>(&reader, sql, SqlxRow::MySql).await,
            _ => rows::<sqlx::Sqlite>(&reader, sql, SqlxRow::Sqlite).await,
        }
    }
}

async fn rows<D: Driver>(
    reader: &Reader,
    sql: String,
    row: fn(D::Row) -> SqlxRow,
) -> Result<Vec<SqlxRow>, sqlx::Error>
where
    for<'c> &'c mut D::Connection: sqlx::Executor<'c, Database = D>,
{
    let conn = reader.raw::<D>().await;
    let mut conn = conn.map_err(|error| sqlx::Error::AnyDriverError(error.into()))?;
    let rows = sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).fetch_all(&mut *conn).await?;
    Ok(rows.into_iter().map(row).collect())
}

/// `scheme://user:password@host/name` with the hosts of the environment.
fn with_hosts(url: &str) -> String {
    let Ok(hosts) = std::env::var("THRONG_SUITE_HOSTS") else { return url.to_owned() };
    let (login, rest) = url.split_once('@').unwrap_or_else(|| panic!("no `@` in {url}"));
    let name = rest.split('/').nth(1).unwrap_or_default();
    format!("{login}@{hosts}/{name}")
}

static COUNT: AtomicU32 = AtomicU32::new(0);
