//! What a caller can do about an error: every room's errors are sorted by this.

/// What to do about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Trying again later can help: an engine is away or busy.
    Retry,
    /// Trying again gives the same answer: what was asked for is wrong. Say so to whoever asked.
    Refuse,
    /// The program, or how it is configured, is wrong.
    Bug,
}
