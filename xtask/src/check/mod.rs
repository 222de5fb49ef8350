//! `cargo xtask check`: what must hold before a change lands, tests aside. Every step is run and
//! timed, so that one bad step does not hide the next.

mod licences;
mod tidy;

use std::{
    fmt,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use clap::ValueEnum;

use crate::{house::House, shell};

#[derive(clap::Args)]
#[command(after_help = "Examples:
  cargo xtask check                 every step
  cargo xtask check fmt tidy        only these")]
pub(crate) struct Arguments {
    /// Run only these steps
    steps: Vec<Step>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Step {
    /// rustfmt has nothing to change
    Fmt,
    /// What the compiler does not look at: first lines, names, lengths, paths
    Tidy,
    /// Licences and sources of every dependency are in deny.toml, and what cargo-deny says
    Licences,
    /// Clippy on all targets, warnings are errors
    Clippy,
    /// Rustdoc, warnings are errors
    Docs,
    /// Each crate with each of its features alone
    Features,
    /// No import between our crates that ARCHITECTURE.md lacks
    Layers,
}

pub(crate) fn run(house: &House, arguments: &Arguments) -> Result<ExitCode> {
    let steps = if arguments.steps.is_empty() { Step::value_variants() } else { &arguments.steps };
    let mut results = Vec::new();
    for step in steps {
        println!("== {step}");
        let start = Instant::now();
        let result = step.run(house);
        let time = start.elapsed();
        match &result {
            Ok(()) => println!("{step}: ok in {}", seconds(time)),
            Err(error) => println!("{step}: failed in {}: {error:#}", seconds(time)),
        }
        results.push((step, result.is_ok(), time));
    }
    println!("\ncheck:");
    for (step, is_ok, time) in &results {
        println!("  {step:<10} {:<7} {:>8}", if *is_ok { "ok" } else { "FAILED" }, seconds(*time));
    }
    let total: Duration = results.iter().map(|(_, _, time)| *time).sum();
    println!("  {:<10} {:<7} {:>8}", "all", "", seconds(total));
    let is_ok = results.iter().all(|(_, is_ok, _)| *is_ok);
    Ok(if is_ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

impl Step {
    fn run(self, house: &House) -> Result<()> {
        let mut cargo = house.cargo();
        match self {
            Step::Fmt => shell::run(cargo.args(["fmt", "--all", "--check"])),
            Step::Tidy => tidy::check(house),
            Step::Licences => licences::check(house),
            Step::Clippy => {
                cargo.args(["clippy", "--workspace", "--all-targets", "--all-features"]);
                shell::run(cargo.args(["--", "-D", "warnings"]))
            }
            Step::Docs => {
                cargo.env("RUSTDOCFLAGS", "-D warnings");
                shell::run(cargo.args(["doc", "--workspace", "--no-deps", "--all-features"]))
            }
            Step::Features => each_feature_alone(house),
            Step::Layers => {
                shell::run(cargo.args(["test", "-q", "-p", "throng", "--test", "layers"]))
            }
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.to_possible_value();
        f.pad(value.as_ref().map_or("", |value| value.get_name()))
    }
}

/// A crate must build without its features, and with any one of them.
fn each_feature_alone(house: &House) -> Result<()> {
    for room in house.rooms.iter().filter(|room| !room.features.is_empty()) {
        let features = std::iter::once("").chain(room.features.iter().map(String::as_str));
        for feature in features {
            println!("{} with {}", room.package, if feature.is_empty() { "none" } else { feature });
            let mut cargo = house.cargo();
            cargo.args(["check", "-q", "-p", &room.package, "--no-default-features"]);
            shell::run(cargo.args(["--features", feature]))
                .with_context(|| format!("{} does not build that way", room.package))?;
        }
    }
    Ok(())
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}
