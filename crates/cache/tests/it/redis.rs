//! The cache on a real Redis: the shared suite, one load in the fleet, and a server that is away.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use throng_cache::{Engine, Error, Life, engine::Redis};
use throng_core::EngineUrl;

use super::{servers::Servers, *};

#[tokio::test(flavor = "multi_thread")]
async fn redis_conforms_with_values_of_ours_and_of_pythons() {
    let Some(server) = Servers::start_redis() else { return };
    let mut suites = tokio::task::JoinSet::new();
    for options in [
        "timeout=20s",
        "timeout=20s&values=python&prefix=site&version=3",
        "timeout=20s&tracking=true&prefix=tracked",
    ] {
        let engine = open(&server, options);
        suites.spawn(async move {
            let config = Config { near_ms: 100, ..Config::default() };
            conformance::exercise(engine, config, "t", tokio::time::sleep).await.unwrap();
        });
    }
    suites.join_all().await;
}

#[tokio::test]
async fn wrong_redis_urls_are_told_what_would_be_right() {
    let refusal = async |url: &str| Cache::open(url).await.unwrap_err().to_string();
    assert!(refusal("redis://a,b").await.contains("one Redis server is named"));
    assert!(refusal("redis://a/site").await.contains("the number of a database, like /0"));
    assert!(refusal("redis://a?values=json").await.contains("`sealed` or `python`"));
    assert!(refusal("redis://a?ring=crc").await.contains("unknown option `ring`"));
    assert!(refusal("redis://a?ca=x.pem").await.contains("goes with `rediss:`"));
    assert!(refusal("rediss://a?ca=/no/such.pem").await.contains("cannot read /no/such.pem"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expiry_costs_one_load_among_all_who_are_on_a_redis() {
    let Some(server) = Servers::start_redis() else { return };
    let mut caches = Vec::new();
    for _ in 0..5 {
        let config = Config { near_ms: 0, early: 0.0, ..Config::default() };
        caches.push(config.with_engine(open(&server, "timeout=20s")));
    }
    let expiries = 40;
    let mut loads = Vec::new();
    for expiry in 0..expiries {
        let count = Arc::new(AtomicU32::new(0));
        let mut readers = tokio::task::JoinSet::new();
        for reader in 0..100 {
            let (cache, count) = (caches[reader % 5].clone(), Arc::clone(&count));
            readers.spawn(async move {
                let load = move || async move {
                    count.fetch_add(1, Ordering::Relaxed);
                    tokio::time::sleep(Duration::from_millis(5)).await;
                    Ok::<_, Error>(expiry)
                };
                cache.fetch(format!("expiry:{expiry}"), MINUTE, load).await.unwrap()
            });
        }
        assert!(readers.join_all().await.into_iter().all(|value| value == expiry));
        loads.push(count.load(Ordering::Relaxed));
    }
    assert_eq!(loads, vec![1; expiries]);
}

#[tokio::test]
async fn a_redis_that_dies_hangs_or_comes_back_costs_no_error() {
    let Some(mut server) = Servers::start_redis() else { return };
    let engine = open(&server, "timeout=2s&retry=50ms");
    let cache = Config { near_ms: 0, ..Config::default() }.with_engine(engine.clone());
    let loads = Arc::new(AtomicU32::new(0));
    let fetch = async |key: &str| {
        let loads = Arc::clone(&loads);
        let load = move || async move { Ok::<_, Error>(loads.fetch_add(1, Ordering::SeqCst) + 1) };
        cache.fetch(key, Life::of(MINUTE), load).await.expect("a fetch does not fail for a server")
    };
    let shared = async |key: &str| engine.get(&[key]).await.is_ok_and(|found| found[0].is_some());
    assert_eq!((fetch("k").await, fetch("k").await), (1, 1));
    for fault in ["kill", "hang"] {
        match fault {
            "kill" => server.kill(0),
            _ => server.signal(0, "STOP"),
        }
        for _ in 0..20 {
            fetch(&format!("{fault}:away")).await;
        }
        assert!(matches!(cache.set("k", &1, MINUTE).await, Err(Error::Engine { .. })), "{fault}");
        match fault {
            "kill" => server.start_again(0),
            _ => server.signal(0, "CONT"),
        }
        // It is used again by itself, and what is loaded then is shared.
        let back = format!("{fault}:back");
        while !shared(&back).await {
            fetch(&back).await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let before = loads.load(Ordering::SeqCst);
        fetch(&back).await;
        assert_eq!(loads.load(Ordering::SeqCst), before, "{fault}");
    }
}

#[tokio::test]
async fn a_connection_that_was_closed_meanwhile_costs_nothing() {
    let Some(server) = Servers::start_redis() else { return };
    let engine = open(&server, "timeout=20s");
    let cache = Config { near_ms: 0, ..Config::default() }.with_engine(engine);
    for number in 0..20 {
        cache.set("k", &number, MINUTE).await.unwrap();
        assert_eq!(cache.get("k").await.unwrap(), Some(number));
        server.ask(0, "CLIENT KILL TYPE normal SKIPME yes\r\n");
        assert_eq!(cache.get("k").await.unwrap(), Some(number));
        server.ask(0, "CLIENT KILL TYPE normal SKIPME yes\r\n");
    }
}

#[tokio::test]
async fn with_tracking_a_change_by_anybody_drops_the_copy_and_changes_elsewhere_do_not() {
    let Some(server) = Servers::start_redis() else { return };
    let hour = Duration::from_secs(3_600);
    let open = || {
        let config = Config { near_ms: 3_600_000, ..Config::default() };
        config.with_engine(open(&server, "timeout=20s&tracking=true&prefix=site."))
    };
    let (one, other) = (open(), open());
    let life = || Life::of(hour).tag("event:7");
    let fetch = async |cache: &Cache, key: &str, value: u32| {
        let load = move || async move { Ok::<_, Error>(value) };
        cache.fetch(key, life(), load).await.unwrap()
    };
    for key in ["written", "deleted", "tagged", "kept"] {
        assert_eq!((fetch(&one, key, 1).await, fetch(&other, key, 2).await), (1, 1));
    }
    let organiser = one.namespace("organiser/7");
    assert_eq!(fetch(&organiser, "page", 1).await, 1);
    // Until it is seen: what nobody tells, the copy would hide for an hour.
    let see = async |cache: &Cache, key: &str, value: u32| {
        while fetch(cache, key, 3).await != value {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    other.set("written", &2_u32, life()).await.unwrap();
    see(&one, "written", 2).await;
    // Anybody: here a client that knows nothing of the cache.
    server.ask(0, "DEL site.deleted\r\n");
    see(&one, "deleted", 3).await;
    // What it has stored itself comes back to it, and is asked for once more; then it is at rest.
    let (mut misses, mut rests) = (u64::MAX, 0);
    while rests < 20 {
        tokio::time::sleep(Duration::from_millis(5)).await;
        server.ask(0, "SET elsewhere 1\r\n");
        assert_eq!((fetch(&one, "written", 3).await, fetch(&one, "kept", 3).await), (2, 1));
        let now = one.stats().misses;
        rests = if now == misses { rests + 1 } else { 0 };
        misses = now;
    }
    other.expire_namespace("organiser/7").await.unwrap();
    see(&organiser, "page", 3).await;
    other.expire_tag("event:7").await.unwrap();
    see(&one, "tagged", 3).await;
    // What is changed while there is no connection is not told, and what was told is not believed.
    assert_eq!(fetch(&one, "lost", 1).await, 1);
    server.ask(0, "CLIENT KILL TYPE normal SKIPME yes\r\n");
    server.ask(0, "DEL site.lost\r\n");
    see(&one, "lost", 3).await;
    server.ask(0, "FLUSHALL\r\n");
    see(&one, "kept", 3).await;
}

#[tokio::test]
async fn a_password_and_a_database_are_the_urls() {
    let Some(server) = Servers::start_redis() else { return };
    let address = &server.addresses()[0];
    server.ask(0, "CONFIG SET requirepass s3cret\r\n");
    let url = |login: &str, database| format!("redis://{login}{address}/{database}?timeout=20s");
    let zero = Cache::open(&url(":s3cret@", 0)).await.unwrap();
    let one = Cache::open(&url("default:s3cret@", 1)).await.unwrap();
    zero.set("k", &0, MINUTE).await.unwrap();
    one.forget();
    assert_eq!(one.get::<i32>("k").await.unwrap(), None);
    one.set("k", &1, MINUTE).await.unwrap();
    zero.forget();
    assert_eq!(zero.get::<i32>("k").await.unwrap(), Some(0));
    let refused = Cache::open(&url("", 0)).await.unwrap().set("k", &2, MINUTE).await;
    assert!(matches!(refused, Err(Error::Engine { .. })));
}

#[tokio::test]
async fn rediss_speaks_tls_to_a_server_whose_signer_is_known_and_to_no_other() {
    let Some((_server, port)) = Servers::start_redis_with_tls() else { return };
    let ca = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/tls/ca.pem");
    let url = format!("rediss://127.0.0.1:{port}/0?timeout=20s&ca={ca}");
    let cache = Config { near_ms: 0, ..Config::default() }.open(&url).await.unwrap();
    cache.set("k", &1, MINUTE).await.unwrap();
    assert_eq!(cache.get("k").await.unwrap(), Some(1));
    // The system does not know who signed it, and a name is not an address.
    for wrong in [
        format!("rediss://127.0.0.1:{port}/0?timeout=20s"),
        format!("rediss://localhost:{port}/0?timeout=20s&ca={ca}"),
    ] {
        let refused = Cache::open(&wrong).await.unwrap().set("k", &2, MINUTE).await.unwrap_err();
        let cause = std::error::Error::source(&refused).unwrap().to_string();
        assert!(cause.contains("certificate"), "{cause}");
    }
    assert_eq!(cache.get("k").await.unwrap(), Some(1));
}

#[tokio::test]
async fn a_value_over_the_limit_is_refused_by_a_redis_too() {
    let Some(server) = Servers::start_redis() else { return };
    let url = format!("redis://{}?max_item_bytes=1000&timeout=20s", server.addresses()[0]);
    let cache = Cache::open(&url).await.unwrap();
    let refused = cache.set("large", &"x".repeat(2_000), MINUTE).await.unwrap_err().to_string();
    assert!(refused.contains("over the limit of 1000"), "{refused}");
}

#[tokio::test]
async fn what_redis_holds_is_what_djangos_backend_writes_and_reads() {
    let Some(server) = Servers::start_redis() else { return };
    let cache = Config { near_ms: 0, ..Config::default() }
        .with_engine(open(&server, "timeout=20s&values=python&version=1"));
    cache.set("number", &-42, MINUTE).await.unwrap();
    assert_eq!(server.ask(0, "GET :1:number\r\n"), "$3\r\n-42\r\n");
    // pickle.dumps({"a": [1.5, None, True, "é"]}, 5), as Django writes it.
    let pickled = r#"SET :1:dict "\x80\x05\x95\x1c\x00\x00\x00\x00\x00\x00\x00}\x94\x8c\x01a\x94]\x94(G?\xf8\x00\x00\x00\x00\x00\x00N\x88\x8c\x02\xc3\xa9\x94es.""#;
    assert_eq!(server.ask(0, &format!("{pickled}\r\n")), "+OK\r\n");
    let read: Option<serde_json::Value> = cache.get("dict").await.unwrap();
    assert_eq!(read, Some(serde_json::json!({"a": [1.5, null, true, "é"]})));
    // zlib.compress(pickle.dumps("x" * 40, 4)), as django-redis writes it.
    let packed = r#"SET :1:packed "x\x9ck`\x99\xaa\xc3\x00\x01=\x1a\x15D\x82)z\x00\x0at\x15|""#;
    assert_eq!(server.ask(0, &format!("{packed}\r\n")), "+OK\r\n");
    let read: Option<String> = cache.get("packed").await.unwrap();
    assert_eq!(read, Some("x".repeat(40)));
    assert_eq!(server.ask(0, "SET :1:views 41\r\n"), "+OK\r\n");
    assert_eq!(cache.add("views", 1).await.unwrap(), Some(42));
}

fn open(server: &Servers, options: &str) -> Redis {
    let url = format!("redis://{}/0?{options}", server.addresses()[0]);
    let url = EngineUrl::parse(&url).expect("the URL is well formed");
    Redis::open(&url, &Clock::system()).expect("the options are known")
}
