//! From a URL to a client that connects there, with its login, database and TLS.

use ::redis::{
    Client, ConnectionAddr, IntoConnectionInfo, ProtocolVersion, RedisConnectionInfo, RedisError,
    TlsCertificates,
};
use throng_core::EngineUrl;

use crate::Result;

/// The client, and its server as `host:port`.
pub(super) fn client(
    url: &EngineUrl,
    ca: Option<&str>,
    is_tracking: bool,
) -> Result<(Client, String)> {
    let [host] = url.hosts() else {
        let reason = "one Redis server is named, like redis://127.0.0.1:6379/0";
        return Err(url.fault("host", reason).into());
    };
    let database: i64 = match url.path().trim_matches('/') {
        "" => 0,
        number => number
            .parse()
            .map_err(|_| url.fault("path", "it is the number of a database, like /0"))?,
    };
    let mut login = RedisConnectionInfo::default().set_db(database);
    if let Some(user) = url.user() {
        login = login.set_username(user);
    }
    if let Some(password) = url.password() {
        login = login.set_password(password.reveal());
    }
    if is_tracking {
        // The older one has no way to say what was not asked.
        login = login.set_protocol(ProtocolVersion::RESP3);
    }
    let (name, port) = (host.name.clone(), host.port.unwrap_or(6_379));
    let is_sealed = url.scheme() == "rediss";
    let address = if is_sealed {
        ConnectionAddr::TcpTls { host: name, port, insecure: false, tls_params: None }
    } else {
        ConnectionAddr::Tcp(name, port)
    };
    let wrong = |error: RedisError| url.fault("address", error.to_string());
    let place = address.into_connection_info().map_err(wrong)?.set_redis_settings(login);
    let root_cert = match ca {
        None => None,
        Some(_) if !is_sealed => {
            return Err(url.fault("option `ca`", "it goes with `rediss:`").into());
        }
        Some(path) => {
            let read = std::fs::read(path);
            Some(read.map_err(|e| url.fault("option `ca`", format!("cannot read {path}: {e}")))?)
        }
    };
    let client = if is_sealed {
        // The driver takes the one that the process has chosen, and panics where none was and a
        // second one is linked: so `ring` is chosen, unless somebody has.
        if rustls::crypto::CryptoProvider::get_default().is_none() {
            let _ = rustls::crypto::ring::default_provider().install_default();
        }
        Client::build_with_tls(place, TlsCertificates { client_tls: None, root_cert })
    } else {
        Client::open(place)
    };
    Ok((client.map_err(wrong)?, host.address(6_379)))
}
