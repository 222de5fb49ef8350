//! A database that a test has for itself on a shared server: workers tend whatever they find.

use sea_orm::ConnectionTrait as _;
use throng_db::Db;
use throng_queue::TaskId;

/// A new database, and its URL.
pub(crate) struct Own {
    server: Db,
    pub(crate) name: String,
    pub(crate) url: String,
}

impl Own {
    pub(crate) async fn on(server_url: &str) -> Self {
        let server = crate::databases::reach(server_url).await;
        let name = format!("own_{}", &TaskId::random().as_str()[..8]);
        server.execute_unprepared(&format!("CREATE DATABASE {name}")).await.unwrap();
        let (start, _) = server_url.rsplit_once('/').unwrap();
        Self { url: format!("{start}/{name}"), server, name }
    }

    /// Once nobody is connected to it.
    pub(crate) async fn forget(self) {
        // A connection that was closed a moment ago may still be seen there.
        for _ in 0..100 {
            let drop = format!("DROP DATABASE {}", self.name);
            if self.server.execute_unprepared(&drop).await.is_ok() {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        self.server.close().await;
    }
}
