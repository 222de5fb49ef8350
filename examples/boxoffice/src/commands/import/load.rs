//! Reads lines and writes events, some hundred in each transaction.

use std::collections::{HashMap, HashSet};

use sea_orm::{ColumnTrait, DbErr, EntityTrait, QueryFilter, QuerySelect};
use serde::Serialize;
use throng::{Ctx, Error, Result, db::Tx};
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt};

use super::line::{Defaults, Line};
use crate::models::{Event, Organiser, Seats, bulk, events, organisers};

/// Where the lines come from.
#[derive(Debug)]
pub struct Source<R> {
    /// The lines.
    pub lines: R,
    /// What lines leave out.
    pub defaults: Defaults,
}

/// What an import has done so far.
#[derive(Clone, Debug)]
pub enum Progress {
    /// A batch has been committed.
    Read {
        /// How much of the file was read.
        bytes: u64,
        /// Events imported so far.
        events: u64,
    },
    /// A line cannot be used.
    Bad {
        /// Its number, from 1.
        line: u64,
        /// What is wrong.
        problem: String,
    },
}

/// What an import did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Lines that were not blank.
    pub read: u64,
    /// Events that are new.
    pub imported: u64,
    /// Events that were here, or earlier in the file.
    pub already: u64,
    /// Lines that could not be used.
    pub bad: u64,
}

/// Imports every line that can be used, and tells of the others.
///
/// What was committed stays when a later batch fails; the file can simply be imported again.
///
/// # Errors
/// When the file cannot be read on, or the database fails.
pub async fn load<R: AsyncBufRead + Unpin + Send>(
    cx: &Ctx,
    source: Source<R>,
    mut told: impl FnMut(Progress) + Send,
) -> Result<Summary> {
    let Source { mut lines, defaults } = source;
    let mut summary = Summary::default();
    let mut batch = Vec::with_capacity(LINES_A_BATCH);
    let mut writer = Writer { cx, hosts: HashMap::new() };
    let (mut number, mut bytes) = (0, 0);
    loop {
        let read = next(&mut lines).await.map_err(|error| {
            Error::invalid(format!("cannot read on after line {number}: {error}"))
        })?;
        let Some((size, text)) = read else { break };
        number += 1;
        bytes += size;
        let parsed = match text {
            Ok(text) if text.trim().is_empty() => continue,
            Ok(text) => Line::parse(text.trim_start_matches('\u{feff}').trim(), defaults),
            Err(problem) => Err(problem),
        };
        summary.read += 1;
        match parsed {
            Ok(line) => batch.push(line),
            Err(problem) => {
                summary.bad += 1;
                told(Progress::Bad { line: number, problem });
            }
        }
        if batch.len() == LINES_A_BATCH {
            writer.write(&mut batch, &mut summary).await?;
            told(Progress::Read { bytes, events: summary.imported });
        }
    }
    writer.write(&mut batch, &mut summary).await?;
    told(Progress::Read { bytes, events: summary.imported });
    Ok(summary)
}

/// The next line and its size; `None` at the end.
async fn next(
    lines: &mut (impl AsyncBufRead + Unpin),
) -> std::io::Result<Option<(u64, Result<String, String>)>> {
    let mut line = Vec::new();
    let mut size = (&mut *lines).take(MAX_LINE_BYTES).read_until(b'\n', &mut line).await? as u64;
    if size == 0 {
        return Ok(None);
    }
    if size == MAX_LINE_BYTES && line.last() != Some(&b'\n') {
        loop {
            // The rest is dropped as it comes, so that a line of gigabytes takes no memory.
            line.clear();
            let more = (&mut *lines).take(MAX_LINE_BYTES).read_until(b'\n', &mut line).await?;
            size += more as u64;
            if more == 0 || line.last() == Some(&b'\n') {
                return Ok(Some((size, Err("is longer than 1 MiB".to_owned()))));
            }
        }
    }
    let text = String::from_utf8(line).map_err(|_| "is not UTF-8".to_owned());
    Ok(Some((size, text)))
}

struct Writer<'a> {
    cx: &'a Ctx,
    /// The organisers that are known by now, by the host of their site.
    hosts: HashMap<String, i64>,
}

impl Writer<'_> {
    async fn write(&mut self, batch: &mut Vec<Line>, summary: &mut Summary) -> Result {
        let count = batch.len() as u64;
        let mut new: Vec<(String, Line)> = batch.drain(..).map(|line| (line.key(), line)).collect();
        let tx = self.cx.db.begin().await?;
        let here = present(&tx, new.iter().map(|(key, _)| key.as_str())).await?;
        let mut seen = HashSet::new();
        new.retain(|(key, _)| !here.contains(key) && seen.insert(key.clone()));
        self.find_organisers(&tx, &new).await?;
        let rows: Vec<_> = new.into_iter().map(|(key, line)| self.event(key, line)).collect();
        bulk::events(&tx, &rows).await?;
        tx.commit().await?;
        summary.imported += rows.len() as u64;
        summary.already += count - rows.len() as u64;
        Ok(())
    }

    /// Learns the organisers of a batch, and enters those that are new.
    async fn find_organisers(&mut self, tx: &Tx, new: &[(String, Line)]) -> Result<(), DbErr> {
        let mut unknown: Vec<&str> = new
            .iter()
            .filter_map(|(_, line)| organisers::host_of(&line.url))
            .filter(|host| !self.hosts.contains_key(*host))
            .collect();
        unknown.sort_unstable();
        unknown.dedup();
        if unknown.is_empty() {
            return Ok(());
        }
        for organiser in organisers::find_by_website(tx, &unknown).await? {
            self.hosts.insert(organiser.website, organiser.id);
        }
        let mut made = Vec::new();
        for host in
            unknown.into_iter().filter(|host| !self.hosts.contains_key(*host)).collect::<Vec<_>>()
        {
            let id = self.cx.ids.next();
            let (name, website) = (host.to_owned(), host.to_owned());
            made.push(Organiser { id, name, website, about: String::new(), owner_id: None });
            self.hosts.insert(host.to_owned(), id);
        }
        bulk::rows::<organisers::ActiveModel, _>(tx, made).await
    }

    fn event(&self, key: String, line: Line) -> (Event, Seats) {
        let id = self.cx.ids.next();
        let host = organisers::host_of(&line.url);
        let event = Event {
            id,
            organiser_id: host.and_then(|host| self.hosts.get(host).copied()),
            name: line.name,
            url: line.url,
            starts_on: line.starts_on,
            ends_on: line.ends_on,
            city: line.city,
            country: line.country,
            online: line.online,
            locales: line.locales,
            topic: line.topic,
            description: line.description,
            price_cents: line.price_cents,
            currency: line.currency,
            status: events::Status::Published,
            created_at_ms: self.cx.clock.now_ms(),
            import_key: Some(key),
        };
        (event, Seats { event_id: id, capacity: line.capacity, sold: 0, held: 0 })
    }
}

/// Which of these keys the site has already.
async fn present(tx: &Tx, keys: impl Iterator<Item = &str>) -> Result<HashSet<String>, DbErr> {
    let keys: Vec<&str> = keys.collect();
    if keys.is_empty() {
        return Ok(HashSet::new());
    }
    let found: Vec<Option<String>> = events::Entity::find()
        .select_only()
        .column(events::Column::ImportKey)
        .filter(events::Column::ImportKey.is_in(keys))
        .into_tuple()
        .all(tx)
        .await?;
    Ok(found.into_iter().flatten().collect())
}

const LINES_A_BATCH: usize = 500;
const MAX_LINE_BYTES: u64 = 1 << 20;
