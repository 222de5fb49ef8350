//! Callers who share a memcached's connection: everybody is given his own answer, whoever else goes
//! away halfway, forgets that he asked, or asks at the same time.

use std::{
    future::Future,
    pin::pin,
    task::{Context, Poll, Waker},
};

use throng_cache::engine::Memcached;
use throng_core::EngineUrl;

use super::{servers::Servers, *};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn callers_who_go_away_halfway_leave_everybody_his_own_answer() {
    let Some(servers) = Servers::start(2) else { return };
    let url = servers.url("ring=rendezvous&timeout=30s");
    let cache = Config { near_ms: 0, ..Config::default() }.open(&url).await.unwrap();
    let key = |number: u32| format!("k:{}", number % 50);
    // From one segment to several reads.
    let value =
        |number: u32| format!("{}:{}", number % 50, "x".repeat(800 * (number as usize % 50)));
    for number in 0..50 {
        cache.set(key(number), &value(number), MINUTE).await.unwrap();
    }
    let mut callers = tokio::task::JoinSet::new();
    for caller in 0..16_u32 {
        let cache = cache.clone();
        callers.spawn(async move {
            for round in 0..150 {
                let number = caller * 7 + round * 13;
                let patience = Duration::from_micros(u64::from((caller + round) % 40 * 10));
                let goes_away = round % 3 == 1;
                if round % 5 == 0 {
                    let keys: Vec<String> = (number..number + 10).map(key).collect();
                    let read = cache.get_many::<String>(&keys);
                    if goes_away {
                        let _ = tokio::time::timeout(patience, read).await;
                    } else {
                        let read = read.await.unwrap();
                        assert!((number..number + 10).all(|at| read[&key(at)] == value(at)));
                    }
                } else if round % 11 == 0 {
                    let (key, value) = (key(number), value(number));
                    let _ = tokio::time::timeout(patience, cache.set(key, &value, MINUTE)).await;
                } else if goes_away {
                    let _ = tokio::time::timeout(patience, cache.get::<String>(key(number))).await;
                } else {
                    let read = cache.get::<String>(key(number)).await.unwrap();
                    assert_eq!(read, Some(value(number)));
                }
            }
        });
    }
    callers.join_all().await;
    for server in 0..2 {
        // Those that the test itself makes, to ask this, count too.
        let said = servers.ask(server, "stats\r\n");
        let made = said.lines().find_map(|line| line.strip_prefix("STAT total_connections "));
        let made: u32 = made.and_then(|made| made.trim().parse().ok()).unwrap();
        assert!(made < 10, "whoever goes away costs no connection: {made}");
    }
}

#[tokio::test]
async fn a_caller_who_forgets_that_he_asked_keeps_nobody_waiting() {
    let Some(servers) = Servers::start(1) else { return };
    let url = EngineUrl::parse(&servers.url("timeout=1s")).unwrap();
    let engine = Memcached::open(&url, &Clock::system()).unwrap();
    let cache = Config { near_ms: 0, ..Config::default() }.with_engine(engine.clone());
    for (key, value) in [("one", 1), ("two", 2)] {
        cache.set(key, &value, MINUTE).await.unwrap();
    }
    let mut forgotten = pin!(cache.get::<i32>("one"));
    let polled = forgotten.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    assert!(matches!(polled, Poll::Pending), "it has asked");
    assert_eq!(cache.get::<i32>("two").await.unwrap(), Some(2));
    assert!(engine.owner("one").unwrap().is_some(), "and nobody takes the server for dead");
    assert_eq!(cache.get::<i32>("one").await.unwrap(), Some(1));
}

#[tokio::test]
async fn a_server_that_hangs_is_waited_for_by_whoever_comes_next_too() {
    let Some(servers) = Servers::start(1) else { return };
    let cache = Config { near_ms: 0, ..Config::default() };
    let cache = cache.open(&servers.url("timeout=30s")).await.unwrap();
    for (key, value) in [("one", 1), ("two", 2)] {
        cache.set(key, &value, MINUTE).await.unwrap();
    }
    for _ in 0..20 {
        servers.signal(0, "STOP");
        let mut gone = Box::pin(cache.get::<i32>("one"));
        let polled = gone.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        assert!(matches!(polled, Poll::Pending), "it has asked");
        drop(gone);
        let next = tokio::spawn({
            let cache = cache.clone();
            async move { cache.get::<i32>("two").await.unwrap() }
        });
        tokio::task::yield_now().await;
        servers.signal(0, "CONT");
        assert_eq!(next.await.unwrap(), Some(2), "and not what the one before asked for");
        assert_eq!(cache.get::<i32>("one").await.unwrap(), Some(1));
    }
}

#[tokio::test]
async fn a_write_whose_caller_left_before_it_was_sent_is_not_made() {
    let Some(servers) = Servers::start(1) else { return };
    let cache = Config { near_ms: 0, ..Config::default() };
    let cache = cache.open(&servers.url("timeout=30s")).await.unwrap();
    cache.set("k", &1, MINUTE).await.unwrap();
    let mut cx = Context::from_waker(Waker::noop());
    for round in 0..20 {
        let mut first = Box::pin(cache.get::<i32>("k"));
        assert!(first.as_mut().poll(&mut cx).is_pending(), "it has the connection");
        let value = -1 - round;
        let mut gone = Box::pin(cache.set("k", &value, MINUTE));
        assert!(gone.as_mut().poll(&mut cx).is_pending(), "it waits for its turn");
        drop(gone);
        assert_eq!(first.await.unwrap(), Some(1));
        // It would undo what was written since by whoever found the connection free.
        assert_eq!(cache.get::<i32>("k").await.unwrap(), Some(1), "{round}");
    }
}

#[tokio::test]
async fn who_waits_for_a_server_that_hangs_keeps_nobody_from_the_others() {
    let Some(servers) = Servers::start(2) else { return };
    let url = EngineUrl::parse(&servers.url("ring=rendezvous&timeout=30s")).unwrap();
    let engine = Memcached::open(&url, &Clock::system()).unwrap();
    let cache = Config { near_ms: 0, ..Config::default() }.with_engine(engine.clone());
    let keys: Vec<String> = (0..20).map(|number| format!("k:{number}")).collect();
    for key in &keys {
        cache.set(key, &1, MINUTE).await.unwrap();
    }
    let well = servers.addresses().swap_remove(1);
    let on_the_other = keys.iter().find(|key| engine.owner(key).unwrap().as_ref() == Some(&well));
    servers.signal(0, "STOP");
    let all = tokio::spawn({
        let (cache, keys) = (cache.clone(), keys.clone());
        async move { cache.get_many::<i32>(&keys).await.unwrap().len() }
    });
    tokio::task::yield_now().await;
    for _ in 0..50 {
        assert_eq!(cache.get::<i32>(on_the_other.unwrap()).await.unwrap(), Some(1));
    }
    assert!(!all.is_finished(), "it still waits for the server that hangs");
    servers.signal(0, "CONT");
    assert_eq!(all.await.unwrap(), 20);
}
