//! How other errors become a throng [`Error`], and how one passes through libraries unharmed.

use std::{error::Error as StdError, fmt, time::Duration};

use http::StatusCode;
use sea_orm::DbErr;

use super::Error;

/// Anything that failed becomes an error of this site. `Error` is no [`StdError`] itself so that
/// this can stand, as in `anyhow`.
impl<E: StdError + Send + Sync + 'static> From<E> for Error {
    fn from(cause: E) -> Self {
        match sort(&cause) {
            Some(Sorted::Ours(error)) => error,
            Some(Sorted::Busy) => Self::unavailable(BUSY_FOR).because(cause),
            Some(Sorted::ReadOnly) => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, READ_ONLY).after(BUSY_FOR).because(cause)
            }
            Some(Sorted::Missing) => Self::plain(StatusCode::NOT_FOUND),
            None => Self::internal(cause),
        }
    }
}

/// For libraries that take boxed errors, such as a cache's loader; comes back whole with `?`.
impl From<Error> for Box<dyn StdError + Send + Sync> {
    fn from(error: Error) -> Self {
        Box::new(Carried(error))
    }
}

impl From<Error> for anyhow::Error {
    fn from(error: Error) -> Self {
        Self::new(Carried(error))
    }
}

/// A site's error on its way through somebody else's.
struct Carried(Error);

impl fmt::Debug for Carried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Carried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl StdError for Carried {}

enum Sorted {
    Ours(Error),
    Busy,
    Missing,
    ReadOnly,
}

/// Looks for what decides the answer along the chain of causes.
fn sort(cause: &(dyn StdError + 'static)) -> Option<Sorted> {
    let mut next = Some(cause);
    while let Some(cause) = next {
        if let Some(Carried(error)) = cause.downcast_ref() {
            return Some(Sorted::Ours(error.clone()));
        }
        // What a cache's loader said is what its caller would have said.
        let cached = cause.downcast_ref::<throng_cache::Error>();
        if let Some(error) = cached.and_then(throng_cache::Error::loader_error::<Error>) {
            return Some(Sorted::Ours(error.clone()));
        }
        match cause.downcast_ref::<DbErr>() {
            Some(DbErr::RecordNotFound(_)) => return Some(Sorted::Missing),
            Some(error) if throng_db::is_read_only(error) => return Some(Sorted::ReadOnly),
            Some(error) if throng_db::kind(error) == throng_db::Kind::Retry => {
                return Some(Sorted::Busy);
            }
            _ => {}
        }
        next = match cause.downcast_ref::<std::io::Error>() {
            // Its source is that of the error inside, which would be skipped.
            Some(io) => io.get_ref().map(|inner| inner as &(dyn StdError + 'static)),
            None => cause.source(),
        };
    }
    None
}

const READ_ONLY: &str = "the site can be read and not changed for a moment; nothing you sent was kept, please try again";
const BUSY_FOR: Duration = Duration::from_secs(2);
