//! What workers do.

use throng::{Error, Result};

use crate::mail::{self, Letter, Post};

mod count;
mod mail_ticket;
mod refund_event;
mod seats;
mod tidy;
mod views;

pub(crate) use count::count_facets;
pub use count::{Count, CountFacets};
pub use mail_ticket::MailTicket;
pub use refund_event::RefundEvent;
pub use seats::ReleaseSeats;
pub use tidy::ForgetTries;
pub(crate) use views::Views;

/// Sends a letter from a task: a letter that can never be written is refused, not tried again.
async fn send(post: &Post, letter: &Letter) -> Result {
    post.send(letter).await.map_err(|error| match error {
        mail::Error::Letter { .. } => Error::invalid(error.to_string()),
        other => Error::internal(other),
    })
}
