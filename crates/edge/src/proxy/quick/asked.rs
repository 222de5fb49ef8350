//! A request that goes on to a back end, as far as the log and the answer still want to know it.

use std::ops::Range;

use bytes::Bytes;

/// What was asked, for the log and for the answer.
#[derive(Debug)]
pub(super) struct Asked {
    /// As it goes to the back end, and where the target and the host are in it.
    pub(super) head: Bytes,
    pub(super) target: Range<usize>,
    pub(super) host: Range<usize>,
    pub(super) id: [u8; 16],
    pub(super) time_ms: i64,
    pub(super) detail: &'static str,
}

impl Asked {
    pub(super) fn text(&self, part: &Range<usize>) -> &str {
        std::str::from_utf8(&self.head[part.clone()]).unwrap_or_default()
    }

    pub(super) fn id(&self) -> &str {
        std::str::from_utf8(&self.id).unwrap_or_default()
    }
}
