//! The one context: what a request, a task or a command works with.

mod bus;
mod outer;
pub(crate) mod pages;
pub(crate) mod run;
pub(crate) mod seen;

use std::{
    any::{Any, TypeId},
    collections::HashMap,
    convert::Infallible,
    sync::Arc,
};

use axum::extract::FromRequestParts;
use http::request::Parts;
use throng_cache::Cache;
use throng_core::{Clock, Ids, Shutdown, sign::Keys};
use throng_db::Db;
use throng_queue::Counters;

use crate::{
    Config, Error, Result,
    start::handover::Handover,
    task::Queue,
    web::{assets::Assets, session::Accounts, session::Memory},
};

pub use bus::Bus;
use pages::Pages;
use run::Run;

/// The rooms of the site, made for each request, task and command. Take it as an argument:
///
/// ```
/// use throng::{Ctx, Result, web::Html};
///
/// async fn home(cx: Ctx) -> Result<Html<String>> {
///     Ok(Html(format!("<p>order {} at {}", cx.ids.next(), cx.clock.now_s())))
/// }
/// ```
#[derive(Clone)]
#[non_exhaustive]
pub struct Ctx {
    /// The site's tables: a SeaORM connection, and [`Db::begin`] for transactions.
    pub db: Db,
    /// Values that are dear to make. What has been read, this context reads again: [`Cache::keep`].
    pub cache: Cache,
    /// Work for later.
    pub queue: Queue,
    /// Messages to open pages and to other parts of the site.
    pub bus: Bus,
    /// The time. Use it, rather than the system's, so that tests can move it.
    pub clock: Clock,
    /// Time-ordered ids.
    pub ids: Ids,
    site: Site,
    /// The page that is being made, where this is for one.
    page: Option<Arc<Memory>>,
    /// The run of a task, where this is for one.
    run: Option<Arc<Run>>,
}

impl Ctx {
    /// The effective config.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.site.0.config
    }

    /// The secrets that sign sessions, for signing links and tokens with [`crate::sign`].
    #[must_use]
    pub fn keys(&self) -> &Keys {
        &self.site.0.keys
    }

    /// The address of a static file, with the hash of its content: `/static/site.0f3a9c.css`.
    ///
    /// A name that no [`Asset`](crate::web::Asset) has gives an address that answers 404.
    #[must_use]
    pub fn asset<'a>(&'a self, name: &'a str) -> std::borrow::Cow<'a, str> {
        self.site.0.assets.url(name)
    }

    /// Deletes what the cache keeps under `key` for everyone, after what it was made from was
    /// changed. Whoever makes it again with [`Ctx::for_load`] sees the change, on whatever server
    /// they read; without that, a visitor whose replica is late would put the old page back.
    ///
    /// # Errors
    /// When the cache does not answer.
    pub async fn expire(&self, key: &str) -> Result {
        seen::raise(self, key).await?;
        self.cache.delete(key).await?;
        Ok(())
    }

    /// A context for making what the cache keeps under `key`: its database shows at least what was
    /// written before the last [`Ctx::expire`].
    ///
    /// # Errors
    /// When the cache does not answer.
    pub async fn for_load(&self, key: &str) -> Result<Self> {
        Ok(self.site.ctx_with(seen::of_load(self, key).await?))
    }

    /// A context for working on a message of the bus: its database shows at least what whoever
    /// [published](Bus::publish) it had written. A message that is no JSON object cannot say so, and
    /// is worked on with the primary.
    #[must_use]
    pub fn on_message(&self, message: &[u8]) -> Self {
        self.site.ctx_with(seen::of_message(&self.site.0.db, message))
    }

    /// What `App::provide` was given.
    ///
    /// # Errors
    /// An internal error when nothing of this type was provided.
    pub fn provided<T: Send + Sync + 'static>(&self) -> Result<&T> {
        let value = self.site.0.provided.get(&TypeId::of::<T>());
        value.and_then(|value| value.downcast_ref()).ok_or_else(|| {
            Error::internal(format!("nothing provides `{}`", std::any::type_name::<T>()))
        })
    }

    pub(crate) fn counters(&self) -> &HashMap<&'static str, Counters> {
        &self.site.0.counters
    }

    /// Hears that the process is about to stop. Long work should end soon after.
    #[must_use]
    pub fn shutdown(&self) -> &Shutdown {
        &self.site.0.shutdown
    }
}

impl std::fmt::Debug for Ctx {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ctx").finish_non_exhaustive()
    }
}

/// The started site: the state that axum's router and extractors see. Cheap to clone.
#[derive(Clone)]
pub struct Site(pub(crate) Arc<Started>);

/// What is made once at start and shared by everything after.
pub(crate) struct Started {
    pub(crate) config: Config,
    pub(crate) keys: Keys,
    pub(crate) db: Db,
    pub(crate) cache: Cache,
    pub(crate) queue: throng_queue::Queue,
    /// By their names.
    pub(crate) counters: HashMap<&'static str, Counters>,
    pub(crate) bus: throng_bus::Bus,
    pub(crate) pages: Pages,
    pub(crate) clock: Clock,
    pub(crate) ids: Ids,
    pub(crate) assets: Assets,
    pub(crate) provided: Provided,
    pub(crate) accounts: Option<Box<Accounts>>,
    pub(crate) shutdown: Shutdown,
    pub(crate) handover: Option<Handover>,
}

/// Values by type, from `App::provide`.
pub(crate) type Provided = HashMap<TypeId, Box<dyn Any + Send + Sync>>;

impl Site {
    /// A context for one request, task or command.
    #[must_use]
    pub fn ctx(&self) -> Ctx {
        self.ctx_with(self.0.db.clone())
    }

    /// A context whose database knows what somebody has seen of it.
    pub(crate) fn ctx_with(&self, db: Db) -> Ctx {
        let Started { cache, queue, bus, clock, ids, .. } = &*self.0;
        Ctx {
            queue: Queue { room: queue.clone(), db: db.clone() },
            bus: Bus { room: bus.clone(), db: db.clone() },
            db,
            cache: cache.keep(),
            clock: clock.clone(),
            ids: ids.clone(),
            site: self.clone(),
            page: None,
            run: None,
        }
    }

    pub(crate) fn config(&self) -> &Config {
        &self.0.config
    }

    /// Whether another process accepts on the listening socket too.
    pub(crate) fn is_handed_over(&self) -> bool {
        self.0.handover.as_ref().is_some_and(Handover::is_under_way)
    }
}

impl std::fmt::Debug for Site {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Site").finish_non_exhaustive()
    }
}

impl FromRequestParts<Site> for Ctx {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, site: &Site) -> Result<Self, Infallible> {
        let memory = parts.extensions.get::<Arc<Memory>>();
        let Some(memory) = memory else { return Ok(site.ctx()) };
        Ok(Self { page: Some(Arc::clone(memory)), ..memory.ctx(site) })
    }
}
