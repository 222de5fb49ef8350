//! From a URL with several hosts to a watched cluster.

use sea_orm::DbBackend;
use throng_core::{EngineUrl, url::Host};

#[cfg(feature = "mysql")]
use crate::engine::mysql;
#[cfg(feature = "postgres")]
use crate::engine::postgres;
use crate::{
    Db,
    cluster::Servers,
    config::Config,
    engine::Connector,
    error::{Error, Result, conn},
    fleet::{Fleet, Seat},
};

#[cfg(feature = "postgres")]
pub(crate) async fn open_postgres(url: &EngineUrl, config: Config) -> Result<Db> {
    let connector = |host: &Host, config: &Config| {
        Connector::Postgres(postgres::Connector::new(url, host, config))
    };
    let (fleet, config) = open(url, config, postgres::PORT, connector).await?;
    let servers = Servers::Fleet(fleet);
    Ok(Db::new(servers, DbBackend::Postgres, true, url.to_string(), config.clock))
}

#[cfg(feature = "mysql")]
pub(crate) async fn open_mysql(url: &EngineUrl, config: Config) -> Result<Db> {
    let connector =
        |host: &Host, config: &Config| Connector::MySql(mysql::Connector::new(url, host, config));
    let (fleet, config) = open(url, config, mysql::PORT, connector).await?;
    // MariaDB knows RETURNING, but SeaORM's builder never writes it for this dialect.
    let has_returning = false;
    let servers = Servers::Fleet(fleet);
    Ok(Db::new(servers, DbBackend::MySql, has_returning, url.to_string(), config.clock))
}

async fn open(
    url: &EngineUrl,
    mut config: Config,
    port: u16,
    connector: impl Fn(&Host, &Config) -> Connector,
) -> Result<(std::sync::Arc<Fleet>, Config)> {
    let reporting = read(url, &mut config)?;
    let visitors = url.hosts().iter().map(|host| (host, false));
    let mut seats = Vec::new();
    for (host, is_reporting) in visitors.chain(reporting.iter().map(|host| (host, true))) {
        seats.push(Seat {
            name: host.address(port),
            connector: connector(host, &config),
            probe: connector(host, &config),
            is_reporting,
        });
    }
    let fleet = Fleet::open(seats, &config)
        .await
        .map_err(|source| Error::Connect { url: url.to_string(), source: conn(source) })?;
    Ok((fleet, config))
}

/// Reads the options of a URL, and gives the hosts that are for reports.
pub(crate) fn read(url: &EngineUrl, config: &mut Config) -> Result<Vec<Host>> {
    let mut options = url.options();
    config.take_server(&mut options)?;
    let reporting = options.take::<String>("reporting")?.unwrap_or_default();
    options.finish()?;
    if url.hosts().is_empty() {
        let reason = "it needs a host, or several: `host:port,host:port`";
        return Err(url.fault("host", reason).into());
    }
    if url.path().trim_matches('/').is_empty() {
        return Err(url.fault("path", "it must name a database").into());
    }
    // The list of reporting servers has the form of a URL's hosts.
    match reporting.as_str() {
        "" => Ok(Vec::new()),
        list => Ok(EngineUrl::parse(&format!("hosts://{list}"))?.hosts().to_vec()),
    }
}
