//! A person with a browser: signs up, buys a ticket, prints it. Real Chromium, the real binary.

use std::{
    net::{Ipv4Addr, TcpListener},
    path::Path,
    process::Stdio,
    time::Duration,
};

use fantoccini::{Client, ClientBuilder, Locator};
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::json;
use tokio::process::{Child, Command};

use crate::house::boxoffice;

#[tokio::test]
async fn a_visitor_signs_up_buys_a_ticket_and_finds_the_order_number_in_the_pdf() {
    let Some(stage) = Stage::set("").await else { return };
    let outcome = tokio::time::timeout(PATIENCE, buy(&stage.browser, stage.port, stage.folder()));
    let outcome = outcome.await;
    stage.browser.close().await.unwrap();
    outcome.expect("the visit takes too long");
}

/// The real program with demo data, and a browser before it.
pub(crate) struct Stage {
    pub(crate) browser: Client,
    /// Where the site listens.
    pub(crate) port: u16,
    folder: tempfile::TempDir,
    _site: Child,
    _driver: Child,
}

impl Stage {
    /// A site with this `throng.toml`; none, told aloud, without the programs that it takes.
    pub(crate) async fn set(config: &str) -> Option<Self> {
        let Ok(driver) = std::env::var("THRONG_TEST_CHROMEDRIVER") else {
            println!("skip: THRONG_TEST_CHROMEDRIVER names no chromedriver");
            return None;
        };
        let Ok(chromium) = std::env::var("THRONG_TEST_CHROMIUM") else {
            println!("skip: THRONG_TEST_CHROMIUM names no browser");
            return None;
        };
        if Command::new("pdftotext").arg("-v").stderr(Stdio::null()).status().await.is_err() {
            println!("skip: there is no pdftotext to read the ticket with");
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("throng.toml"), config).unwrap();
        let site = free_port();
        let running = boxoffice(folder.path())
            .env("THRONG_WEB_LISTEN", format!("127.0.0.1:{site}"))
            .spawn()
            .unwrap();
        let port = free_port();
        let driver = Command::new(driver)
            .arg(format!("--port={port}"))
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        answers(site).await;
        answers(port).await;
        let browser = open(port, &chromium, folder.path()).await;
        Some(Self { browser, port: site, folder, _site: running, _driver: driver })
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }
}

/// Signs up as Ada, buys the first ticket that is on sale, and reads the order number in its PDF.
pub(crate) async fn buy(browser: &Client, site: u16, folder: &Path) {
    let base = format!("http://127.0.0.1:{site}");
    browser.goto(&format!("{base}/sign-up?next=/events")).await.unwrap();
    for (name, value) in [
        ("name", "Ada Łovelace"),
        ("username", "ada"),
        ("email", "ada@example.com"),
        ("password", "a short sentence"),
    ] {
        field(browser, name).await.send_keys(value).await.unwrap();
    }
    press(browser, "main form button").await;
    wait(browser, ".note.good").await;

    // The first event on the list that is on sale.
    let links = browser.find_all(Locator::Css(".line h3 a")).await.unwrap();
    let mut paths = Vec::new();
    for link in links {
        paths.push(link.attr("href").await.unwrap().unwrap());
    }
    for path in paths {
        browser.goto(&format!("{base}{path}")).await.unwrap();
        if browser.find(Locator::Css("#quantity")).await.is_ok() {
            break;
        }
    }
    press(browser, ".buybox form button").await;
    wait(browser, ".clock").await;
    if let Ok(card) = browser.find(Locator::Css("[name=card]")).await {
        card.send_keys("4242 4242 4242 4242").await.unwrap();
    }
    press(browser, "main form button.buy").await;

    // The page loads itself anew once a worker has made the ticket, and after that no more: what
    // was found on it earlier would be gone.
    let link = wait(browser, "a[href$=\"ticket.pdf\"]").await.attr("href").await.unwrap().unwrap();
    let number = wait(browser, ".number").await.text().await.unwrap();
    assert!(number.starts_with("BX-"), "{number}");
    let script = "const done = arguments[arguments.length - 1];
        fetch(arguments[0]).then(answer => answer.bytes()).then(bytes => done([...bytes]));";
    let bytes = browser.execute_async(script, vec![json!(link)]).await.unwrap();
    let bytes: Vec<u8> = serde_json::from_value(bytes).unwrap();
    let pdf = folder.join("ticket.pdf");
    std::fs::write(&pdf, bytes).unwrap();
    let text = Command::new("pdftotext").arg(&pdf).arg("-").output().await.unwrap();
    let text = String::from_utf8(text.stdout).unwrap();
    assert!(text.contains(&number), "the ticket does not say {number}: {text}");
    assert!(text.contains("Ada Łovelace"), "{text}");
}

async fn open(port: u16, chromium: &str, folder: &Path) -> Client {
    let profile = format!("--user-data-dir={}", folder.join("profile").display());
    let mut flags = FLAGS.to_vec();
    flags.push(&profile);
    let options = json!({ "binary": chromium, "args": flags });
    let capabilities = [("goog:chromeOptions".to_owned(), options)].into_iter().collect();
    let mut builder = ClientBuilder::new(HttpConnector::new());
    let driver = format!("http://127.0.0.1:{port}");
    builder.capabilities(capabilities).connect(&driver).await.unwrap()
}

async fn field(browser: &Client, name: &str) -> fantoccini::elements::Element {
    wait(browser, &format!("#f-{name}")).await
}

pub(crate) async fn press(browser: &Client, button: &str) {
    wait(browser, button).await.click().await.unwrap();
}

pub(crate) async fn wait(browser: &Client, selector: &str) -> fantoccini::elements::Element {
    let found = browser.wait().at_most(PATIENCE).for_element(Locator::Css(selector)).await;
    found.unwrap_or_else(|error| panic!("no {selector} on the page: {error}"))
}

/// Waits until something listens on `port`.
async fn answers(port: u16) {
    let connect = async {
        while tokio::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, connect).await.expect("nothing listens");
}

fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

const PATIENCE: Duration = Duration::from_secs(60);
const FLAGS: [&str; 8] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
];
