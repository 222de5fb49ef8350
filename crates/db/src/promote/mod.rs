//! Promotes the most advanced standby after the primary has died.

#[cfg(feature = "mysql")]
mod mysql;
#[cfg(feature = "postgres")]
mod postgres;

use std::time::{Duration, Instant};

use sea_orm::{DbBackend, DbErr, QueryResult, Statement};
use serde::Serialize;
use throng_core::{EngineUrl, url::Host};
use tokio::time::timeout;

use crate::{
    config::Config,
    engine::{Conn, Connector},
    error::{Error, Result, conn, refused},
    sight::{Position, Sight},
    topology,
};

/// What [`promote`] did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Promoted {
    /// The new primary.
    pub name: String,
    /// Where it stood: timeline and place in the log, or domain and sequence number.
    pub position: String,
    /// The standbys that follow it now.
    pub followers: Vec<String>,
    /// The standbys that could not be pointed to it, with what they said.
    pub left_behind: Vec<(String, String)>,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
}

/// A standby that answers.
struct Standby {
    name: String,
    host: Host,
    conn: Conn,
    /// What it has received, replayed or not.
    position: Position,
    /// It follows, and is never promoted.
    is_reporting: bool,
}

/// Promotes the most advanced standby of a cluster whose primary is gone, and makes the other
/// standbys follow it. PostgreSQL and MariaDB.
///
/// With `synchronous_standby_names = 'ANY 1 (…)'` on PostgreSQL's primary, or semi-synchronous
/// replication on MariaDB's, an acknowledged commit is on at least one standby; it is on the most
/// advanced one when all of them are seen. So all standbys of the URL must answer, and the primary
/// must not. Replicas for reports are never promoted.
///
/// # Errors
/// When a primary answers, a standby does not, or the promotion fails; nothing is changed before
/// every check has passed.
pub async fn promote(url: &EngineUrl) -> Result<Promoted> {
    match url.scheme() {
        #[cfg(feature = "postgres")]
        "postgres" | "postgresql" => promote_with(url, Engine::Postgres).await,
        #[cfg(feature = "mysql")]
        "mariadb" | "mysql" => promote_with(url, Engine::MariaDb).await,
        scheme => {
            let reason = format!("`{scheme}` has no standbys; `postgres` and `mariadb` have");
            Err(url.fault("scheme", reason).into())
        }
    }
}

/// How each engine does it.
#[derive(Clone, Copy)]
enum Engine {
    #[cfg(feature = "postgres")]
    Postgres,
    #[cfg(feature = "mysql")]
    MariaDb,
}

async fn promote_with(url: &EngineUrl, engine: Engine) -> Result<Promoted> {
    let start = Instant::now();
    let doing = |source| Error::Query { doing: DOING, source };
    let mut standbys = gather(url, engine).await?;
    engine.settle(&mut standbys).await.map_err(doing)?;
    let best = standbys
        .iter()
        .enumerate()
        .filter(|(_, standby)| !standby.is_reporting)
        .max_by_key(|(_, standby)| (standby.position.timeline, standby.position.at))
        .map(|(at, _)| at)
        .ok_or_else(|| doing(refused("the URL names no standby")))?;
    let mut best = standbys.swap_remove(best);
    engine.raise(&mut best).await.map_err(doing)?;
    let (mut followers, mut left_behind) = (Vec::new(), Vec::new());
    for mut standby in standbys {
        // The site has a primary by now; one that does not follow it is no reason to fail.
        match engine.follow(&mut standby, &best.host).await {
            Ok(()) => followers.push(standby.name),
            Err(error) => left_behind.push((standby.name, error.to_string())),
        }
    }
    tracing::info!("promoted {} after {} ms", best.name, start.elapsed().as_millis());
    let took_ms = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
    let position = best.position.to_string();
    Ok(Promoted { name: best.name, position, followers, left_behind, took_ms })
}

/// Connects to every server of the URL and checks that nothing speaks against a promotion.
async fn gather(url: &EngineUrl, engine: Engine) -> Result<Vec<Standby>> {
    let mut config = Config::default();
    let reporting = topology::read(url, &mut config)?;
    config.statement_timeout_ms = 0;
    let mut standbys = Vec::new();
    let mut silent = Vec::new();
    let visitors = url.hosts().iter().map(|host| (host, false));
    for (host, is_reporting) in visitors.chain(reporting.iter().map(|host| (host, true))) {
        let name = host.address(engine.port());
        let Some((conn, sight)) = ask(&engine.connector(url, host, &config)).await else {
            if !is_reporting {
                silent.push(name);
            }
            continue;
        };
        if sight.is_primary {
            return Err(refusal(format!("{name} is the primary and answers; stop it first")));
        }
        let (host, position) = (host.clone(), sight.position);
        standbys.push(Standby { name, host, conn, position, is_reporting });
    }
    // The dead primary is one of the servers; whoever else is silent may have the last commits.
    if silent.len() > 1 {
        let silent = silent.join(" and ");
        return Err(refusal(format!(
            "only the primary may be silent, but {silent} are: the last commits may be on one of \
             them; start it, or take it out of the URL if it is gone for good"
        )));
    }
    if standbys.is_empty() {
        let source = conn(sqlx::Error::PoolClosed);
        return Err(Error::Connect { url: url.to_string(), source });
    }
    Ok(standbys)
}

async fn ask(connector: &Connector) -> Option<(Conn, Sight)> {
    let mut conn = timeout(ANSWER, connector.connect()).await.ok()?.ok()?;
    let sight = timeout(ANSWER, conn.look()).await.ok()?.ok()??;
    Some((conn, sight))
}

impl Engine {
    fn port(self) -> u16 {
        match self {
            #[cfg(feature = "postgres")]
            Self::Postgres => crate::engine::postgres::PORT,
            #[cfg(feature = "mysql")]
            Self::MariaDb => crate::engine::mysql::PORT,
        }
    }

    fn connector(self, url: &EngineUrl, host: &Host, config: &Config) -> Connector {
        match self {
            #[cfg(feature = "postgres")]
            Self::Postgres => {
                Connector::Postgres(crate::engine::postgres::Connector::new(url, host, config))
            }
            #[cfg(feature = "mysql")]
            Self::MariaDb => {
                Connector::MySql(crate::engine::mysql::Connector::new(url, host, config))
            }
        }
    }

    /// Waits until nothing arrives any more, and notes how much each standby has received.
    async fn settle(self, standbys: &mut [Standby]) -> Result<(), DbErr> {
        for standby in standbys {
            standby.position = match self {
                #[cfg(feature = "postgres")]
                Self::Postgres => postgres::settle(standby).await?,
                #[cfg(feature = "mysql")]
                Self::MariaDb => mysql::settle(standby).await?,
            };
        }
        Ok(())
    }

    /// Makes the standby the primary.
    async fn raise(self, standby: &mut Standby) -> Result<(), DbErr> {
        match self {
            #[cfg(feature = "postgres")]
            Self::Postgres => postgres::raise(standby).await,
            #[cfg(feature = "mysql")]
            Self::MariaDb => mysql::raise(standby).await,
        }
    }

    /// Points a standby to the new primary.
    async fn follow(self, standby: &mut Standby, primary: &Host) -> Result<(), DbErr> {
        match self {
            #[cfg(feature = "postgres")]
            Self::Postgres => postgres::follow(&mut standby.conn, primary).await,
            #[cfg(feature = "mysql")]
            Self::MariaDb => mysql::follow(&mut standby.conn, primary).await,
        }
    }
}

async fn row(conn: &mut Conn, backend: DbBackend, sql: &str) -> Result<QueryResult, DbErr> {
    let row = conn.fetch_one(Statement::from_string(backend, sql), true).await?;
    row.ok_or_else(|| refused("the server gave no answer"))
}

fn refusal(reason: String) -> Error {
    Error::Query { doing: DOING, source: refused(reason) }
}

const DOING: &str = "promote a standby";
/// A server that takes longer is not there.
const ANSWER: Duration = Duration::from_millis(1_000);
/// How long a standby may take to notice that the primary is gone.
const RECEIVERS_STOP: Duration = Duration::from_secs(3);
