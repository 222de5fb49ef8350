//! `cargo xtask bench ROOM`: ours beside the piece that it replaces, in one run.
//!
//! A room brings its own bench, `benches/room.rs`, that prints one JSON object a line: `case`,
//! `unit`, `ours`, `peer`, `peer_name` and `target`, which is a claim such as `ratio >= 20` or
//! `ours <= 5`. Here the ratio and whether the claim is met are worked out, the same for all.

mod apalis;
mod case;
mod peak;
mod site;

use std::{
    io::{BufRead, BufReader},
    process::{ExitCode, Stdio},
};

use anyhow::{Context, Result, anyhow, bail};

use crate::{
    bench::case::Case,
    engines,
    house::{House, Room},
    prepare,
    shell::{self, Unprepared},
};

#[derive(clap::Args)]
#[command(after_help = "Examples:
  cargo xtask bench site            boxoffice beside a Django site on the same SQLite file
  cargo xtask bench edge            the edge beside Varnish, nginx and HAProxy
  cargo xtask bench peak            25,000 requests a second on boxoffice behind the edge, for a minute
  cargo xtask bench queue --json    one JSON object a line")]
pub(crate) struct Arguments {
    /// What to measure: site, peak, or a room that has a bench
    room: String,
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
    /// How long each side of a case is measured, in seconds, where time is what is given [default: 5;
    /// peak: 60]
    #[arg(long)]
    seconds: Option<u64>,
}

pub(crate) fn run(house: &House, arguments: &Arguments) -> Result<ExitCode> {
    let mut all_met = true;
    let mut report = |case: Case| {
        all_met &= case.is_met() != Some(false);
        println!("{}", if arguments.json { case.json(&arguments.room) } else { case.to_string() });
    };
    match arguments.room.as_str() {
        "site" => site::run(house, arguments.seconds.unwrap_or(5), &mut report)?,
        "peak" => peak::run(house, arguments.seconds.unwrap_or(60), &mut report)?,
        name => of_room(house, house.room(name)?, &mut report)?,
    }
    if !all_met {
        eprintln!("a target was missed");
    }
    Ok(if all_met { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs the room's own bench and reads what it prints.
fn of_room(house: &House, room: &Room, report: &mut dyn FnMut(Case)) -> Result<()> {
    if !room.folder.join("benches/room.rs").exists() {
        let with = house.rooms.iter().filter(|room| room.folder.join("benches/room.rs").exists());
        let with: Vec<&str> = with.map(Room::name).chain(["peak", "site"]).collect();
        let problem = format!("{} has no bench; there are {}", room.name(), with.join(", "));
        return Err(anyhow!(Unprepared(problem)));
    }
    let prepared = prepare::prepare(house, std::slice::from_ref(room))?;
    let mut cargo = house.cargo();
    cargo.args(["bench", "-q", "-p", &room.package, "--all-features", "--bench", "room"]);
    if room.name() == "queue" {
        match apalis::build(house) {
            Ok(program) => drop(cargo.env("THRONG_BENCH_APALIS", program)),
            // Without a network it cannot be had; the others can be measured.
            Err(error) => eprintln!("apalis: not here ({error:#})"),
        }
    }
    cargo.envs(prepared.environment).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child =
        cargo.spawn().with_context(|| format!("cannot start `{}`", shell::said(&cargo)))?;
    for line in BufReader::new(child.stdout.take().context("its output is not piped")?).lines() {
        let line = line.context("cannot read what the bench prints")?;
        match serde_json::from_str(&line) {
            Ok(case) => report(case),
            Err(_) => eprintln!("{line}"), // what a bench says beside its cases
        }
    }
    let status = child.wait().context("cannot wait for the bench")?;
    for engine in prepared.started {
        engines::down(house, engine)?;
    }
    if !status.success() {
        bail!("the bench of {} ended with {status}", room.name());
    }
    Ok(())
}
