//! From a described app to a running process: nothing is half-started.
//!
//! The order is config, log, socket, data folder, database and migrations, the other rooms, the site's
//! own start, roles.
//! Whatever fails before the roles ends the process with one line and exit code 2.

mod front;
pub(crate) mod handover;
pub(crate) mod log;
mod problem;
mod process;
pub(crate) mod report;
mod role;
mod rooms;
pub(crate) mod tell;

use std::sync::Arc;

use throng_core::{Clock, Ids, Shutdown, Trigger, sign::Keys};
use throng_db::Migration;
use throng_queue::Schedule;

use crate::{
    App, Config, Site,
    app::AtStart,
    command,
    counter::Counting,
    ctx::{Started, pages::Pages},
    signal, task,
    web::{assets::Assets, door::Door},
};

pub(crate) use front::Front;
use handover::Handover;
pub use problem::StartError;
pub(crate) use process::{Process, run};
pub use role::{ROLES, Role};
pub(crate) use rooms::{Rooms, Tables, check_data, claim_ids, of_room, open_db};
use tell::Telling;

/// Everything that the roles and commands of a process work with.
pub(crate) struct Works {
    pub(crate) door: Arc<Door>,
    /// Where requests come in: the door, or what stands before it.
    pub(crate) front: Front,
    pub(crate) tasks: Vec<task::Kind>,
    pub(crate) receivers: Vec<signal::Hearing>,
    pub(crate) counters: Vec<Counting>,
    pub(crate) schedules: Vec<Schedule>,
    /// Keeps the site from being asked to stop, where nobody will.
    pub(crate) kept: Option<Trigger>,
    /// Tells other processes what this one writes to the cache.
    pub(crate) telling: Telling,
}

/// What is asked for in addition to a config.
pub(crate) struct Means {
    pub(crate) clock: Clock,
    pub(crate) ids: Ids,
    pub(crate) shutdown: Shutdown,
    pub(crate) handover: Option<Handover>,
}

/// Whether migrations that are missing are applied.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Migrate {
    Apply,
    Refuse,
}

impl App {
    /// The tables of the rooms, then the site's own.
    pub(crate) fn all_migrations(&self) -> Vec<&'static [Migration]> {
        let mut all = vec![throng_db::outbox::MIGRATIONS, throng_queue::MIGRATIONS];
        all.extend(&self.migrations);
        all
    }

    /// Opens the rooms and puts the site together. Gives what is left to do at start as well.
    pub(crate) async fn open(
        self,
        config: Config,
        means: Means,
        migrate: Migrate,
    ) -> Result<(Works, Vec<AtStart>), StartError> {
        let all = self.all_migrations();
        let tables = Tables { program: self.name, all: &all, migrate };
        let rooms = Rooms::open(&config, &means.clock, tables).await?;

        let keys = config.secret_key_fallbacks.iter();
        let keys = keys
            .fold(Keys::new(config.secret_key.reveal()), |keys, old| keys.fallback(old.reveal()));
        let pages = Pages::new(&rooms.bus, &config);
        let pages = pages.map_err(|error| of_room("edge.purge_urls", error))?;
        let telling = Telling::begin(&rooms.cache, &rooms.bus, &means.clock);
        let counters = self.counters.iter();
        let counters = counters.map(|of| (of.name, of.counters(&rooms.queue))).collect();
        let site = Site(Arc::new(Started {
            config,
            keys,
            db: rooms.db,
            cache: rooms.cache,
            queue: rooms.queue,
            counters,
            bus: rooms.bus,
            pages: pages.clone(),
            clock: means.clock,
            ids: means.ids,
            assets: Assets::new(&self.assets),
            provided: self.provided,
            accounts: self.accounts,
            shutdown: means.shutdown,
            handover: means.handover,
        }));
        let door = Arc::new(Door::new(self.router, site, self.rules));
        let front = Front::of(door.site().config(), &door)?;
        for outer in pages.outer() {
            let (outer, clock) = (Arc::clone(outer), door.site().0.clock.clone());
            telling.also(|shutdown| outer.tell(clock, shutdown)).await;
        }
        if door.site().config().edge.is_enabled {
            let clock = door.site().0.clock.clone();
            telling.also(|shutdown| pages.hear(clock, shutdown)).await;
        }
        let works = Works {
            door,
            front,
            tasks: self.tasks,
            receivers: self.receivers,
            counters: self.counters,
            schedules: self.schedules,
            kept: None,
            telling,
        };
        Ok((works, self.at_start))
    }

    pub(crate) fn take_command(&mut self, name: &str) -> Option<command::Own> {
        let at = self.commands.iter().position(|command| command.name == name)?;
        Some(self.commands.swap_remove(at))
    }
}
