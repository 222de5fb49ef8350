//! `boxoffice import FILE`: brings in a list of events, one JSON object a line.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use throng::{Command, Ctx, Error, Result};
use tokio::io::{AsyncRead, BufReader};

use crate::models::{facets, today};

mod line;
mod load;

pub use line::Defaults;
pub use load::{Progress, Source, Summary, load};

/// Brings in events from a file with one JSON object a line
///
/// A line has `name`, `startDate` (2026-05-01) and, if known, `endDate`, `url`, `city`, `country`,
/// `online`, `locales`, `topic`, `description`, `capacity`, `price` and `currency`. Lines that
/// cannot be used are told with their number, and the rest comes in.
///
/// An event is recognised by its name, url, startDate, topic and city, so that bringing in the same
/// file again adds only what is new.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Import {
    /// The file; `-` reads standard input
    file: PathBuf,
    /// Seats of events whose line has no `capacity`
    #[arg(long, value_name = "SEATS", default_value_t = 200, value_parser = clap::value_parser!(i32).range(0..=1_000_000))]
    capacity: i32,
    /// Print the summary as one JSON object
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "Examples:
  boxoffice import conferences.jsonl
  curl -s https://example.com/events.jsonl | boxoffice import - --json

Exit code: 0 when every line was used, 1 when some were not or the file cannot be read.";

impl Command for Import {
    const NAME: &'static str = "import";

    async fn run(self, cx: Ctx) -> Result {
        let (file, bytes) = open(&self.file).await?;
        let bar = bar(bytes);
        let mut shown = 0;
        let started = cx.clock.elapsed();
        let source =
            Source { lines: BufReader::new(file), defaults: Defaults { capacity: self.capacity } };
        let loaded = load(&cx, source, |progress| match progress {
            Progress::Read { bytes, events } => {
                bar.set_position(bytes);
                bar.set_message(format!("{events} events"));
            }
            Progress::Bad { line, problem } => {
                shown += 1;
                if shown <= MOST_SHOWN {
                    bar.suspend(|| eprintln!("line {line}: {problem}"));
                }
            }
        })
        .await;
        bar.finish_and_clear();
        let summary = loaded?;
        if shown > MOST_SHOWN {
            eprintln!("and {} more lines that cannot be used", shown - MOST_SHOWN);
        }
        let counted = facets::count(&cx.db.primary(), &today(&cx.clock)).await?;
        let tx = cx.db.begin().await?;
        facets::replace(&tx, counted).await?;
        tx.commit().await?;
        self.tell(&summary, cx.clock.elapsed().saturating_sub(started));
        if summary.bad > 0 {
            let s = if summary.bad == 1 { "" } else { "s" };
            return Err(Error::invalid(format!("{} line{s} could not be used", summary.bad)));
        }
        Ok(())
    }
}

impl Import {
    fn tell(&self, summary: &Summary, took: Duration) {
        #[derive(Serialize)]
        struct Line<'a> {
            #[serde(flatten)]
            summary: &'a Summary,
            seconds: f64,
        }
        let seconds = (took.as_secs_f64() * 1e3).round() / 1e3;
        if self.json {
            let line = serde_json::to_string(&Line { summary, seconds }).unwrap_or_default();
            println!("{line}");
            return;
        }
        let Summary { imported, already, bad, .. } = summary;
        let events = if *imported == 1 { "event" } else { "events" };
        println!(
            "{imported} {events} imported, {already} already here, {bad} unusable, in {seconds:.1} s"
        );
    }
}

/// The file and how long it is, as far as that is known.
async fn open(path: &Path) -> Result<(Box<dyn AsyncRead + Send + Unpin>, Option<u64>)> {
    if path == Path::new("-") {
        return Ok((Box::new(tokio::io::stdin()), None));
    }
    let cannot = |error: std::io::Error| {
        Error::invalid(format!("cannot read `{}`: {error}", path.display()))
    };
    let file = tokio::fs::File::open(path).await.map_err(cannot)?;
    let about = file.metadata().await.map_err(cannot)?;
    if about.is_dir() {
        return Err(Error::invalid(format!("cannot read `{}`: it is a folder", path.display())));
    }
    Ok((Box::new(file), about.is_file().then_some(about.len())))
}

/// A bar on a terminal, nothing elsewhere.
fn bar(bytes: Option<u64>) -> ProgressBar {
    let (bar, template) = match bytes {
        Some(bytes) => (ProgressBar::new(bytes), "{wide_bar} {percent:>3} %  {msg}  {eta} left"),
        None => (ProgressBar::new_spinner(), "{spinner} {bytes} read  {msg}"),
    };
    let style = ProgressStyle::with_template(template);
    bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// A file of another kind would otherwise fill the screen.
const MOST_SHOWN: u64 = 100;
