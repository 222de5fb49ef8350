//! The peers: programs that print the figures of a case.

use std::process::{Command, Stdio};

/// Celery, on the same broker.
pub(crate) struct Celery {
    /// The Python that has it.
    pub(crate) python: String,
    pub(crate) broker: String,
}

impl Celery {
    /// Its figures for a case, on a queue of its own.
    pub(crate) fn says(&self, case: &[&str], queue: &str) -> anyhow::Result<Vec<f64>> {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/celery_peer.py");
        let [case, rest @ ..] = case else { return Ok(Vec::new()) };
        let mut command = Command::new(&self.python);
        command.args([script, case, &format!("celery-{queue}-{case}")]).args(rest);
        figures(command.env("BROKER", &self.broker))
    }
}

/// apalis, on the same server, or on a file beside ours.
pub(crate) struct Apalis {
    program: String,
    url: String,
}

impl Apalis {
    /// None where the program was not built.
    pub(crate) fn at(url: String) -> Option<Self> {
        let program = std::env::var("THRONG_BENCH_APALIS").ok()?;
        Some(Self { program, url })
    }

    /// Its figures for a case with so many tasks. What is run was pushed by it here before: the
    /// pushes that are measured have queues of their own.
    pub(crate) fn says(&self, case: &str, name: &str, tasks: usize) -> anyhow::Result<Vec<f64>> {
        let (queue, tasks) = (format!("apalis-{name}-{case}"), tasks.to_string());
        let command = |case: &str| {
            let mut command = Command::new(&self.program);
            command.args([case, &self.url, &queue, &tasks]);
            command
        };
        if case == "run" {
            figures(&mut command("batch"))?;
        }
        figures(&mut command(case))
    }
}

/// What the program prints; none, and its words on the error output, when it fails.
fn figures(command: &mut Command) -> anyhow::Result<Vec<f64>> {
    let output = command.stderr(Stdio::inherit()).output()?;
    let said = String::from_utf8(output.stdout)?;
    Ok(said.split_whitespace().filter_map(|word| word.parse().ok()).collect())
}
