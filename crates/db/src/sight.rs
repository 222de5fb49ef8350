//! What one look at a server tells: its role, and how far it has got.

use std::fmt;

/// How far a server has got: a place in the log of one timeline. A timeline of 0 means unknown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) timeline: u32,
    pub(crate) at: u64,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{:X}", self.timeline, self.at)
    }
}

/// What one look at a server told.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sight {
    pub(crate) is_primary: bool,
    pub(crate) position: Position,
    /// Whether a standby receives from its primary; true for a primary.
    pub(crate) is_connected: bool,
}
