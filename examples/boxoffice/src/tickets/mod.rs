//! Tickets: the printed page, the signed code on it, and the check at the door.

pub mod pdf;
mod text;

pub use text::days;
