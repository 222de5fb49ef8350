//! What developers and CI run: `cargo xtask test`, `check`, `engines` and `bench`.
//!
//! Exit codes: 0 all is well, 1 something failed, 2 something must be installed or asked otherwise.

mod apt;
mod bench;
mod check;
mod engines;
mod house;
mod node;
mod prepare;
mod python;
mod shell;
mod test;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::{house::House, shell::Unprepared};

#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", about, disable_help_subcommand = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs the tests, real engines and a browser included, and installs what they need.
    Test(test::Arguments),
    /// Runs everything that must hold before a change lands, tests aside.
    Check(check::Arguments),
    /// Starts and stops private real engines for tests.
    Engines(engines::Arguments),
    /// Measures ours beside the pieces that it replaces.
    Bench(bench::Arguments),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(arguments.command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            let is_unprepared = error.downcast_ref::<Unprepared>().is_some();
            ExitCode::from(if is_unprepared { 2 } else { 1 })
        }
    }
}

fn run(command: Command) -> Result<ExitCode> {
    let house = House::find()?;
    match command {
        Command::Test(arguments) => test::run(&house, &arguments),
        Command::Check(arguments) => check::run(&house, &arguments),
        Command::Engines(arguments) => engines::run(&house, &arguments),
        Command::Bench(arguments) => bench::run(&house, &arguments),
    }
}
