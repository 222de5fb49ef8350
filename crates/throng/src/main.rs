//! The bare `throng` program: a site without pages of its own, for its config, tables and tasks.

use std::process::ExitCode;

use throng::App;

fn main() -> ExitCode {
    App::new("throng").about("The rooms of a throng site, without pages of their own").run()
}
