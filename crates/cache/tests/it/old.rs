//! Servers before 1.6: a real memcached behind a door that knows only the classic text protocol.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use throng_cache::{Engine as _, Error, engine::Memcached};
use throng_core::EngineUrl;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream, tcp::OwnedWriteHalf},
    task::JoinSet,
};

use super::{servers::Servers, *};

/// Old servers, which end with the test.
struct Old {
    addresses: Vec<String>,
    /// How many commands of the meta protocol came.
    meta: Arc<AtomicU32>,
    _doors: JoinSet<()>,
}

impl Old {
    async fn before(servers: &Servers) -> Self {
        let (mut addresses, mut doors) = (Vec::new(), JoinSet::new());
        let meta = Arc::<AtomicU32>::default();
        for server in servers.addresses() {
            let door = TcpListener::bind("127.0.0.1:0").await.expect("there are free ports");
            addresses.push(door.local_addr().expect("it is bound").to_string());
            let meta = Arc::clone(&meta);
            doors.spawn(async move {
                let mut guests = JoinSet::new();
                while let Ok((guest, _)) = door.accept().await {
                    let (server, meta) = (server.clone(), Arc::clone(&meta));
                    guests.spawn(async move {
                        let _ = serve(guest, &server, &meta).await;
                    });
                }
            });
        }
        Self { addresses, meta, _doors: doors }
    }

    fn open(&self, options: &str) -> Memcached {
        let url = format!("memcached://{}?{options}&timeout=20s", self.addresses.join(","));
        let url = EngineUrl::parse(&url).expect("the URL is well formed");
        Memcached::open(&url, &Clock::system()).expect("the options are known")
    }
}

/// Passes what a memcached 1.4.39 knows, and says of the rest what that one says.
async fn serve(guest: TcpStream, server: &str, meta: &AtomicU32) -> std::io::Result<()> {
    let (from_guest, to_guest) = guest.into_split();
    let (mut from_server, mut to_server) = TcpStream::connect(server).await?.into_split();
    // Answers stay in order because the door itself answers only when nothing is on its way.
    let to_guest = Arc::new(tokio::sync::Mutex::new(to_guest));
    let (asked, answered) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let mut back = JoinSet::new();
    back.spawn({
        let (to_guest, answered) = (Arc::clone(&to_guest), Arc::clone(&answered));
        async move {
            let mut answers = BufReader::new(&mut from_server);
            while let Ok(answer) = one_answer(&mut answers).await {
                let _ = to_guest.lock().await.write_all(&answer).await;
                answered.fetch_add(1, Ordering::SeqCst);
            }
        }
    });
    let mut commands = BufReader::new(from_guest);
    let mut line = Vec::new();
    loop {
        line.clear();
        if commands.read_until(b'\n', &mut line).await? == 0 {
            return Ok(());
        }
        let text = String::from_utf8_lossy(&line).into_owned();
        let words: Vec<&str> = text.split_ascii_whitespace().collect();
        let answer = match words[0] {
            "version" => "VERSION 1.4.39\r\n",
            "get" | "gets" | "set" | "add" | "cas" | "delete" | "incr" | "decr" => {
                if ["set", "add", "cas"].contains(&words[0]) {
                    let len: usize = words[4].parse().expect("the client writes numbers");
                    let start = line.len();
                    line.resize(start + len + 2, 0);
                    commands.read_exact(&mut line[start..]).await?;
                }
                asked.fetch_add(1, Ordering::SeqCst);
                to_server.write_all(&line).await?;
                continue;
            }
            _ => {
                meta.fetch_add(u32::from(words[0] != "mn"), Ordering::SeqCst);
                "ERROR\r\n"
            }
        };
        while asked.load(Ordering::SeqCst) != answered.load(Ordering::SeqCst) {
            tokio::task::yield_now().await;
        }
        write(&to_guest, answer).await?;
    }
}

async fn write(to: &tokio::sync::Mutex<OwnedWriteHalf>, text: &str) -> std::io::Result<()> {
    to.lock().await.write_all(text.as_bytes()).await
}

async fn one_answer(from: &mut (impl AsyncBufReadExt + Unpin)) -> std::io::Result<Vec<u8>> {
    let mut answer = Vec::new();
    loop {
        let start = answer.len();
        if from.read_until(b'\n', &mut answer).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        let line = String::from_utf8_lossy(&answer[start..]).into_owned();
        if !line.starts_with("VALUE ") {
            return Ok(answer);
        }
        let len = line.split_ascii_whitespace().nth(3).and_then(|len| len.parse::<usize>().ok());
        let start = answer.len();
        answer.resize(start + len.expect("the server writes numbers") + 2, 0);
        from.read_exact(&mut answer[start..]).await?;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_before_1_6_conform_and_see_no_meta_command() {
    let Some(servers) = Servers::start(3) else { return };
    let old = Old::before(&servers).await;
    let mut suites = JoinSet::new();
    for (prefix, options) in [
        ("sealed", "ring=ketama-weighted"),
        ("rendezvous", "ring=rendezvous"),
        ("python", "ring=modula&values=python&prefix=python:"),
    ] {
        let engine = old.open(options);
        suites.spawn(async move {
            let config = Config { near_ms: 100, ..Config::default() };
            conformance::exercise(engine, config, prefix, tokio::time::sleep).await.unwrap();
        });
    }
    suites.join_all().await;
    assert_eq!(old.meta.load(Ordering::SeqCst), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expiry_costs_one_load_in_the_fleet_on_old_servers_too() {
    let Some(servers) = Servers::start(3) else { return };
    let old = Old::before(&servers).await;
    let caches: Vec<Cache> = (0..5)
        .map(|_| {
            let config = Config { near_ms: 0, early: 0.0, ..Config::default() };
            config.with_engine(old.open("ring=ketama"))
        })
        .collect();
    for expiry in 0..20 {
        let count = Arc::new(AtomicU32::new(0));
        let mut readers = JoinSet::new();
        for reader in 0..50 {
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
        assert_eq!(count.load(Ordering::Relaxed), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn old_and_new_servers_may_be_in_one_fleet() {
    let Some(servers) = Servers::start(2) else { return };
    let old = Old::before(&servers).await;
    let url = format!(
        "memcached://{},{}?ring=ketama&timeout=20s",
        old.addresses[0],
        servers.addresses()[1]
    );
    let engine = Memcached::open(&EngineUrl::parse(&url).unwrap(), &Clock::system()).unwrap();
    let owners: std::collections::BTreeSet<_> =
        (0..50).map(|number| engine.owner(&format!("k{number}")).unwrap()).collect();
    assert_eq!(owners.len(), 2);
    let cache = Config { near_ms: 0, ..Config::default() }.with_engine(engine.clone());
    for number in 0..50 {
        let key = format!("k{number}");
        for _ in 0..2 {
            let load = move || async move { Ok::<_, Error>(number) };
            assert_eq!(cache.fetch(&key, MINUTE, load).await.unwrap(), number);
        }
        assert!(engine.get(&[&key]).await.unwrap()[0].is_some());
        assert!(cache.delete(&key).await.unwrap());
    }
    assert_eq!(cache.stats().loads, 50);
    assert_eq!(old.meta.load(Ordering::SeqCst), 0);
}
