//! `cargo xtask bench peak`: the talks' peak on this machine. Boxoffice behind the edge in its own
//! process, 25,000 requests a second on a fixed schedule, 95 % of them by strangers over a long tail of
//! events, 5 % by members, for a minute.
//!
//! Both run on the same cores: what the load costs its own process is told beside the figures. Each second
//! of the minute by itself is in `target/bench/peak/seconds.csv`.

mod answer;
mod load;
mod seconds;
mod visitor;

use std::{fs, process::Command, time::Duration};

use anyhow::{Context, Result, bail};

use self::{
    load::{Plan, Spell},
    seconds::{Second, Times},
    visitor::Visitor,
};
use super::site::{http::Client, server::Server, visit::token};
use crate::{bench::case::Case, engines::free_ports, house::House, shell};

pub(super) fn run(house: &House, seconds: u64, report: &mut dyn FnMut(Case)) -> Result<()> {
    let mut cargo = house.cargo();
    shell::run(cargo.args(["build", "-q", "--release", "-p", "boxoffice"]))?;
    let folder = house.target.join("bench/peak");
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir_all(&folder)?;
    let boxoffice = house.target.join("release/boxoffice");
    let ours = || {
        let mut ours = Command::new(&boxoffice);
        ours.current_dir(&folder).env("THRONG_DATA", folder.join("data"));
        ours.env("THRONG_SECRET_KEY", "the bench's own secret, good for nothing else");
        ours.env("THRONG_LOG_REQUESTS", "false").env("THRONG_BUS_ALLOW_SPLIT", "true");
        ours
    };
    shell::run_quietly(ours().arg("migrate"))?;
    let list = house.root.join("../shared/data/conferences.jsonl");
    match list.exists() {
        true => shell::run_quietly(ours().arg("import").arg(&list))?,
        false => shell::run_quietly(ours().args(["seed", "--events", "6831"]))?,
    }
    let [port] = free_ports()?;
    let mut web = ours();
    web.arg("web").env("THRONG_WEB_LISTEN", format!("127.0.0.1:{port}"));
    web.env("THRONG_EDGE_ENABLED", "true").env("THRONG_EDGE_ACCESS_LOG", "true");
    let server = Server::start(&mut web, port, "/healthz", &folder.join("boxoffice.log"))?;

    let events = events(port)?;
    let members: Result<Vec<String>> = (0..MEMBERS).map(|number| sign_up(port, number)).collect();
    let members = members?;
    let visitors: Vec<Visitor> = (0..)
        .zip(0..VISITORS)
        .map(|(seed, number)| match members.get(number) {
            Some(cookie) => Visitor::member(port, cookie, &events, seed),
            None => Visitor::stranger(port, &events, seed),
        })
        .collect();
    // A first spell fills the cache, as a site's visitors of the last minute have.
    let warm = Plan { rate: RATE / 2, length: WARM };
    let visitors = load::run(visitors, warm, &server)?.visitors;
    let spell =
        load::run(visitors, Plan { rate: RATE, length: Duration::from_secs(seconds) }, &server)?;
    let seconds = seconds::of(&spell.answers);
    let table = folder.join("seconds.csv");
    fs::write(&table, seconds::table(&seconds))?;
    for case in cases(&spell, &seconds) {
        report(case);
    }
    eprintln!("each second by itself: {}", table.display());
    Ok(())
}

fn cases(spell: &Spell, seconds: &[Second]) -> Vec<Case> {
    let case = |name: &str, unit: &str, ours: f64, target: &str| Case {
        case: name.to_owned(),
        unit: unit.to_owned(),
        ours,
        peer: None,
        peer_name: String::new(),
        target: target.to_owned(),
    };
    let all = Times::of(spell.answers.iter());
    let members = Times::of(spell.answers.iter().filter(|answer| answer.is_member));
    let worst = |of: fn(&Second) -> &Times| {
        seconds.iter().map(|second| of(second).ms(0.99)).fold(0.0, f64::max)
    };
    vec![
        case("rate", "requests/s", spell.rate, "ours >= 25000"),
        case("failed", "requests", spell.failed as f64, "ours <= 0"),
        case("all, p50", "ms", all.ms(0.5), ""),
        case("all, p99", "ms", all.ms(0.99), "ours <= 20"),
        case("all, p99.9", "ms", all.ms(0.999), ""),
        case("all, p99 of the worst second", "ms", worst(|second| &second.all), ""),
        case("signed in, p50", "ms", members.ms(0.5), ""),
        case("signed in, p99", "ms", members.ms(0.99), "ours <= 100"),
        case("signed in, p99 of the worst second", "ms", worst(|second| &second.members), ""),
        case("CPU of the site", "cores", spell.server_cores, ""),
        case("CPU of the load itself", "cores", spell.own_cores, ""),
    ]
}

/// Every published event that is still to come, by the site's own list.
fn events(port: u16) -> Result<Vec<i64>> {
    let mut client = Client::new(port);
    let (mut events, mut after) = (Vec::new(), String::new());
    for time in ["upcoming", "past"] {
        after.clear();
        loop {
            let path = format!("/api/v1/events?when={time}&limit=100&after={after}");
            let text = client.get(&path)?.expect(200)?.text();
            let page: serde_json::Value =
                serde_json::from_str(&text).context("a list of events")?;
            let items = page["items"].as_array().context("a list has items")?;
            let ids = items.iter().filter_map(|event| event["id"].as_str()?.parse::<i64>().ok());
            events.extend(ids);
            match page["next"].as_str() {
                Some(next) if events.len() < MOST_EVENTS => next.clone_into(&mut after),
                _ => break,
            }
        }
    }
    if events.is_empty() {
        bail!("the site lists no events");
    }
    Ok(events)
}

/// Opens an account; gives its session cookie.
fn sign_up(port: u16, number: usize) -> Result<String> {
    let mut client = Client::new(port);
    let token = token(&client.get("/sign-up")?.expect(200)?.text())?;
    let (name, email) = (format!("peak{number}"), format!("peak{number}@example.com"));
    let fields = [
        ("csrfmiddlewaretoken", &*token),
        ("username", &*name),
        ("email", &*email),
        ("password", "a bench needs no secret"),
    ];
    let answer = client.post("/sign-up", &fields)?;
    let cookie = client.cookie("sessionid").map(str::to_owned);
    cookie.with_context(|| format!("{name} cannot sign up: status {}", answer.status))
}

/// A little more than is to be reached, for what is still under way when the time is over.
const RATE: u64 = 25_100;
const WARM: Duration = Duration::from_secs(8);
/// Connections, and how many of them are members'. Every twentieth request is a member's, and they read
/// slower pages, so a part of twenty would have members wait for themselves.
const VISITORS: usize = 240;
const MEMBERS: usize = 60;
const MOST_EVENTS: usize = 7_000;
