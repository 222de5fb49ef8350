//! Visitors who do not wait for their answer.

use std::{
    io::Write,
    net::TcpStream,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use http::{Method, Request};
use throng::{
    App,
    testing::{Boot, Browser},
    web::{Body, any},
};
use tokio::sync::Semaphore;

use crate::process::Site;

/// A page that begins, waits until it may go on, and ends.
#[derive(Clone)]
struct Slow {
    begun: Arc<Semaphore>,
    may_end: Arc<Semaphore>,
    ended: Arc<Semaphore>,
    is_dropped: Arc<AtomicBool>,
}

/// Tells of the handler's end, whichever it is.
struct Guard(Slow);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.is_dropped.store(true, Ordering::Relaxed);
    }
}

impl Slow {
    fn new() -> Self {
        let none = || Arc::new(Semaphore::new(0));
        Self {
            begun: none(),
            may_end: none(),
            ended: none(),
            is_dropped: Arc::new(AtomicBool::new(false)),
        }
    }

    fn app(&self) -> App {
        let slow = self.clone();
        let page = any(move || async move {
            let _guard = Guard(slow.clone());
            slow.begun.add_permits(1);
            slow.may_end.acquire().await.unwrap().forget();
            slow.ended.add_permits(1);
        });
        App::new("slow").route("/page", page).accept_from_anywhere("/page")
    }

    /// Sends a request and goes away once it is being answered.
    async fn begin_and_leave(&self, browser: Browser, method: Method) {
        let request = Request::builder().method(method).uri("/page").header("host", "site.test");
        let request = request.body(Body::empty());
        let visit = tokio::spawn(async move { browser.open(request.unwrap()).await });
        wait(&self.begun).await;
        visit.abort();
        assert!(visit.await.unwrap_err().is_cancelled());
    }
}

async fn wait(for_it: &Semaphore) {
    let permit = tokio::time::timeout(Duration::from_secs(60), for_it.acquire()).await;
    permit.expect("it happens").unwrap().forget();
}

#[tokio::test]
async fn what_changes_something_goes_on_when_its_visitor_leaves() {
    for edge in EDGES {
        for method in [Method::POST, Method::PUT, Method::PATCH, Method::DELETE] {
            let slow = Slow::new();
            let site = Boot::default().set("edge.enabled", edge).boot(slow.app()).await;
            slow.begin_and_leave(site.browser(), method).await;
            slow.may_end.add_permits(1);
            wait(&slow.ended).await;
            site.finish().await;
        }
    }
}

#[tokio::test]
async fn what_only_reads_is_dropped_when_its_visitor_leaves() {
    let slow = Slow::new();
    let site = throng::testing::boot(slow.app()).await;
    slow.begin_and_leave(site.browser(), Method::GET).await;
    assert!(slow.is_dropped.load(Ordering::Relaxed));
    site.finish().await;
}

#[tokio::test]
async fn no_more_go_on_at_once_than_there_may_be_connections() {
    let slow = Slow::new();
    let site = Boot::default().set("web.max_connections", "2").boot(slow.app()).await;
    for _ in 0..2 {
        slow.begin_and_leave(site.browser(), Method::POST).await;
    }
    let browser = site.browser();
    let third = tokio::spawn(async move { browser.post("/page", &[("", "")]).await.status() });
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert_eq!(slow.begun.available_permits(), 0, "the third has not begun");
    slow.may_end.add_permits(3);
    assert_eq!(third.await.unwrap(), 200);
    site.finish().await;
}

#[test]
fn a_site_that_stops_waits_for_what_goes_on_without_its_visitor() {
    for edge in EDGES {
        let mut site = Site::start(&[("THRONG_EDGE_ENABLED", edge)]);
        let mut visitor = TcpStream::connect(&site.address).unwrap();
        let request = "POST /hook/slow HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n";
        visitor.write_all(request.as_bytes()).unwrap();
        site.wait_for("a slow write begins");
        drop(visitor);
        assert_eq!(site.stop(), Some(0));
        assert!(site.folder.path().join("written").exists());
    }
}

/// With the page cache before the site and without it.
const EDGES: &[&str] = if cfg!(feature = "edge") { &["false", "true"] } else { &["false"] };
