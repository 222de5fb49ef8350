//! The code on a ticket: its id, signed, so that a code cannot be made up.

use throng::sign::{Keys, Signer};

/// The text in the QR code of ticket `id`.
#[must_use]
pub fn of(keys: &Keys, id: i64) -> String {
    Signer::new(keys).salt(SALT).sign(&id.to_string())
}

/// The ticket that a scanned or typed code belongs to; `None` when this site did not sign it.
#[must_use]
pub fn read(keys: &Keys, code: &str) -> Option<i64> {
    Signer::new(keys).salt(SALT).unsign(code.trim()).ok()?.parse().ok()
}

const SALT: &str = "boxoffice.ticket";
