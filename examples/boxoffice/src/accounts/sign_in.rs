//! Signing in.

use std::fmt;

use sea_orm::{ColumnTrait, ConnectionTrait, DbErr, EntityTrait, QueryFilter, sea_query::Expr};

use super::{Error, Hasher, Verdict, sign_up::MAX_PASSWORD_BYTES, throttle};
use crate::models::{User, users};

/// What somebody typed to sign in, and where from.
#[derive(Clone, Copy)]
pub struct SignIn<'a> {
    /// A username or an address.
    pub login: &'a str,
    /// The password.
    pub password: &'a str,
    /// The client's address; failures are counted against it too.
    pub client: &'a str,
}

/// Why somebody may not sign in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// No such account, another password, or an account that was closed: which one is not told.
    Wrong,
    /// Too many failures; the password was not looked at.
    TooMany {
        /// How long until the next try, in seconds.
        wait_s: i64,
    },
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Wrong => f.write_str("This name and password do not belong together."),
            Self::TooMany { wait_s } => {
                let minutes = (wait_s + 59) / 60;
                let s = if minutes == 1 { "" } else { "s" };
                write!(f, "Too many tries. Wait {minutes} minute{s}, then try again.")
            }
        }
    }
}

/// The account that a name and a password belong to.
///
/// Takes the same work whether the account exists or not. A hash that is not what a new one would
/// be, such as one of Django's PBKDF2, is replaced.
///
/// # Errors
/// [`Error`] when the database or the hasher fails.
pub async fn sign_in(
    db: &impl ConnectionTrait,
    hasher: &Hasher,
    now_ms: i64,
    typed: SignIn<'_>,
) -> Result<Result<User, Refusal>, Error> {
    let login = typed.login.trim().to_lowercase();
    let tries = throttle::Tries::new(&login, typed.client);
    if let Some(wait_s) = tries.wait_s(db, now_ms).await? {
        return Ok(Err(Refusal::TooMany { wait_s }));
    }
    if typed.password.len() > MAX_PASSWORD_BYTES {
        tries.count(db, now_ms).await?;
        return Ok(Err(Refusal::Wrong));
    }
    let user = match login.contains('@') {
        true => users::find_by_email(db, &login).await?,
        false => users::find_by_username(db, &login).await?,
    };
    let stored = user.as_ref().map(|user| user.password.as_str());
    let verdict = hasher.check(typed.password, stored).await?;
    let Some(mut user) = user.filter(|user| user.is_active && verdict != Verdict::Wrong) else {
        tries.count(db, now_ms).await?;
        return Ok(Err(Refusal::Wrong));
    };
    if verdict == Verdict::RightButOld {
        let new = hasher.hash(typed.password).await?;
        if replace(db, &user, &new).await? {
            user.password = new;
        }
    }
    tries.forgive(db).await?;
    Ok(Ok(user))
}

/// The stored password of an active account, by the id that a session carries as text: a session
/// is worth nothing once it has changed.
///
/// # Errors
/// When the database fails.
pub async fn password_of(
    db: &impl ConnectionTrait,
    user_id: &str,
) -> Result<Option<String>, DbErr> {
    let Ok(id) = user_id.parse() else { return Ok(None) };
    let user = users::find(db, id).await?;
    Ok(user.filter(|user| user.is_active).map(|user| user.password))
}

/// Stores a new hash unless the password was changed meanwhile.
async fn replace(db: &impl ConnectionTrait, user: &User, new: &str) -> Result<bool, DbErr> {
    let update = users::Entity::update_many()
        .col_expr(users::Column::Password, Expr::value(new))
        .filter(users::Column::Id.eq(user.id))
        .filter(users::Column::Password.eq(&*user.password));
    Ok(update.exec(db).await?.rows_affected == 1)
}
