//! Boxoffice's binary: `boxoffice` runs the whole site, `boxoffice help` says what else there is.

use std::process::ExitCode;

fn main() -> ExitCode {
    boxoffice::app().run()
}
