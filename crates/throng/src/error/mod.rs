//! The one error of a site: it picks the HTTP answer, and keeps causes from visitors.

mod cause;
mod page;

use std::{borrow::Cow, error::Error as StdError, fmt, sync::Arc, time::Duration};

use axum::response::{IntoResponse, Response};
use http::StatusCode;

pub use page::ErrorPage;
pub(crate) use page::{Look, prefers_json, render};

/// What handlers, tasks and commands return.
pub type Result<T = (), E = Error> = std::result::Result<T, E>;

/// Why a request, task or command did not succeed.
///
/// Any other error becomes an internal one with `?`: the visitor sees a page with an id, the log
/// has the cause under the same id. What a visitor may read is said on purpose:
///
/// ```
/// use throng::{Error, Result};
///
/// fn seats(left: u32, wanted: u32) -> Result<u32> {
///     if wanted > left {
///         return Err(Error::refused(format!("only {left} seats are left")));
///     }
///     Ok(left - wanted)
/// }
///
/// assert_eq!(seats(2, 3).unwrap_err().status().as_u16(), 409);
/// ```
#[derive(Clone)]
pub struct Error(Arc<Fault>);

/// What a caller does about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// May work a little later; a task is tried again.
    Retry,
    /// What was asked is refused, and would be again; a task is not tried again.
    Refuse,
    /// A defect, or something broken outside; logged as an error. A task is tried again.
    Bug,
}

#[derive(Clone, Debug)]
struct Fault {
    status: StatusCode,
    words: Option<Cow<'static, str>>,
    retry_after: Option<Duration>,
    cause: Option<Arc<dyn StdError + Send + Sync>>,
}

impl Error {
    /// What was asked cannot be done as things stand: sold out, closed, already taken. 409.
    pub fn refused(words: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::CONFLICT, words)
    }

    /// What was sent is well formed and not acceptable, such as a form field. 422.
    pub fn invalid(words: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, words)
    }

    /// What was asked for is not there: "no such event". 404.
    pub fn not_found(words: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::NOT_FOUND, words)
    }

    /// This visitor may not. 403.
    pub fn forbidden(words: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::FORBIDDEN, words)
    }

    /// The visitor has to sign in first: browsers are sent to the page that `App::sign_in_path`
    /// names, others get 401.
    #[must_use]
    pub fn sign_in() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "please sign in first")
    }

    /// Too much at the moment; `after` goes out as `Retry-After`. 503.
    #[must_use]
    pub fn unavailable(after: Duration) -> Self {
        Self::plain(StatusCode::SERVICE_UNAVAILABLE).with(|fault| fault.retry_after = Some(after))
    }

    /// A defect, or something outside that is broken. The visitor sees an id, the log the cause. 500.
    pub fn internal(cause: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        let cause = Arc::from(cause.into());
        Self::plain(StatusCode::INTERNAL_SERVER_ERROR).with(|fault| fault.cause = Some(cause))
    }

    /// Any status, with words for the visitor.
    pub fn new(status: StatusCode, words: impl Into<Cow<'static, str>>) -> Self {
        Self::plain(status).with(|fault| fault.words = Some(words.into()))
    }

    /// Any status, with the words that belong to it.
    #[must_use]
    pub fn plain(status: StatusCode) -> Self {
        Self(Arc::new(Fault { status, words: None, retry_after: None, cause: None }))
    }

    /// The HTTP status of the answer.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.0.status
    }

    /// What the visitor reads.
    #[must_use]
    pub fn words(&self) -> &str {
        self.0.words.as_deref().unwrap_or_else(|| page::words(self.0.status))
    }

    /// When to try again, where that is known.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// What a caller does about it.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self.0.status {
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS => Kind::Retry,
            status if status.is_server_error() => Kind::Bug,
            _ => Kind::Refuse,
        }
    }

    /// The cause, for the log. Never shown to visitors.
    #[must_use]
    pub fn cause(&self) -> Option<&(dyn StdError + Send + Sync + 'static)> {
        self.0.cause.as_deref()
    }

    /// Says when to try again, as `Retry-After`.
    #[must_use]
    pub fn after(self, wait: Duration) -> Self {
        self.with(|fault| fault.retry_after = Some(wait))
    }

    /// Adds the cause, for the log.
    #[must_use]
    pub fn because(self, cause: impl StdError + Send + Sync + 'static) -> Self {
        self.with(|fault| fault.cause = Some(Arc::new(cause)))
    }

    fn with(mut self, set: impl FnOnce(&mut Fault)) -> Self {
        set(Arc::make_mut(&mut self.0));
        self
    }
}

/// The words, then the chain of causes: for logs and terminals.
impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(cause) = self.cause() else {
            return f.write_str(self.words());
        };
        if let Some(words) = &self.0.words {
            write!(f, "{words}: ")?;
        }
        write!(f, "{cause}")?;
        let mut last = cause.to_string();
        let mut next = cause.source();
        while let Some(cause) = next {
            // Many libraries print their source as well; saying it twice helps nobody.
            let text = cause.to_string();
            if !last.contains(&text) {
                write!(f, ": {text}")?;
            }
            last = text;
            next = cause.source();
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {self}", self.0.status.as_u16())
    }
}

impl IntoResponse for Error {
    /// An answer without a page: the web role renders it on the way out, where it knows whether the
    /// visitor reads HTML or JSON.
    fn into_response(self) -> Response {
        let mut response = self.status().into_response();
        response.extensions_mut().insert(self);
        response
    }
}
