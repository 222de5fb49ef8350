//! Selling seats: hold, pay, own. Never sold twice, never lost.
//!
//! An event's seats are one row, `sold + held <= capacity`, and each change to it is one
//! conditional update, so two buyers of the last seat cannot both get it. A row in `holds` is a
//! claim on held seats; whoever deletes it, and nobody else, moves its seats in the same
//! transaction: to sold when it was paid, back to free when it was not.
//!
//! A charge cannot be part of a transaction, so its traces are: a hold is marked as being paid
//! before the provider is asked, and the hold's id is the provider's idempotency key. After a crash
//! anywhere, the same form sent again, or the task that looks after abandoned payments, asks the
//! provider what became of the key and finishes the order or gives the seats back.

mod buy;
mod desk;
mod hold;
pub mod number;
mod payment;
mod settle;
mod stand_in;

pub use buy::{BuyError, Purchase};
pub use desk::Desk;
pub use hold::{HoldError, MAX_SEATS, Want};
pub use payment::{Charge, Payment, PaymentError, Receipt};
pub use stand_in::StandIn;
