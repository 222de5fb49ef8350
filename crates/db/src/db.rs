//! The handle: opens a database, and makes handles for visitors, readers and reports.

use std::{fmt, path::Path, sync::Arc};

use sea_orm::{
    AccessMode, DbBackend, DbErr, IsolationLevel, Statement, TransactionError, TransactionTrait,
};
use throng_core::{Clock, EngineUrl};
use tokio::sync::Notify;

use crate::{
    classify::Classifier,
    cluster::{Cluster, Servers},
    config::Config,
    engine::{Begin, Connector, sqlite},
    error::Result,
    pool::Pool,
    session::Session,
    status::Status,
    token::Token,
    tx::Tx,
};

/// A database. Cheap to clone; every statement is sent where it belongs and commits by itself unless
/// it runs in a [`Tx`].
///
/// A statement sees everything that was written before through the same handle or a clone of it,
/// on whatever server it runs. [`Db::visitor`] makes a handle for one request, whose promise reaches
/// from one request of a visitor to the next.
#[derive(Clone)]
pub struct Db {
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) session: Arc<Session>,
    pub(crate) lane: Lane,
}

/// A database that is only read. A statement that is not plainly a read is refused.
#[derive(Clone)]
pub struct Reader {
    pub(crate) db: Db,
}

/// Which servers a handle uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lane {
    /// Each statement is looked at.
    Auto,
    /// Everything to the primary.
    Primary,
    /// Reads to whoever may serve them, and nothing else.
    Read,
    /// Reads to the reporting replicas, and nothing else.
    Report,
}

impl Db {
    /// Opens the SQLite database at `path`, making the folder and the file if they are missing.
    ///
    /// There is no in-memory database: SQLite's would either be one connection, where a transaction
    /// stops every reader, or a shared cache, where readers and writers lock each other out. Tests
    /// use a temporary folder.
    ///
    /// # Errors
    /// Says which folder or file stands in the way.
    pub async fn sqlite(path: impl AsRef<Path>) -> Result<Self> {
        Self::sqlite_with(path, Config::default()).await
    }

    /// Like [`Db::sqlite`], with options.
    ///
    /// # Errors
    /// Says which folder or file stands in the way.
    pub async fn sqlite_with(path: impl AsRef<Path>, config: Config) -> Result<Self> {
        Self::sqlite_as(path.as_ref(), config, true).await
    }

    /// A database that is being filled: foreign keys are not looked at.
    pub(crate) async fn open_sqlite_unguarded(url: &EngineUrl, config: Config) -> Result<Self> {
        let (path, config) = embedded(url, config)?;
        Self::sqlite_as(path, config, false).await
    }

    async fn sqlite_as(path: &Path, config: Config, has_foreign_keys: bool) -> Result<Self> {
        let (writer, reader) = sqlite::open(path, &config, has_foreign_keys).await?;
        let writer = Pool::new("writer", Connector::Sqlite(writer), 1, &config);
        let readers = Pool::new("readers", Connector::Sqlite(reader), config.readers, &config);
        let name = format!("sqlite:{}", path.display());
        let servers = Servers::File { writer, readers };
        Ok(Self::new(servers, DbBackend::Sqlite, true, name, config.clock))
    }

    /// Opens the database that `url` names; see the table of the [crate](crate).
    ///
    /// # Errors
    /// A URL that this build cannot open, a wrong option, or what stands in the way of connecting.
    pub async fn open(url: &str) -> Result<Self> {
        Self::open_with(&EngineUrl::parse(url)?, Config::default()).await
    }

    /// Like [`Db::open`], starting from `config`; options of the URL win.
    ///
    /// # Errors
    /// A URL that this build cannot open, a wrong option, or what stands in the way of connecting.
    pub async fn open_with(url: &EngineUrl, config: Config) -> Result<Self> {
        match url.scheme() {
            "sqlite" => {
                let (path, config) = embedded(url, config)?;
                Self::sqlite_with(path, config).await
            }
            #[cfg(feature = "postgres")]
            "postgres" | "postgresql" => crate::topology::open_postgres(url, config).await,
            #[cfg(feature = "mysql")]
            "mysql" | "mariadb" => crate::topology::open_mysql(url, config).await,
            _ => Err(url.unknown_scheme("db", SCHEMES).into()),
        }
    }

    /// A handle for one request of a visitor, from the token that his last request left, or from
    /// several, all of which it has seen.
    ///
    /// Reads through it see everything that he has written and read before, and never less than an
    /// earlier read of his. At the end, [`Db::token`] gives the token for his next request.
    #[must_use]
    pub fn visitor(&self, tokens: impl IntoIterator<Item = Token>) -> Self {
        let session = Arc::new(Session::of(tokens));
        Self { cluster: self.cluster.clone(), session, lane: self.lane }
    }

    /// What the visitor must carry, so that his next request sees what this one has written and
    /// read; also for the tasks and messages that come of this request. None when there is nothing
    /// to carry, as on an embedded database.
    ///
    /// It asks the primary where it stands when something was written; one question serves all
    /// requests that ask at the same time.
    pub async fn token(&self) -> Option<Token> {
        match &self.cluster.servers {
            Servers::File { .. } => None,
            Servers::Fleet(fleet) => self.session.token(fleet).await,
        }
    }

    /// Where this handle's statements went and why, for a debug header:
    /// `db2:5432 fresh 5, db1:5432 writes 2`. Only handles of [`Db::visitor`] keep it.
    #[must_use]
    pub fn routes(&self) -> String {
        match &self.cluster.servers {
            Servers::File { .. } => String::new(),
            Servers::Fleet(fleet) => self.session.routes(fleet),
        }
    }

    /// The same database, with every statement sent to the primary.
    #[must_use]
    pub fn primary(&self) -> Self {
        self.in_lane(Lane::Primary)
    }

    /// The same database for reading only.
    #[must_use]
    pub fn read(&self) -> Reader {
        Reader { db: self.in_lane(Lane::Read) }
    }

    /// The same database for reports: long reads that go to the reporting replicas and nowhere
    /// else, and do not promise to see the last writes. Without reporting replicas in the URL,
    /// reports are refused; an embedded database serves them itself.
    #[must_use]
    pub fn reporting(&self) -> Reader {
        Reader { db: self.in_lane(Lane::Report) }
    }

    /// The dialect of the database.
    #[must_use]
    pub fn get_database_backend(&self) -> DbBackend {
        self.cluster.backend
    }

    /// Whether writes are refused now, by hand or because there is no primary.
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        match &self.cluster.servers {
            Servers::File { .. } => false,
            Servers::Fleet(fleet) => fleet.is_read_only(),
        }
    }

    /// The servers, how they are and what they did.
    #[must_use]
    pub fn status(&self) -> Status {
        Status::of(&self.cluster)
    }

    /// Opens a transaction that may write. On SQLite it holds the write lock from the start, so
    /// that what it has read stays true until it commits.
    ///
    /// # Errors
    /// When no connection or lock is free within the configured time, or there is no primary.
    pub async fn begin(&self) -> Result<Tx, DbErr> {
        self.start(Begin::default()).await
    }

    /// Like SeaORM's `transaction`, for an async closure.
    ///
    /// # Errors
    /// Those of the closure, of BEGIN and of COMMIT.
    pub async fn transaction_async<F, T, E>(&self, work: F) -> Result<T, TransactionError<E>>
    where
        F: for<'c> AsyncFnOnce(&'c Tx) -> Result<T, E> + Send,
        T: Send,
        E: fmt::Display + fmt::Debug + Send,
    {
        let tx = self.begin().await.map_err(TransactionError::Connection)?;
        tx.run_async(work).await
    }

    /// Like SeaORM's `transaction_with_config`, for an async closure.
    ///
    /// # Errors
    /// Those of the closure, of BEGIN and of COMMIT.
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
        let tx = self.begin_with_config(isolation_level, access_mode).await;
        tx.map_err(TransactionError::Connection)?.run_async(work).await
    }

    /// Asks the database for an answer.
    ///
    /// # Errors
    /// When there is none.
    pub async fn ping(&self) -> Result<(), DbErr> {
        let one = Statement::from_string(self.cluster.backend, "SELECT 1");
        sea_orm::ConnectionTrait::query_one_raw(self, one).await.map(drop)
    }

    /// Waits until every connection has come back and closes them. Statements fail from now on, on
    /// every clone of this handle.
    pub async fn close(&self) {
        match &self.cluster.servers {
            Servers::File { writer, readers } => {
                readers.close().await;
                writer.close().await;
            }
            Servers::Fleet(fleet) => fleet.close().await,
        }
    }

    pub(crate) fn cluster(&self) -> &Arc<Cluster> {
        &self.cluster
    }

    pub(crate) fn new(
        servers: Servers,
        backend: DbBackend,
        has_returning: bool,
        name: String,
        clock: Clock,
    ) -> Self {
        let cluster = Cluster {
            servers,
            backend,
            classifier: Classifier::new(backend),
            has_returning,
            name,
            clock,
            outbox: Notify::new(),
        };
        let session = Arc::new(Session::root());
        Self { cluster: Arc::new(cluster), session, lane: Lane::Auto }
    }

    fn in_lane(&self, lane: Lane) -> Self {
        Self { lane, ..self.clone() }
    }
}

impl Reader {
    /// The dialect of the database.
    #[must_use]
    pub fn get_database_backend(&self) -> DbBackend {
        self.db.cluster.backend
    }
}

impl fmt::Debug for Db {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Db({}, {:?})", self.cluster.name, self.lane)
    }
}

impl fmt::Display for Db {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.cluster.name)
    }
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Reader({})", self.db.cluster.name)
    }
}

/// The file of an embedded database, and its options.
fn embedded(url: &EngineUrl, mut config: Config) -> Result<(&Path, Config)> {
    let mut options = url.options();
    config.take_embedded(&mut options)?;
    options.finish()?;
    if !url.hosts().is_empty() {
        let reason = "an embedded database has no host; write `sqlite:data/site.db`";
        return Err(url.fault("host", reason).into());
    }
    if url.path().is_empty() || url.path().ends_with('/') {
        let reason = "it must name a file, as in `sqlite:data/site.db`";
        return Err(url.fault("path", reason).into());
    }
    Ok((Path::new(url.path()), config))
}

/// Schemes that this build opens.
const SCHEMES: &[&str] = &[
    "sqlite",
    #[cfg(feature = "postgres")]
    "postgres",
    #[cfg(feature = "mysql")]
    "mysql",
    #[cfg(feature = "mysql")]
    "mariadb",
];
