//! Stands in for the crate `sea_orm` in its own tests: the same, except that a connection is ours.
#![allow(ambiguous_glob_reexports, reason = "what is named below wins over what the globs bring")]

pub use real_sea_orm::*;
use throng_db::Db;

/// Our handle under the name that the tests know.
pub type DatabaseConnection = Db;
/// The same, short.
pub type DbConn = Db;
/// Our transaction under the name that the tests know.
pub type DatabaseTransaction = throng_db::Tx;

pub mod entity {
    //! As in SeaORM.
    pub use real_sea_orm::entity::*;

    pub mod prelude {
        //! As in SeaORM.
        pub use real_sea_orm::entity::prelude::*;

        pub use crate::{DatabaseConnection, DbConn};
    }
}

/// Opens our handle for a URL of SeaORM's tests.
#[derive(Debug)]
pub struct Database;

impl Database {
    /// Connects as SeaORM does. `THRONG_SUITE_HOSTS` lists the servers that stand behind the URL's
    /// one; each `sqlite::memory:` is a file of its own.
    ///
    /// # Errors
    /// What stands in the way.
    pub async fn connect(options: impl Into<ConnectOptions>) -> Result<Db, DbErr> {
        let options = options.into();
        let url = options.get_url();
        let url = if url.starts_with("sqlite") {
            let folder = std::env::temp_dir().join(format!("throng-suite-{}", std::process::id()));
            let count = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            format!("sqlite:{}/{count}.db", folder.display())
        } else {
            with_hosts(url)
        };
        Db::open(&url).await.map_err(|error| DbErr::Custom(format!("{error}: {error:?}")))
    }
}

/// `scheme://user:password@host/name` with the hosts of the environment.
fn with_hosts(url: &str) -> String {
    let Ok(hosts) = std::env::var("THRONG_SUITE_HOSTS") else { return url.to_owned() };
    let (login, rest) = url.split_once('@').unwrap_or_else(|| panic!("no `@` in {url}"));
    let name = rest.split('/').nth(1).unwrap_or_default();
    let options = std::env::var("THRONG_SUITE_OPTIONS").unwrap_or_default();
    format!("{login}@{hosts}/{name}{options}")
}

static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
