//! House rules that the compiler does not look at. See CONVENTIONS.md, "Shape" and "Comments".

use std::{env, fs, process::Command};

use anyhow::{Context, Result, bail};

use crate::{house::House, shell};

pub(super) fn check(house: &House) -> Result<()> {
    let mut git = Command::new("git");
    git.current_dir(&house.root);
    let files = shell::output(git.args(["ls-files", "-z", "-co", "--exclude-standard"]))?;
    let files = files.split('\0').filter(|file| !file.is_empty());

    let mut machine = vec![house.root.display().to_string()];
    machine.extend(env::var("HOME").ok().filter(|home| home.len() > 1).map(|home| home + "/"));

    let mut problems = Vec::new();
    for file in files.filter(|file| house.root.join(file).is_file()) {
        let bytes =
            fs::read(house.root.join(file)).with_context(|| format!("cannot read {file}"))?;
        let Ok(text) = String::from_utf8(bytes) else { continue };
        let found = problems_of(file, &text, &machine);
        problems.extend(found.into_iter().map(|problem| format!("  {file}{problem}")));
    }
    if problems.is_empty() {
        return Ok(());
    }
    bail!("{} to tidy\n{}", problems.len(), problems.join("\n"))
}

/// What is wrong with one file; each begins with `:line: ` or `: `.
fn problems_of(file: &str, text: &str, machine: &[String]) -> Vec<String> {
    let mut problems = Vec::new();
    if file.ends_with(".rs") {
        problems.extend(problems_of_rust(file, text));
    }
    let marker = concat!("TO", "DO");
    for (number, line) in (1..).zip(text.lines()) {
        if machine.iter().any(|path| line.contains(path.as_str())) {
            problems.push(format!(":{number}: a path of this machine"));
        }
        let is_source = !file.ends_with(".md");
        if is_source && line.contains(marker) && !line.contains(&format!("{marker}(#")) {
            problems.push(format!(":{number}: a {marker} that names no issue; {marker}(#12) does"));
        }
    }
    problems
}

fn problems_of_rust(file: &str, text: &str) -> Vec<String> {
    let mut problems = Vec::new();
    let says = text.strip_prefix("//! ").and_then(|rest| rest.lines().next()).unwrap_or("");
    if says.split_whitespace().count() < 2 {
        problems.push(":1: the first line must say what the file is for (`//! …`)".to_owned());
    }
    let mut names = file.trim_end_matches(".rs").split('/');
    if let Some(name) = names.find(|name| NAMELESS.contains(name)) {
        problems.push(format!(": `{name}` is not a name for anything"));
    }
    let tests = text.find("#[cfg(test)]\nmod tests {").unwrap_or(text.len());
    let lines = text[..tests].lines().count();
    if lines > LONGEST && !text.contains(REASON) {
        let problem = format!(
            ": {lines} lines, tests aside; split it, or say why it is one in a `{REASON}` comment"
        );
        problems.push(problem);
    }
    let ignored = concat!("#[ign", "ore");
    if let Some(number) = text.lines().position(|line| line.trim_start().starts_with(ignored)) {
        problems.push(format!(":{}: a test that is never run", number + 1));
    }
    problems
}

/// Names that say nothing.
const NAMELESS: &[&str] =
    &["util", "utils", "common", "helper", "helpers", "misc", "types", "prelude"];
/// A longer file needs a reason in it.
const LONGEST: usize = 500;
/// What that reason begins with.
const REASON: &str = "// One file because";

#[cfg(test)]
mod tests {
    use super::problems_of;

    fn check(file: &str, text: &str, wants: &[&str]) {
        let found = problems_of(file, text, &["/home/me/throng".to_owned()]);
        assert_eq!(found.len(), wants.len(), "{found:#?}");
        for (found, want) in found.iter().zip(wants) {
            assert!(found.contains(want), "{found} lacks {want}");
        }
    }

    const PINS: &str = "//! Who is pinned, and for how long.\n";

    #[test]
    fn a_tidy_file_has_no_problems() {
        check("src/pin.rs", PINS, &[]);
    }

    #[test]
    fn each_house_rule_is_looked_at() {
        check("src/pin.rs", "fn pin() {}\n", &["first line"]);
        check("src/pin.rs", "//! pin\n", &["first line"]);
        check("src/util.rs", PINS, &["not a name"]);
        check("src/common/pin.rs", PINS, &["not a name"]);
        check("src/pin.rs", &format!("{PINS}{}", "\n".repeat(500)), &["501 lines"]);
        check("README.md", "cd /home/me/throng\n", &[":1: a path"]);
        check("a.sh", concat!("# TO", "DO: more\n# TO", "DO(#3): more\n"), &[":1: "]);
        check("src/pin.rs", &[PINS, "#[ign", "ore]\n"].concat(), &[":2: a test"]);
    }

    #[test]
    fn a_long_file_may_say_why_and_tests_do_not_count() {
        let long = "\n".repeat(600);
        check("src/pin.rs", &format!("{PINS}// One file because it is one table.{long}"), &[]);
        check("src/pin.rs", &format!("{PINS}#[cfg(test)]\nmod tests {{{long}}}\n"), &[]);
    }
}
