//! What an operator wants to know about the servers.

use serde::Serialize;

use crate::db::{Cluster, Servers};

/// The servers of a database, how they are and what they did.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Status {
    /// The database's URL, secrets hidden.
    pub database: String,
    /// Whether writes are refused now.
    pub read_only: bool,
    /// The servers, in the order of the URL.
    pub servers: Vec<Server>,
}

/// One server.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Server {
    /// Host and port, or the name of an embedded database's pool.
    pub name: String,
    /// `primary`, `replica`, `reporting`, `rival` for a second primary, or `gone`.
    pub role: &'static str,
    /// Whether visitors' reads go to it.
    pub serves_reads: bool,
    /// How far it has got: timeline and place in the log, or domain and sequence number.
    pub position: Option<String>,
    /// How old what it shows is, in milliseconds.
    pub lag_ms: u64,
    /// How much it lacks, in bytes of the log or in transactions.
    pub behind: u64,
    /// Connections lent out now.
    pub in_use: u32,
    /// Connections that can be lent out at once.
    pub size: u32,
    /// Reads sent to it by this process.
    pub reads: u64,
    /// Writes sent to it by this process, transactions not counted.
    pub writes: u64,
}

impl Status {
    pub(crate) fn of(cluster: &Cluster) -> Self {
        let mut status =
            Self { database: cluster.name().to_owned(), read_only: false, servers: Vec::new() };
        match &cluster.servers {
            Servers::File { writer, readers } => {
                for (pool, role) in [(writer, "primary"), (readers, "replica")] {
                    status.servers.push(Server {
                        name: pool.name().to_owned(),
                        role,
                        serves_reads: role == "replica",
                        position: None,
                        lag_ms: 0,
                        behind: 0,
                        in_use: pool.lent(),
                        size: pool.size(),
                        reads: 0,
                        writes: 0,
                    });
                }
            }
            Servers::Fleet(fleet) => {
                status.read_only = fleet.is_read_only();
                let primary = fleet.primary().map(|(at, _)| at);
                for (at, node) in fleet.nodes().iter().enumerate() {
                    let position = node.position();
                    status.servers.push(Server {
                        name: node.name().to_owned(),
                        role: match (node.is_up(), primary == Some(at), node.is_standby()) {
                            (false, ..) => "gone",
                            (_, true, _) => "primary",
                            (_, _, false) => "rival",
                            _ if node.is_reporting => "reporting",
                            _ => "replica",
                        },
                        serves_reads: node.is_serving() && !node.is_reporting,
                        position: (position.timeline > 0)
                            .then(|| format!("{}/{:X}", position.timeline, position.at)),
                        lag_ms: u64::try_from(node.lag().as_millis()).unwrap_or(u64::MAX),
                        behind: node.behind(),
                        in_use: node.pool.lent(),
                        size: node.pool.size(),
                        reads: node.reads(),
                        writes: node.writes(),
                    });
                }
            }
        }
        status
    }
}
