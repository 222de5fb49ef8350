//! Why a statement went where it went, as people, logs and metrics are told.

use std::fmt;

/// Why a read went where it went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    /// A replica was fresh enough.
    Fresh,
    /// It was asked for.
    Asked,
    /// The visitor has just written, and the position is not known yet.
    Wrote,
    /// No replica has got as far as this visitor's writes and reads.
    Behind,
    /// No replica is well.
    NoReplica,
    /// The visitor's token is of another cluster or timeline.
    Foreign,
    /// The primary has shown this visitor more than a replica may.
    Stays,
    /// The engine has no positions, so the clock decides.
    Pinned,
    /// It reads for a report.
    Report,
    /// It writes, or may write.
    Writes,
}

impl Why {
    /// All of them, each at the place of its number.
    pub(crate) const ALL: [Self; 10] = [
        Self::Fresh,
        Self::Asked,
        Self::Wrote,
        Self::Behind,
        Self::NoReplica,
        Self::Foreign,
        Self::Stays,
        Self::Pinned,
        Self::Report,
        Self::Writes,
    ];

    /// As it stands in log lines, headers and metrics.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Fresh => "fresh",
            Self::Asked => "asked",
            Self::Wrote => "wrote",
            Self::Behind => "behind",
            Self::NoReplica => "no-replica",
            Self::Foreign => "foreign-token",
            Self::Stays => "stays",
            Self::Pinned => "pinned",
            Self::Report => "report",
            Self::Writes => "writes",
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_is_at_the_place_of_its_number() {
        for (at, why) in Why::ALL.into_iter().enumerate() {
            assert_eq!(why as usize, at, "{why}");
        }
    }
}
