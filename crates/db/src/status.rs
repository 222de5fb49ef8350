//! What an operator wants to know about the servers.

use std::{collections::BTreeMap, time::Duration};

use sea_orm::{DbBackend, Statement};
use serde::Serialize;

use crate::{
    Db,
    cluster::{Cluster, Servers},
    fleet::{Fleet, Node, Why},
    lease::Lease,
    pool::Pool,
};

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
    /// Connections of this process that are lent out now.
    pub in_use: u32,
    /// Connections of this process that are open and not lent out.
    pub idle: u32,
    /// Connections that this process may lend out at once.
    pub size: u32,
    /// Callers in this process that wait for a connection now.
    pub waiting: u32,
    /// Reads that this process has sent to it, transactions for reading counted once.
    pub reads: u64,
    /// Writes that this process has sent to it, transactions counted once.
    pub writes: u64,
    /// The same by reason, as in a request's log line: `fresh`, `behind`, `writes`… Empty for an
    /// embedded database, which has no choice.
    pub routes: BTreeMap<&'static str, u64>,
    /// Connections that all processes of the site hold open to it. This and what follows is known
    /// after [`Db::survey`](crate::Db::survey), where the server tells.
    pub connections: Option<u64>,
    /// Those of them on which a statement runs or a transaction is open.
    pub active: Option<u64>,
    /// Rows that it has read from the site's tables since it was started, for whoever it was.
    pub rows_read: Option<u64>,
}

impl Status {
    pub(crate) fn of(cluster: &Cluster) -> Self {
        let (read_only, servers) = match &cluster.servers {
            Servers::File { writer, readers } => {
                let writer =
                    Server { writes: writer.served(), ..Server::of_pool(writer, "primary") };
                let reads = readers.served();
                let readers = Server::of_pool(readers, "replica");
                (false, vec![writer, Server { serves_reads: true, reads, ..readers }])
            }
            Servers::Fleet(fleet) => {
                let servers = (0..fleet.nodes().len()).map(|at| Server::of_node(fleet, at));
                (fleet.is_read_only(), servers.collect())
            }
        };
        Self { database: cluster.name().to_owned(), read_only, servers }
    }
}

impl Server {
    fn of_pool(pool: &Pool, role: &'static str) -> Self {
        Self {
            name: pool.name().to_owned(),
            role,
            serves_reads: false,
            position: None,
            lag_ms: 0,
            behind: 0,
            in_use: pool.lent(),
            idle: pool.spare(),
            size: pool.size(),
            waiting: pool.waiting(),
            reads: 0,
            writes: 0,
            routes: BTreeMap::new(),
            connections: None,
            active: None,
            rows_read: None,
        }
    }

    fn of_node(fleet: &Fleet, at: usize) -> Self {
        let node = &fleet.nodes()[at];
        let is_primary = fleet.primary().is_some_and(|(primary, _)| primary == at);
        let role = match (node.is_up(), is_primary, node.is_standby()) {
            (false, ..) => "gone",
            (_, true, _) => "primary",
            (_, _, false) => "rival",
            _ if node.is_reporting => "reporting",
            _ => "replica",
        };
        let position = node.position();
        let count = |is_write| {
            let routed = node.routed().filter(|(why, _)| (*why == Why::Writes) == is_write);
            routed.map(|(_, count)| count).sum()
        };
        Self {
            serves_reads: node.is_serving() && !node.is_reporting,
            position: (position.timeline > 0).then(|| position.to_string()),
            lag_ms: u64::try_from(node.lag().as_millis()).unwrap_or(u64::MAX),
            behind: node.behind(),
            reads: count(false),
            writes: count(true),
            routes: node
                .routed()
                .filter(|(_, count)| *count > 0)
                .map(|(why, count)| (why.as_str(), count))
                .collect(),
            ..Self::of_pool(&node.pool, role)
        }
    }
}

impl Db {
    /// Like [`Db::status`], with what each server tells of all its clients.
    pub async fn survey(&self) -> Status {
        let Servers::Fleet(fleet) = &self.cluster.servers else { return self.status() };
        let mut told = Vec::new();
        for node in fleet.nodes() {
            // One that cannot be asked is shown without.
            let asked = tokio::time::timeout(ANSWER, ask(node, self.cluster.backend())).await;
            told.push(asked.ok().flatten());
        }
        let mut status = self.status();
        for (server, told) in status.servers.iter_mut().zip(told) {
            let Some([connections, active, rows_read]) = told else { continue };
            server.connections = Some(connections);
            server.active = Some(active);
            server.rows_read = Some(rows_read);
        }
        status
    }
}

async fn ask(node: &Node, backend: DbBackend) -> Option<[u64; 3]> {
    if !node.is_up() {
        return None;
    }
    let mut lease = Lease::of(&node.pool).await.ok()?;
    let sql = match backend {
        DbBackend::Postgres => {
            "SELECT count(*), count(*) FILTER (WHERE state <> 'idle' AND pid <> pg_backend_pid()), \
             (SELECT coalesce(sum(seq_tup_read + coalesce(idx_tup_fetch, 0)), 0)::bigint \
              FROM pg_stat_user_tables) \
             FROM pg_stat_activity WHERE application_name = 'throng' AND datname = current_database()"
        }
        _ => {
            "SELECT CAST(count(*) AS SIGNED), \
             CAST(coalesce(sum(command <> 'Sleep' AND id <> connection_id()), 0) AS SIGNED), \
             CAST((SELECT variable_value FROM information_schema.global_status \
              WHERE variable_name = 'INNODB_ROWS_READ') AS SIGNED) \
             FROM information_schema.processlist WHERE db = database()"
        }
    };
    let row = lease.fetch_one(Statement::from_string(backend, sql), true).await.ok()??;
    let number = |at| row.try_get_by_index::<i64>(at).ok().map(i64::cast_unsigned);
    Some([number(0)?, number(1)?, number(2)?])
}

const ANSWER: Duration = Duration::from_secs(1);
