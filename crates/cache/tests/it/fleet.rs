//! Five processes with two hundred readers each, over two hundred expiries: one load for each.

use std::{
    io::{Read, Write},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
};

use throng_cache::Error;

use super::{servers::Servers, *};

const PROCESSES: usize = 5;
const READERS: usize = 200;
const EXPIRIES: usize = 200;

#[test]
fn an_expiry_costs_one_load_among_a_thousand_readers_in_five_processes() {
    let Some(servers) = Servers::start(1) else { return };
    let url = servers.url("timeout=20s");
    let mut processes: Vec<Child> = (0..PROCESSES).map(|_| launch(&url)).collect();
    let mut value = servers.wait_for_other("hot", "");
    for _ in 0..EXPIRIES {
        // What an expiry does to the item, without waiting for its second to pass.
        assert_eq!(servers.ask(0, "md hot I\r\n"), "HD\r\n");
        value = servers.wait_for_other("hot", &value);
    }
    let mut loads = 0;
    for process in &mut processes {
        drop(process.stdin.take());
        let mut told = String::new();
        process.stdout.take().expect("it is piped").read_to_string(&mut told).expect("it is text");
        assert!(process.wait().expect("it is ours").success(), "{told}");
        let told = told.lines().find_map(|line| line.strip_prefix("fleet: "));
        let told: Vec<u32> = told.expect("each process tells").split(' ').map(number).collect();
        assert!(told[1] > 0, "every process read");
        assert_eq!(told[2], 0, "no reader waited for a refresh");
        loads += told[0];
    }
    assert_eq!(loads as usize, 1 + EXPIRIES, "the first load, and one for each expiry");
}

/// One of the processes, when the test above starts it; nothing otherwise.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_process_of_the_fleet() {
    let Ok(url) = std::env::var(FLEET_URL) else { return };
    let config = Config { near_ms: 5, early: 0.0, ..Config::default() };
    let cache = config.open(&url).await.unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let (loads, reads, waits) = <(Arc<AtomicU32>, Arc<AtomicU32>, Arc<AtomicU32>)>::default();
    let mut readers = tokio::task::JoinSet::new();
    for reader in 0..READERS as u64 {
        let (cache, stop) = (cache.clone(), Arc::clone(&stop));
        let (loads, reads, waits) = (Arc::clone(&loads), Arc::clone(&reads), Arc::clone(&waits));
        readers.spawn(async move {
            let mut is_first = true;
            while !stop.load(Ordering::Relaxed) {
                let begun = loads.load(Ordering::SeqCst);
                let load = {
                    let loads = Arc::clone(&loads);
                    move || async move {
                        let number = loads.fetch_add(1, Ordering::SeqCst);
                        tokio::time::sleep(Duration::from_millis(10)).await;
                        Ok::<_, Error>(format!("{}.{number}", std::process::id()))
                    }
                };
                let read = cache.fetch("hot", Duration::from_secs(600), load).await.unwrap();
                // What a load brought that began after the read did, the read has waited for.
                let ours = format!("{}.", std::process::id());
                let load_of_ours = read.strip_prefix(&ours).map(number);
                let has_waited = !is_first && load_of_ours.is_some_and(|load| load >= begun);
                waits.fetch_add(u32::from(has_waited), Ordering::Relaxed);
                reads.fetch_add(1, Ordering::Relaxed);
                is_first = false;
                tokio::time::sleep(Duration::from_millis(40 + reader % 20)).await;
            }
        });
    }
    let ended = tokio::task::spawn_blocking(|| std::io::stdin().read(&mut [0; 1]));
    ended.await.unwrap().unwrap();
    stop.store(true, Ordering::Relaxed);
    readers.join_all().await;
    cache.settle().await;
    let count = |count: &AtomicU32| count.load(Ordering::SeqCst);
    let mut out = std::io::stdout();
    writeln!(out, "\nfleet: {} {} {}", count(&loads), count(&reads), count(&waits)).unwrap();
}

fn launch(url: &str) -> Child {
    let program = std::env::current_exe().expect("a test knows its program");
    Command::new(program)
        .args(["--exact", "fleet::one_process_of_the_fleet", "--nocapture"])
        .env(FLEET_URL, url)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("a test can run itself")
}

fn number(text: &str) -> u32 {
    text.parse().expect("it is a number")
}

const FLEET_URL: &str = "THRONG_CACHE_TEST_FLEET_URL";
