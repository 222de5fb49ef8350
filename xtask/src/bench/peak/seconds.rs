//! How long answers took, all together and second by second: what waits for two seconds does not show in
//! the median of a minute.

use std::fmt::Write as _;

use super::load::Answered;

/// Times in microseconds, in order of size.
pub(super) struct Times(Vec<u32>);

/// The requests that were due in one second.
pub(super) struct Second {
    pub(super) all: Times,
    pub(super) members: Times,
}

impl Times {
    pub(super) fn of<'a>(answers: impl Iterator<Item = &'a Answered>) -> Self {
        let mut times: Vec<u32> = answers.map(|answer| answer.us).collect();
        times.sort_unstable();
        Self(times)
    }

    /// The time, in milliseconds, below which this part of them is.
    pub(super) fn ms(&self, part: f64) -> f64 {
        let at = (self.0.len() as f64 * part) as usize;
        let us = self.0.get(at.min(self.0.len().saturating_sub(1))).copied().unwrap_or(0);
        f64::from(us) / 1e3
    }
}

/// Every second of the plan.
pub(super) fn of(answers: &[Answered]) -> Vec<Second> {
    let mut seconds: Vec<Vec<Answered>> = Vec::new();
    for answer in answers {
        let at = usize::try_from(answer.second).unwrap_or(usize::MAX);
        if at >= seconds.len() {
            seconds.resize_with(at + 1, Vec::new);
        }
        seconds[at].push(*answer);
    }
    let second = |answers: Vec<Answered>| Second {
        all: Times::of(answers.iter()),
        members: Times::of(answers.iter().filter(|answer| answer.is_member)),
    };
    seconds.into_iter().map(second).collect()
}

/// A line for each, in milliseconds.
pub(super) fn table(seconds: &[Second]) -> String {
    let mut table =
        "second,all p50,all p99,all most,signed in p50,signed in p99,signed in most\n".to_owned();
    for (number, second) in seconds.iter().enumerate() {
        let _ = write!(table, "{number}");
        for times in [&second.all, &second.members] {
            for part in [0.5, 0.99, 1.0] {
                let _ = write!(table, ",{:.1}", times.ms(part));
            }
        }
        table.push('\n');
    }
    table
}
