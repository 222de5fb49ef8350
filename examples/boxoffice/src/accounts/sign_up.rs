//! Signing up.

use sea_orm::{ConnectionTrait, EntityTrait, IntoActiveModel, SqlErr};
use serde::Deserialize;

use super::{Error, Hasher};
use crate::models::{Problems, Stamp, User, users};

/// The form, as typed.
#[derive(Clone, Default, Deserialize)]
#[serde(default)]
pub struct SignUp {
    /// The name in addresses.
    pub username: String,
    /// Where tickets are mailed.
    pub email: String,
    /// The name that others read; empty means the username.
    pub name: String,
    /// At least eight characters.
    pub password: String,
}

/// Opens an account, or says what is wrong with each field.
///
/// # Errors
/// [`Error`] when the database or the hasher fails.
pub async fn sign_up(
    db: &impl ConnectionTrait,
    hasher: &Hasher,
    stamp: Stamp,
    form: &SignUp,
) -> Result<Result<User, Problems>, Error> {
    let username = form.username.trim().to_lowercase();
    let email = form.email.trim().to_lowercase();
    let name = match form.name.trim() {
        "" => username.clone(),
        name => name.to_owned(),
    };
    let mut problems = Problems::default();
    check_username(&username, &mut problems);
    check_email(&email, &mut problems);
    if name.chars().count() > 150 {
        problems.add("name", "is longer than 150 characters");
    }
    check_password(&form.password, [&username, &email], &mut problems);
    if problems.is_empty() {
        note_taken(db, &username, &email, &mut problems).await?;
    }
    if !problems.is_empty() {
        return Ok(Err(problems));
    }
    let user = User {
        id: stamp.id,
        username,
        email,
        password: hasher.hash(&form.password).await?,
        name,
        bio: String::new(),
        is_staff: false,
        is_active: true,
        joined_at_ms: stamp.at_ms,
    };
    let insert = users::Entity::insert(user.clone().into_active_model());
    match insert.exec_without_returning(db).await {
        Ok(_) => Ok(Ok(user)),
        // Somebody took the name while the password was hashed.
        Err(error) if matches!(error.sql_err(), Some(SqlErr::UniqueConstraintViolation(_))) => {
            note_taken(db, &user.username, &user.email, &mut problems).await?;
            Ok(Err(problems))
        }
        Err(error) => Err(error.into()),
    }
}

fn check_username(username: &str, problems: &mut Problems) {
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c);
    if !(3..=30).contains(&username.chars().count()) {
        problems.add("username", "needs 3 to 30 characters");
    } else if !username.chars().all(is_plain) {
        problems
            .add("username", "may have only letters a to z, digits, dots, dashes and underscores");
    } else if !username.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        problems.add("username", "must start with a letter or a digit");
    }
}

/// Whether mail can be sent there is found out by sending; this catches what was mistyped.
pub(crate) fn check_email(email: &str, problems: &mut Problems) {
    let is_odd = |c: char| c.is_whitespace() || c.is_control() || "<>,;:\"()[]\\".contains(c);
    let (user, host) = email.rsplit_once('@').unwrap_or_default();
    let is_host = host.split('.').count() > 1 && host.split('.').all(|part| !part.is_empty());
    if email.is_empty() {
        problems.add("email", "is needed: tickets are sent there");
    } else if user.is_empty() || user.contains('@') || !is_host || email.contains(is_odd) {
        problems.add("email", "does not look like an address, such as ana@example.com");
    } else if email.len() > 254 {
        problems.add("email", "is longer than 254 characters");
    }
}

fn check_password(password: &str, own: [&str; 2], problems: &mut Problems) {
    let lower = password.to_lowercase();
    if password.chars().count() < 8 {
        problems.add("password", "needs at least 8 characters");
    } else if password.len() > MAX_PASSWORD_BYTES {
        problems.add("password", "is too long");
    } else if own.contains(&&*lower) {
        problems.add("password", "is the same as your name or address");
    } else if COMMON.contains(&&*lower) || password.bytes().all(|byte| byte.is_ascii_digit()) {
        problems.add("password", "is too easy to guess");
    }
}

async fn note_taken(
    db: &impl ConnectionTrait,
    username: &str,
    email: &str,
    problems: &mut Problems,
) -> Result<(), Error> {
    if users::find_by_username(db, username).await?.is_some() {
        problems.add("username", "is taken");
    }
    if users::find_by_email(db, email).await?.is_some() {
        problems.add("email", "has an account already; sign in instead");
    }
    Ok(())
}

/// Hashing a longer one would only cost the site.
pub(super) const MAX_PASSWORD_BYTES: usize = 1_024;
const COMMON: [&str; 12] = [
    "password",
    "password1",
    "passw0rd",
    "qwertyuiop",
    "qwerty123",
    "iloveyou",
    "sunshine",
    "football",
    "baseball",
    "princess",
    "letmein1",
    "trustno1",
];
