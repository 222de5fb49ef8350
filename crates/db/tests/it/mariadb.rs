//! The MariaDB engine on a real primary with a replica.

use throng_db::{Db, conformance};

use crate::servers::{self, mariadb::MariaDb};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn it_conforms_on_a_primary_with_a_replica() {
    let Some(cluster) = MariaDb::start(1) else { return servers::skip("no MariaDB") };
    let db = Db::open(&cluster.url("")).await.unwrap();
    conformance::exercise(&db).await;
    conformance::exercise(&db.visitor(None)).await;
    println!("{:#?}", db.status());
    db.close().await;
}
