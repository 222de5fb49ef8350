//! A whole site inside a test: embedded engines in a folder of its own, a clock moved by hand, a
//! browser without a network, and tasks that run when the test says so.
//!
//! ```
//! use throng::{App, web::get};
//!
//! fn app() -> App {
//!     App::new("hello").route("/", get(async || "hello"))
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let site = throng::testing::boot(app()).await;
//! let answer = site.get("/").await;
//! assert_eq!((answer.status(), answer.text()), (200, "hello"));
//! site.finish().await;
//! # }
//! ```

mod answer;
mod browser;
mod tasks;

use std::{collections::HashMap, ffi::OsString, ops::Deref, path::Path, sync::Arc, time::Duration};

use tempfile::TempDir;
use throng_core::{Clock, Hand, Ids, Shutdown, Trigger};
use throng_queue::State;

pub use answer::Answer;
pub use browser::Browser;

use crate::{
    App, Config, Ctx,
    start::{Means, Migrate, Works},
};

/// Boots a site with a clock that stands at [`START_MS`] until [`Site::advance`] moves it.
///
/// # Panics
/// When the site does not start.
pub async fn boot(app: App) -> Site {
    Boot::default().boot(app).await
}

/// What a test wants to be different: `Boot::default().set("session.max_age_s", "60").boot(app())`.
#[derive(Debug, Default)]
pub struct Boot {
    settings: HashMap<String, String>,
    has_system_clock: bool,
}

impl Boot {
    /// Sets a config key, as its environment variable would.
    #[must_use]
    pub fn set(mut self, key: &str, value: &str) -> Self {
        self.settings.insert(key.to_owned(), value.to_owned());
        self
    }

    /// Uses the machine's clock, for tests that wait for something outside.
    #[must_use]
    pub fn system_clock(mut self) -> Self {
        self.has_system_clock = true;
        self
    }

    /// Boots the site.
    ///
    /// # Panics
    /// When the site does not start.
    pub async fn boot(self, app: App) -> Site {
        let folder = tempfile::tempdir().expect("a test machine has room for a folder");
        let config = self.config(folder.path());
        let (clock, hand) = match self.has_system_clock {
            true => (Clock::system(), None),
            false => {
                let (clock, hand) = Clock::manual(START_MS);
                (clock, Some(hand))
            }
        };
        let (trigger, shutdown) = Shutdown::pair();
        let ids = Ids::alone(clock.clone());
        let means = Means { clock, ids, shutdown, handover: None };
        let (works, at_start) = match app.open(config, means, Migrate::Apply).await {
            Ok(opened) => opened,
            Err(error) => panic!("the site does not start: {error}"),
        };
        let works = Arc::new(works);
        for work in at_start {
            if let Err(error) = work(works.door.site().ctx()).await {
                panic!("the site does not start: {error}");
            }
        }
        let browser = Browser::new(works.front.clone());
        Site { works, browser, hand, trigger, is_finished: false, folder }
    }

    fn config(&self, folder: &Path) -> Config {
        let name = |key: &str| format!("THRONG_{}", key.replace('.', "_").to_uppercase());
        let mut vars: HashMap<String, OsString> = HashMap::from([
            ("THRONG_DATA".to_owned(), folder.join("data").into()),
            ("THRONG_SECRET_KEY".to_owned(), "a secret that only this test knows".into()),
        ]);
        vars.extend(self.settings.iter().map(|(key, value)| (name(key), value.into())));
        match Config::read(None, vars.into_iter().map(|(name, value)| (name.into(), value))) {
            Ok(config) => config,
            Err(error) => panic!("the config of the test is wrong: {error}"),
        }
    }
}

/// A booted site. It is a [`Browser`] as well, for tests with one visitor.
///
/// Call [`Site::finish`] at the end: it stops the site and fails when a task was left behind. A
/// site that is dropped without it, while the test passes, fails the test too.
#[must_use = "call `finish` at the end of the test"]
pub struct Site {
    works: Arc<Works>,
    browser: Browser,
    hand: Option<Hand>,
    trigger: Trigger,
    is_finished: bool,
    folder: TempDir,
}

impl Site {
    /// A context, as a task would have: for looking at rooms directly.
    #[must_use]
    pub fn ctx(&self) -> Ctx {
        self.works.door.site().ctx()
    }

    /// Another visitor, who knows nothing of the first one's cookies.
    #[must_use]
    pub fn browser(&self) -> Browser {
        Browser::new(self.works.front.clone())
    }

    /// The folder of the site's files, gone with the site.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Moves the clock forward.
    ///
    /// # Panics
    /// When the site was booted with the machine's clock.
    pub fn advance(&self, by: Duration) {
        let hand = self.hand.as_ref();
        hand.expect("the machine's clock cannot be moved; boot without `system_clock`").advance(by);
    }

    /// Begins to stop the site, as SIGTERM would: streams end, `/readyz` says no.
    pub fn stop(&self) {
        self.trigger.request();
    }

    /// Stops the site.
    ///
    /// # Panics
    /// When a task was pushed and has neither run nor been taken back, however late it is due.
    pub async fn finish(mut self) {
        self.is_finished = true;
        let left = self.left_behind().await;
        self.trigger.request();
        self.works.close().await;
        assert!(left.is_empty(), "tasks were left behind: {}", left.join(", "));
    }

    async fn left_behind(&self) -> Vec<String> {
        let counts = self.ctx().queue.counts().await.expect("the database of the test answers");
        let unfinished =
            [State::Waiting, State::Queued, State::Running, State::Dead, State::Parked];
        let left =
            counts.iter().filter(|count| count.tasks > 0 && unfinished.contains(&count.state));
        left.map(|left| format!("{} {} in {}", left.tasks, left.state, left.queue)).collect()
    }
}

impl Deref for Site {
    type Target = Browser;

    fn deref(&self) -> &Browser {
        &self.browser
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        // A test that fails has said enough.
        if !self.is_finished && !std::thread::panicking() {
            panic!("call `finish` on the site at the end of the test");
        }
    }
}

impl std::fmt::Debug for Site {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Site").field("folder", &self.folder.path()).finish_non_exhaustive()
    }
}

/// Where the clock of a test stands at first: 2026-01-01 12:00 UTC.
pub const START_MS: i64 = 1_767_268_800_000;
