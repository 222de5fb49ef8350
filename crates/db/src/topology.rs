//! From a URL with several hosts to a watched cluster.

use sea_orm::DbBackend;
use throng_core::{EngineUrl, url::Host};

#[cfg(feature = "mysql")]
use crate::engine::mysql;
#[cfg(feature = "postgres")]
use crate::engine::postgres;
use crate::{
    Db,
    config::Config,
    db::Servers,
    engine::Connector,
    error::{Error, Result, conn},
    fleet::{Fleet, Seat},
};

#[cfg(feature = "postgres")]
pub(crate) async fn open_postgres(url: &EngineUrl, config: Config) -> Result<Db> {
    let connector = |host: &Host, config: &Config| {
        postgres::Connector::new(url, host, config).map(Connector::Postgres)
    };
    let (fleet, config) = open(url, config, postgres::PORT, connector).await?;
    let servers = Servers::Fleet(fleet);
    Ok(Db::new(servers, DbBackend::Postgres, true, url.to_string(), config.clock))
}

#[cfg(feature = "mysql")]
pub(crate) async fn open_mysql(url: &EngineUrl, config: Config) -> Result<Db> {
    let connector = |host: &Host, config: &Config| {
        mysql::Connector::new(url, host, config).map(Connector::MySql)
    };
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
    connector: impl Fn(&Host, &Config) -> Result<Connector>,
) -> Result<(std::sync::Arc<Fleet>, Config)> {
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
    let reporting = match reporting.as_str() {
        "" => Vec::new(),
        list => EngineUrl::parse(&format!("hosts://{list}"))?.hosts().to_vec(),
    };
    let visitors = url.hosts().iter().map(|host| (host, false));
    let mut seats = Vec::new();
    for (host, is_reporting) in visitors.chain(reporting.iter().map(|host| (host, true))) {
        seats.push(Seat {
            name: host.address(port),
            connector: connector(host, &config)?,
            probe: connector(host, &config)?,
            is_reporting,
        });
    }
    let fleet = Fleet::open(seats, &config)
        .await
        .map_err(|source| Error::Connect { url: url.to_string(), source: conn(source) })?;
    Ok((fleet, config))
}
