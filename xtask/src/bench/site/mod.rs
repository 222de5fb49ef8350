//! `cargo xtask bench site`: boxoffice beside a Django site that serves the same pages from the
//! same SQLite file, under the same load, in one run.
//!
//! The figure that counts is the server's own CPU time for each page, from `/proc`, with all its
//! processes: it does not change with what else the machine does, and the load generator is not in
//! it. The Django site is in `xtask/peers/django`; it leaves out the posters that boxoffice draws.

mod compare;
pub(super) mod http;
mod load;
pub(super) mod server;
pub(super) mod visit;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result};
use serde::Deserialize;

use self::{
    load::Load,
    server::Server,
    visit::{Buyer, Reader},
};
use crate::{bench::case::Case, engines::free_ports, house::House, python, shell};

pub(super) fn run(house: &House, seconds: u64, report: &mut dyn FnMut(Case)) -> Result<()> {
    let bench = Bench::prepare(house)?;
    let ours = bench.boxoffice()?;
    let plain = bench.django(false)?;
    let caching = bench.django(true)?;
    let facts = &bench.facts;
    compare::pages(ours.port, plain.port, &facts.sample())?;

    let spell = Duration::from_secs(seconds);
    let front = vec!["/".to_owned()];
    for (case, paths) in [("event page", &facts.event_paths()), ("front page", &front)] {
        for (peer, name, target) in [
            (&plain, "Django", "ratio >= 20"),
            // Not asked for: what is left when the peer caches the same parts of its pages.
            (&caching, "Django with cached parts", ""),
        ] {
            let read = |server: &Server, turn: u64| {
                let mut readers: Vec<_> = (0..READERS)
                    .map(|number| Reader::new(server.port, paths, turn * READERS + number))
                    .collect();
                let mut readers: Vec<_> =
                    readers.iter_mut().map(|reader| || reader.read()).collect();
                Load::of(server, &mut readers, spell)
            };
            let (ours, peer) = in_turns(&ours, peer, read)?;
            let case = |what: &str, unit: &str, figure: fn(&Load) -> f64, target: &str| Case {
                case: format!("{case}, {what}"),
                unit: unit.to_owned(),
                ours: figure(&ours),
                peer: Some(figure(&peer)),
                peer_name: name.to_owned(),
                target: target.to_owned(),
            };
            report(case("per CPU second", "pages", Load::a_cpu_second, target));
            report(case("CPU", "ms", Load::cpu_ms, ""));
            report(case("rate", "pages/s", Load::a_second, ""));
        }
    }

    let buy = |server: &Server, turn: u64| {
        let mut buyers = facts
            .buyers
            .iter()
            .enumerate()
            .map(|(number, name)| {
                let event = facts.selling[(number + usize::try_from(turn)?) % facts.selling.len()];
                Buyer::sign_in(server.port, name, &facts.password, event)
            })
            .collect::<Result<Vec<_>>>()?;
        let mut buyers: Vec<_> = buyers.iter_mut().map(|buyer| || buyer.buy()).collect();
        Load::of(server, &mut buyers, spell)
    };
    let (ours, peer) = in_turns(&ours, &plain, buy)?;
    let case = |what: &str, unit: &str, figure: fn(&Load) -> f64, target: &str| Case {
        case: format!("purchase, {what}"),
        unit: unit.to_owned(),
        ours: figure(&ours),
        peer: Some(figure(&peer)),
        peer_name: "Django".to_owned(),
        target: target.to_owned(),
    };
    report(case("CPU", "ms", Load::cpu_ms, "ours <= 5"));
    report(case("rate", "purchases/s", Load::a_second, ""));
    Ok(())
}

/// Ours, theirs, ours, theirs: what the machine does meanwhile falls on both. A first spell on each
/// is not counted: it fills caches and compiles templates.
fn in_turns(
    ours: &Server,
    peer: &Server,
    spell: impl Fn(&Server, u64) -> Result<Load>,
) -> Result<(Load, Load)> {
    let mut loads = (Load::default(), Load::default());
    for turn in 0..3 {
        let our_load = spell(ours, turn).context("under load boxoffice fails")?;
        let peer_load = spell(peer, turn).context("under load the Django site fails")?;
        if turn > 0 {
            loads = (loads.0.and(our_load), loads.1.and(peer_load));
        }
    }
    Ok(loads)
}

/// The file that both serve, and how to start each.
struct Bench {
    boxoffice: PathBuf,
    python: PathBuf,
    django: PathBuf,
    folder: PathBuf,
    facts: Facts,
}

/// What the database holds, as far as visitors need to know it.
#[derive(Deserialize)]
struct Facts {
    /// Published events.
    events: Vec<i64>,
    /// Those with seats enough for the whole run.
    selling: Vec<i64>,
    /// People who can sign in.
    buyers: Vec<String>,
    /// The password of each of them.
    password: String,
}

impl Bench {
    /// Builds boxoffice and makes one SQLite file, with what both sites need in it.
    fn prepare(house: &House) -> Result<Self> {
        let mut cargo = house.cargo();
        shell::run(cargo.args(["build", "-q", "--release", "-p", "boxoffice"]))?;
        let python = python::provide(house)?;
        let folder = house.target.join("bench/site");
        if folder.exists() {
            fs::remove_dir_all(&folder)
                .with_context(|| format!("cannot clear {}", folder.display()))?;
        }
        fs::create_dir_all(&folder)?;
        let mut bench = Self {
            boxoffice: house.target.join("release/boxoffice"),
            python,
            django: house.root.join("xtask/peers/django"),
            folder,
            facts: Facts {
                events: vec![],
                selling: vec![],
                buyers: vec![],
                password: String::new(),
            },
        };
        bench.fill(&house.root)?;
        Ok(bench)
    }

    fn fill(&mut self, root: &Path) -> Result<()> {
        shell::run_quietly(self.ours().arg("migrate"))?;
        let list = root.join("../shared/data/conferences.jsonl");
        if list.exists() {
            shell::run_quietly(self.ours().arg("import").arg(&list))?;
        } else {
            shell::run_quietly(self.ours().args(["seed", "--events", "6831"]))?;
        }
        let mut prepare = self.theirs(&self.python);
        let facts = shell::output(prepare.arg("prepare.py"))?;
        self.facts = serde_json::from_str(&facts).context("cannot read what prepare.py printed")?;
        Ok(())
    }

    fn boxoffice(&self) -> Result<Server> {
        let [port] = free_ports()?;
        let mut web = self.ours();
        web.arg("web").env("THRONG_WEB_LISTEN", format!("127.0.0.1:{port}"));
        Server::start(&mut web, port, "/healthz", &self.folder.join("boxoffice.log"))
    }

    fn django(&self, caches_parts: bool) -> Result<Server> {
        let [port] = free_ports()?;
        let workers = std::thread::available_parallelism().map_or(2, usize::from);
        let mut gunicorn = self.theirs(&self.python.with_file_name("gunicorn"));
        gunicorn.args(["--workers", &workers.to_string(), "--bind", &format!("127.0.0.1:{port}")]);
        gunicorn.args(WORKER).args(["--no-control-socket", "boxoffice_django.wsgi"]);
        gunicorn.env("THRONG_BENCH_FRAGMENTS", if caches_parts { "1" } else { "0" });
        let log = format!("django-{}.log", if caches_parts { "caching" } else { "plain" });
        Server::start(&mut gunicorn, port, "/", &self.folder.join(log))
    }

    /// Logs of requests are off on both sides; gunicorn's are by default.
    fn ours(&self) -> Command {
        let mut ours = Command::new(&self.boxoffice);
        ours.current_dir(&self.folder).env("THRONG_DATA", self.folder.join("data"));
        ours.env("THRONG_SECRET_KEY", "the bench's own secret, good for nothing else");
        ours.env("THRONG_LOG_REQUESTS", "false").env("THRONG_BUS_ALLOW_SPLIT", "true");
        // Room for every page, as Django's cache has it on the other side.
        ours.env("THRONG_CACHE_URL", "memory:?max_bytes=268435456");
        ours
    }

    fn theirs(&self, program: &Path) -> Command {
        let mut theirs = Command::new(program);
        theirs.current_dir(&self.django).env("PYTHONDONTWRITEBYTECODE", "1");
        theirs.env("DJANGO_SETTINGS_MODULE", "boxoffice_django.settings");
        theirs.env("THRONG_BENCH_DATABASE", self.folder.join("data/site.db"));
        theirs
    }
}

impl Facts {
    fn event_paths(&self) -> Vec<String> {
        self.events.iter().map(|id| format!("/events/{id}")).collect()
    }

    /// Pages that must show the same on both sites.
    fn sample(&self) -> Vec<String> {
        let selling = self.selling.iter().take(2).map(|id| format!("/events/{id}"));
        let step = (self.events.len() / 20).max(1);
        let others = self.event_paths().into_iter().step_by(step);
        std::iter::once("/".to_owned()).chain(selling).chain(others).collect()
    }
}

/// Readers at once: enough to keep two cores busy, few enough not to queue for long.
const READERS: u64 = 8;
/// Threads that keep connections open: measured here as the cheapest of gunicorn's own workers.
const WORKER: [&str; 5] = ["--worker-class", "gthread", "--threads", "4", "--keep-alive=30"];
