//! Mail: one file a letter below `data/mail`, or SMTP, as `mail.url` says.
//!
//! A letter has an id that is its `Message-ID`. In a folder the same letter is written once however
//! often it is sent; over SMTP a task that is run again may send it again, under the same id, which
//! mail programs show once.

mod letter;
mod post;

pub use letter::{Attachment, Letter};
pub use post::{Error, Post, PostBox};
