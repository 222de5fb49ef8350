//! What workers do.

mod count;
mod mail_ticket;
mod refund_event;
mod seats;
mod tidy;

pub use count::{Count, CountFacets};
pub use mail_ticket::MailTicket;
pub use refund_event::RefundEvent;
pub use seats::ReleaseSeats;
pub use tidy::ForgetTries;
