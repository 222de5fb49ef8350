//! Accounts: signing up, signing in, and passwords that Django wrote or will read.

mod password;
mod sign_in;
mod sign_up;
mod throttle;

pub use password::{Cost, Hasher, Verdict};
pub use sign_in::{Refusal, SignIn, password_of, sign_in};
pub(crate) use sign_up::check_email;
pub use sign_up::{SignUp, sign_up};
pub use throttle::forget_tries;

/// Why an account function failed through no fault of the visitor.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The database said no.
    #[error("cannot read or write accounts")]
    Db(#[from] sea_orm::DbErr),
    /// A password cannot be hashed: no memory, or no random numbers.
    #[error("cannot hash a password: {0}")]
    Hash(String),
}
