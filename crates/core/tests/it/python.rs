//! A Python that answers a test: one JSON command a line in, one JSON answer a line out. Tests of
//! other rooms include this file by its path, because a crate for it would be an edge that the
//! import law has no need of.

use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use serde_json::Value;

/// A Python program that runs beside a test and ends with it.
pub(crate) struct Python {
    process: Child,
    commands: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Python {
    /// `None`, after saying so, where there is no Python with what `program` imports; in CI that
    /// fails.
    pub(crate) fn start(program: &str) -> Option<Self> {
        let Ok(python) = std::env::var("THRONG_TEST_PYTHON") else {
            assert!(std::env::var("CI").is_err(), "THRONG_TEST_PYTHON must be set in CI");
            println!("skip: THRONG_TEST_PYTHON is not set; it names a Python with the packages");
            return None;
        };
        let mut process = Command::new(python)
            .args(["-c", program])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("THRONG_TEST_PYTHON names a program");
        let commands = process.stdin.take().expect("its input is piped");
        let answers = BufReader::new(process.stdout.take().expect("its output is piped"));
        Some(Self { process, commands, answers })
    }

    pub(crate) fn ask(&mut self, command: &Value) -> Value {
        writeln!(self.commands, "{command}").expect("python listens");
        let mut line = String::new();
        self.answers.read_line(&mut line).expect("python answers");
        serde_json::from_str(&line).expect("python answers in JSON")
    }
}

impl Drop for Python {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
