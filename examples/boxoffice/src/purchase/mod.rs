//! Selling seats: hold, pay, own. Never sold twice, never lost.

pub mod number;
