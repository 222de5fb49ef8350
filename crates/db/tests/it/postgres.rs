//! The PostgreSQL engine on a real primary with replicas.

use throng_db::{Db, conformance};

use crate::servers::{self, postgres::Postgres};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn it_conforms_on_a_primary_with_replicas() {
    let Some(cluster) = Postgres::start(2) else { return servers::skip("no PostgreSQL") };
    let db = Db::open(&cluster.url("")).await.unwrap();
    conformance::exercise(&db).await;
    conformance::exercise(&db.visitor(None)).await;
    println!("{:#?}", db.status());
    db.close().await;
}
