//! Opens the rooms that the config names, and says so: one line a room, secrets hidden.

use std::{fs, io, path::Path};

use throng_cache::Cache;
use throng_core::{Clock, EngineUrl, Ids};
use throng_db::{Db, Migration};

use super::{Migrate, StartError};
use crate::Config;

/// The open rooms.
pub(crate) struct Rooms {
    pub(crate) db: Db,
    pub(crate) cache: Cache,
    pub(crate) queue: throng_queue::Queue,
    pub(crate) bus: throng_bus::Bus,
}

/// The tables that a site needs.
pub(crate) struct Tables<'a> {
    pub(crate) program: &'static str,
    pub(crate) all: &'a [&'static [Migration]],
    pub(crate) migrate: Migrate,
}

impl Rooms {
    /// Opens the database and sees to its tables, then the other rooms: a queue on RabbitMQ keeps
    /// its books in them.
    pub(crate) async fn open(
        config: &Config,
        clock: &Clock,
        tables: Tables<'_>,
    ) -> Result<Self, StartError> {
        let db = open_db(config, clock).await?;
        tables.make(&db).await?;
        let options = throng_cache::Config { clock: clock.clone(), ..Default::default() };
        let cache = options.open(&config.cache.reveal()).await;
        let cache = cache.map_err(|error| of_room("cache.url", error))?;
        let queue =
            throng_queue::Queue::open(&config.queue.reveal(), db.clone(), clock.clone()).await;
        let queue = queue.map_err(|error| of_room("queue.url", error))?;
        let options = throng_bus::Config { clock: clock.clone(), ..Default::default() };
        let bus = options.open(&config.bus.reveal()).await;
        let bus = bus.map_err(|error| of_room("bus.url", error))?;
        Ok(Self { db, cache, queue, bus })
    }
}

impl Tables<'_> {
    /// Applies what is missing, or refuses to go on without it.
    async fn make(self, db: &Db) -> Result<(), StartError> {
        let Self { program, all, migrate } = self;
        let of_db = |error| of_room("database.url", error);
        if migrate == Migrate::Apply {
            let _ = db.migrate(all).await.map_err(of_db)?;
            return Ok(());
        }
        let names = db.pending(all).await.map_err(of_db)?;
        if names.is_empty() { Ok(()) } else { Err(StartError::Pending { program, names }) }
    }
}

/// One line a room.
pub(crate) fn announce(config: &Config) {
    let line = |room, engine: &EngineUrl| {
        tracing::info!(room, %engine, "{room} is {engine}");
    };
    line("database", &config.database);
    line("cache", &config.cache);
    line("queue", &config.queue);
    line("bus", &config.bus);
    line("mail", &config.mail);
}

pub(crate) async fn open_db(config: &Config, clock: &Clock) -> Result<Db, StartError> {
    let options = throng_db::Config { clock: clock.clone(), ..throng_db::Config::default() };
    let db = Db::open_with(&config.database, options).await;
    db.map_err(|error| of_room("database.url", error))
}

pub(crate) fn of_room(
    key: &'static str,
    source: impl std::error::Error + Send + Sync + 'static,
) -> StartError {
    StartError::Room { key, source: Box::new(source) }
}

/// Makes the data folder and checks that files can be written there.
pub(crate) fn check_data(path: &Path) -> Result<(), StartError> {
    let check = || -> io::Result<()> {
        fs::create_dir_all(path)?;
        let probe = path.join(format!(".probe-{}", std::process::id()));
        fs::write(&probe, b"")?;
        fs::remove_file(&probe)
    };
    check().map_err(|source| StartError::Data { path: path.to_owned(), source })
}

/// Takes a node number for the ids of this process.
pub(crate) fn claim_ids(config: &Config, clock: &Clock) -> Result<Ids, StartError> {
    let ids = Ids::claim(&config.data.join("ids"), config.id_nodes.clone(), clock.clone());
    ids.map_err(|error| of_room("ids.nodes", error))
}
