//! Where a statement would go, without sending it.

use std::fmt;

use crate::{Db, Verdict, cluster::Servers, db::Lane, fleet::Why};

/// Where a statement would be sent at this moment: `127.0.0.1:5433 fresh`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Route<'a> {
    /// The server; None when nobody can take the statement now.
    pub server: Option<&'a str>,
    /// What the statement is.
    pub verdict: Verdict,
    /// Why there. None for an embedded database, which has no choice of servers.
    why: Option<Why>,
}

impl Db {
    /// Says where this handle would send `sql` now, and why. It asks no server, and allocates
    /// nothing.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # let db = throng_db::Db::sqlite(folder.path().join("site.db")).await?;
    /// assert_eq!(db.route("SELECT name FROM event").to_string(), "readers");
    /// assert_eq!(db.route("SELECT name FROM event FOR UPDATE").to_string(), "writer locks rows");
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn route(&self, sql: &str) -> Route<'_> {
        let verdict = self.cluster.classifier.classify(sql);
        let may_be_read = verdict == Verdict::Read && self.lane != Lane::Primary;
        let (server, why) = match &self.cluster.servers {
            Servers::File { readers, .. } if may_be_read => (Some(readers.name()), None),
            Servers::File { writer, .. } => (Some(writer.name()), None),
            Servers::Fleet(fleet) => {
                let placed = if may_be_read {
                    fleet.route_read(&self.session, self.lane == Lane::Report)
                } else {
                    let why = if verdict == Verdict::Read { Why::Asked } else { Why::Writes };
                    fleet.primary().map(|(at, _)| (at, why))
                };
                (placed.map(|(at, _)| fleet.nodes()[at].name()), placed.map(|(_, why)| why))
            }
        };
        Route { server, verdict, why }
    }
}

impl fmt::Display for Route<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.server.unwrap_or("nobody"))?;
        match (self.verdict, self.why) {
            (Verdict::Primary(reason), _) => write!(f, " {reason}"),
            (Verdict::Read, Some(why)) => write!(f, " {why}"),
            (Verdict::Read, None) => Ok(()),
        }
    }
}
