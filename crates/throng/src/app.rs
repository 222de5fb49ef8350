//! The site as its author describes it: routes, files, tasks, and what holds for all of them.

use std::{any::TypeId, future::Future};

use axum::{Router, routing::MethodRouter};
use http::HeaderValue;

use crate::{
    Ctx, Result, Site,
    ctx::Provided,
    error::{ErrorPage, Look},
    web::{Asset, door::Rules, session::Accounts},
};

/// A site. Describe it, then [`App::run`] it from `main`, or boot it in a test.
///
/// ```ignore
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
}

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
