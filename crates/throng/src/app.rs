//! The site as its author describes it: routes, files, tasks, and what holds for all of them.

use std::{any::TypeId, future::Future, pin::Pin};

use axum::{Router, routing::MethodRouter};
use http::HeaderValue;
use throng_db::Migration;
use throng_queue::Schedule;

use crate::{
    Command, Counter, Ctx, Receiver, Result, Site, Task, command,
    counter::Counting,
    ctx::Provided,
    error::{ErrorPage, Look},
    signal, task,
    web::{Asset, door::Rules, session::Accounts},
};

/// A site. Describe it, then [`App::run`] it from `main`, or boot it in a test.
///
/// ```no_run
/// use throng::{App, web::get};
///
/// fn main() -> std::process::ExitCode {
///     app().run()
/// }
///
/// fn app() -> App {
///     App::new("hello").route("/", get(async || "hello"))
/// }
/// ```
#[must_use = "an app does nothing until it is run"]
pub struct App {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    pub(crate) router: Router<Site>,
    pub(crate) assets: Vec<Asset>,
    pub(crate) provided: Provided,
    pub(crate) accounts: Option<Box<Accounts>>,
    pub(crate) rules: Rules,
    pub(crate) migrations: Vec<&'static [Migration]>,
    pub(crate) tasks: Vec<task::Kind>,
    pub(crate) receivers: Vec<signal::Hearing>,
    pub(crate) counters: Vec<Counting>,
    pub(crate) schedules: Vec<Schedule>,
    pub(crate) commands: Vec<command::Own>,
    pub(crate) at_start: Vec<AtStart>,
}

/// What a site does once its rooms are open and before it serves.
pub(crate) type AtStart =
    Box<dyn FnOnce(Ctx) -> Pin<Box<dyn Future<Output = Result> + Send>> + Send>;

impl App {
    /// An empty site. The name is that of its command, `[a-z0-9-]`.
    pub fn new(name: &'static str) -> Self {
        Self {
            name,
            about: "A throng site",
            router: Router::new(),
            assets: Vec::new(),
            provided: Provided::new(),
            accounts: None,
            rules: Rules {
                look: None,
                sign_in_path: None,
                open_paths: Vec::new(),
                policy: HeaderValue::from_static(crate::web::DEFAULT_POLICY),
            },
            migrations: Vec::new(),
            tasks: Vec::new(),
            receivers: Vec::new(),
            counters: Vec::new(),
            schedules: Vec::new(),
            commands: Vec::new(),
            at_start: Vec::new(),
        }
    }

    /// One sentence about the site, for `--help`.
    pub fn about(mut self, about: &'static str) -> Self {
        self.about = about;
        self
    }

    /// Serves `path`, as axum's router: `.route("/shows/{id}", get(show))`.
    pub fn route(mut self, path: &str, methods: MethodRouter<Site>) -> Self {
        self.router = self.router.route(path, methods);
        self
    }

    /// Adds the routes of a router of your own, such as one a module of the site makes.
    pub fn routes(mut self, routes: Router<Site>) -> Self {
        self.router = self.router.merge(routes);
        self
    }

    /// Adds the site's tables. In development they are made at start, in production by `migrate`.
    pub fn migrations(mut self, migrations: &'static [Migration]) -> Self {
        self.migrations.push(migrations);
        self
    }

    /// Lets workers run tasks of this kind.
    pub fn task<T: Task>(mut self) -> Self {
        self.tasks.push(task::Kind::of::<T>());
        self
    }

    /// Lets workers tell this receiver of every change to its table that is signalled.
    pub fn receiver<R: Receiver>(mut self) -> Self {
        self.receivers.push(signal::Hearing::of::<R>());
        self
    }

    /// Lets handlers count with [`Ctx::count`], and workers write what was counted.
    pub fn counter<C: Counter>(mut self) -> Self {
        self.counters.push(Counting::of::<C>());
        self
    }

    /// Pushes a task when the five fields of `spec` come true, in UTC: `"0 3 * * *"`. Once, however
    /// many workers there are.
    ///
    /// # Panics
    /// When `spec` cannot be read, or the task is not JSON: both are fixed in the program's text.
    pub fn schedule<T: Task>(
        self,
        spec: &str,
        make: impl Fn() -> T + Send + Sync + 'static,
    ) -> Self {
        self.schedule_in("UTC", spec, make)
    }

    /// As [`App::schedule`], in the time zone `zone`, such as `Europe/Berlin`.
    ///
    /// # Panics
    /// When `spec` or `zone` cannot be read, or the task is not JSON.
    pub fn schedule_in<T: Task>(
        mut self,
        zone: &str,
        spec: &str,
        make: impl Fn() -> T + Send + Sync + 'static,
    ) -> Self {
        let make = move || match task::message(&make()) {
            Ok(message) => message,
            Err(error) => panic!("scheduled task `{}` cannot be written: {error}", T::NAME),
        };
        match Schedule::cron(format!("{} {spec}", T::NAME), spec, zone, make) {
            Ok(schedule) => self.schedules.push(schedule),
            Err(error) => panic!("wrong schedule for task `{}`: {error}", T::NAME),
        }
        self
    }

    /// Adds a command of the site's own.
    pub fn command<C: Command>(mut self) -> Self {
        self.commands.push(command::Own::of::<C>());
        self
    }

    /// Does something once the rooms are open and before the first visitor, such as seeding an
    /// empty database. Runs at the start of every serving process; a failure stops the start.
    pub fn on_start<F>(mut self, work: impl FnOnce(Ctx) -> F + Send + 'static) -> Self
    where
        F: Future<Output = Result> + Send + 'static,
    {
        self.at_start.push(Box::new(move |cx| Box::pin(work(cx))));
        self
    }

    /// Serves files from inside the binary below `/static/`; pages ask [`Ctx::asset`] for their
    /// addresses. `favicon.ico` and `robots.txt` are also found at the top.
    pub fn assets(mut self, assets: &[Asset]) -> Self {
        self.assets.extend_from_slice(assets);
        self
    }

    /// Keeps a value of the site's own for [`Ctx::provided`]: a payment client, a renderer.
    pub fn provide<T: Send + Sync + 'static>(mut self, value: T) -> Self {
        self.provided.insert(TypeId::of::<T>(), Box::new(value));
        self
    }

    /// Draws error pages in the site's look. Without it they are plain HTML.
    pub fn error_page(
        mut self,
        look: impl Fn(&Ctx, &ErrorPage<'_>) -> String + Send + Sync + 'static,
    ) -> Self {
        let look: Box<Look> = Box::new(look);
        self.rules.look = Some(look);
        self
    }

    /// Where visitors sign in; [`Error::sign_in`](crate::Error::sign_in) sends browsers there, with
    /// where they wanted to go as `?next=`.
    pub fn sign_in_path(mut self, path: impl Into<String>) -> Self {
        self.rules.sign_in_path = Some(path.into());
        self
    }

    /// Checks each signed-in visitor against the accounts: the function gives the stored password
    /// of a user id, `None` when the account is gone or closed. A session made under another
    /// password ends. Runs once for each request that asks for its [`Visitor`](crate::Visitor).
    pub fn accounts<F>(mut self, find: impl Fn(Ctx, String) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<Option<String>>> + Send + 'static,
    {
        self.accounts = Some(Box::new(move |cx, user| Box::pin(find(cx, user))));
        self
    }

    /// Takes posts to `path` and below from anywhere, without a CSRF token: for webhooks that prove
    /// themselves in another way.
    pub fn accept_from_anywhere(mut self, path: impl Into<String>) -> Self {
        self.rules.open_paths.push(path.into().trim_end_matches('/').to_owned());
        self
    }

    /// What browsers may load and do on the site's pages. Unset: everything from the site itself,
    /// no inline scripts or styles, no frames.
    ///
    /// # Panics
    /// When `policy` holds what no header can, such as a line break.
    pub fn content_security_policy(mut self, policy: &'static str) -> Self {
        self.rules.policy = HeaderValue::from_static(policy);
        self
    }
}

impl std::fmt::Debug for App {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("App").field("name", &self.name).finish_non_exhaustive()
    }
}
