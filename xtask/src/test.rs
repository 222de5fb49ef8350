//! `cargo xtask test [ROOM]`: prepares what tests need, runs them, and counts what was skipped.

use std::{
    io::{BufRead, BufReader},
    process::{ExitCode, Stdio},
    time::Instant,
};

use anyhow::{Context, Result};

use crate::{
    engines,
    house::{House, Room},
    prepare, shell,
};

#[derive(clap::Args)]
#[command(after_help = "Examples:
  cargo xtask test                  the whole workspace, as CI does
  cargo xtask test queue            one room
  cargo xtask test site sold        the tests of boxoffice with `sold` in their names
  cargo xtask test queue --long     with the long runs

With CI=true a test that skips is a failure.")]
pub(crate) struct Arguments {
    /// The room to test: core, db, cache, queue, bus, throng, site…; all of them when left out
    room: Option<String>,
    /// Run only tests with this in their names
    filter: Option<String>,
    /// Run the long versions too (sets THRONG_TEST_LONG=1)
    #[arg(long)]
    long: bool,
}

pub(crate) fn run(house: &House, arguments: &Arguments) -> Result<ExitCode> {
    let start = Instant::now();
    let rooms: Vec<Room> = match &arguments.room {
        Some(name) => vec![house.room(name)?.clone()],
        None => house.rooms.clone(),
    };
    let prepared = prepare::prepare(house, &rooms)?;

    let mut cargo = house.cargo();
    // Features only add engines, so all of them together are what there is to test.
    cargo.args(["test", "--no-fail-fast", "--all-features"]);
    match &arguments.room {
        Some(_) => cargo.args(rooms.iter().flat_map(|room| ["-p", &room.package])),
        None => cargo.arg("--workspace"),
    };
    cargo.envs(prepared.environment);
    if arguments.long {
        cargo.env("THRONG_TEST_LONG", "1");
    }
    // libtest hides what a passing test prints, and with it every skip; we ask for all of it and
    // show what libtest would have shown.
    cargo.arg("--").args(&arguments.filter).arg("--show-output");
    let mut child = cargo
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start `{}`", shell::said(&cargo)))?;
    let mut report = Report::default();
    for line in BufReader::new(child.stdout.take().expect("it is piped")).lines() {
        let line = line.context("cannot read what cargo test prints")?;
        if report.takes(&line) {
            println!("{line}");
        }
    }
    let status = child.wait().context("cannot wait for cargo test")?;
    for engine in prepared.started {
        engines::down(house, engine)?;
    }

    let skips_fail = shell::is_ci() && !report.skipped.is_empty();
    println!("\n{} in {:.0} s", report.summary(), start.elapsed().as_secs_f64());
    for skip in &report.skipped {
        println!("  {skip}");
    }
    if skips_fail {
        println!("with CI set a skipped test is a failure");
    }
    Ok(if status.success() && !skips_fail { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What `cargo test -- --show-output` printed so far.
#[derive(Default)]
struct Report {
    passed: u32,
    failed: u32,
    ignored: u32,
    /// Each `skip:` line, after the test's name where there is one.
    skipped: Vec<String>,
    /// Are we between `successes:` and the next part?
    is_in_successes: bool,
    test: String,
}

impl Report {
    /// Reads one line; true when it should be shown.
    fn takes(&mut self, line: &str) -> bool {
        if let Some(counts) = line.strip_prefix("test result: ") {
            self.is_in_successes = false;
            self.count(counts);
            return true;
        }
        match line {
            "successes:" => self.is_in_successes = true,
            "failures:" => self.is_in_successes = false,
            _ => {}
        }
        if let Some(rest) = line.strip_prefix("---- ") {
            self.test = rest.trim_end_matches(" ----").trim_end_matches(" stdout").to_owned();
        }
        if line.starts_with("skip:") {
            let test = if self.is_in_successes { &self.test } else { "" };
            self.skipped.push(format!("{test}{}{line}", if test.is_empty() { "" } else { ": " }));
        }
        !self.is_in_successes
    }

    /// Adds up `ok. 2 passed; 0 failed; 0 ignored; …`.
    fn count(&mut self, counts: &str) {
        let numbers = counts.split([';', '.']).filter_map(|part| {
            let (number, what) = part.trim().split_once(' ')?;
            Some((number.parse::<u32>().ok()?, what))
        });
        for (number, what) in numbers {
            match what {
                "passed" => self.passed += number,
                "failed" => self.failed += number,
                "ignored" => self.ignored += number,
                _ => {}
            }
        }
    }

    fn summary(&self) -> String {
        let Self { passed, failed, ignored, skipped, .. } = self;
        let ignored = if *ignored > 0 { format!(", {ignored} ignored") } else { String::new() };
        format!("{passed} tests passed, {failed} failed{ignored}, {} skipped", skipped.len())
    }
}

#[cfg(test)]
mod tests {
    use super::Report;

    #[test]
    fn skips_are_found_in_the_output_of_passing_tests_which_is_hidden() {
        let printed = "\nrunning 2 tests\ntest a ... ok\ntest b ... ok\n\nsuccesses:\n\n\
             ---- a stdout ----\nskip: no python\nmore\n\n\nsuccesses:\n    a\n    b\n\n\
             test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; 1 filtered out; finished in 0.00s";
        let mut report = Report::default();
        let shown: Vec<&str> = printed.lines().filter(|line| report.takes(line)).collect();

        assert_eq!(report.skipped, ["a: skip: no python"]);
        assert_eq!(report.summary(), "2 tests passed, 0 failed, 1 skipped");
        assert!(shown.contains(&"test a ... ok") && shown.len() == 6, "{shown:#?}");
    }

    #[test]
    fn failures_are_shown_and_counted() {
        let printed = "successes:\n\n---- a stdout ----\nhidden\n\nfailures:\n\n---- b stdout ----\nboom\n\n\
             failures:\n    b\n\ntest result: FAILED. 1 passed; 1 failed; 0 ignored; finished in 0.00s";
        let mut report = Report::default();
        let shown: Vec<&str> = printed.lines().filter(|line| report.takes(line)).collect();

        assert!(shown.contains(&"boom") && !shown.contains(&"hidden"), "{shown:#?}");
        assert_eq!(report.summary(), "1 tests passed, 1 failed, 0 skipped");
    }
}
