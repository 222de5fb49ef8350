//! The store below the one in memory: pages in files, bounded by bytes, found again after a restart.
//!
//! Records are appended to segments; when there are too many bytes, the oldest segment goes. Purges are
//! records too, so that a page that was purged does not come back with the next process. What is where
//! is known in memory alone and read from the segments at the start: a crash can lose the last moments,
//! and leaves nothing that has to be mended. While nothing can be written, the edge works from memory.

mod record;

use std::{
    collections::HashMap,
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use http::HeaderName;
use throng_core::{Clock, Shutdown, stars};
use tokio::sync::mpsc;

use self::record::{Meta, Page, Span};
use crate::cache::{Cache, Job, Kept, Mark, Question};

/// Pages on disk. Clones are the same.
#[derive(Clone, Debug)]
pub(crate) struct Disk(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    folder: PathBuf,
    max_bytes: u64,
    cache: Cache,
    clock: Clock,
    places: Mutex<HashMap<String, Vec<Place>>>,
    /// Oldest first; the last is written to.
    segments: Mutex<Vec<Arc<Segment>>>,
    jobs: Mutex<Option<mpsc::Receiver<Job>>>,
    /// Until when nothing is tried after a write failed, in milliseconds of the clock.
    rests_until_ms: AtomicU64,
    is_failing: AtomicBool,
    written: AtomicU64,
    found: AtomicU64,
    corrupt: AtomicU64,
    failed_writes: AtomicU64,
}

/// Where a page is.
#[derive(Clone, Debug)]
struct Place {
    selection: Vec<(HeaderName, Option<String>)>,
    segment: Arc<Segment>,
    span: Span,
    fresh_until_unix_ms: i64,
    mark: Mark,
}

#[derive(Debug)]
struct Segment {
    number: u64,
    path: PathBuf,
    file: File,
    bytes: AtomicU64,
    /// Whether this process writes it.
    is_own: bool,
}

/// How the store on disk is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DiskStatus {
    /// Addresses that are found there.
    pub addresses: usize,
    /// Bytes of its files.
    pub bytes: u64,
    /// Pages that were written.
    pub written: u64,
    /// Pages that it gave.
    pub found: u64,
    /// Records that were not what had been written, and were left out.
    pub corrupt: u64,
    /// Writes that failed; after each, nothing is written for ten seconds.
    pub failed_writes: u64,
}

impl DiskStatus {
    pub(crate) fn prometheus(&self, text: &mut String) {
        for (name, kind, help, figure) in [
            ("disk_bytes", "gauge", "bytes of files of the store on disk", self.bytes),
            ("disk_pages", "gauge", "addresses in the store on disk", self.addresses as u64),
            ("disk_hits_total", "counter", "pages that the store on disk gave", self.found),
            ("disk_corrupt_total", "counter", "records on disk that were damaged", self.corrupt),
            ("disk_failures_total", "counter", "writes to disk that failed", self.failed_writes),
        ] {
            let name = format!("throng_edge_{name}");
            text.push_str(&format!(
                "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {figure}\n"
            ));
        }
    }
}

impl Disk {
    /// Opens the store in `folder`, and tells it of what `cache` keeps from now on.
    pub(crate) fn open(
        folder: &Path,
        max_bytes: u64,
        (cache, clock): (&Cache, &Clock),
    ) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        let (sender, receiver) = mpsc::channel(MOST_JOBS);
        let disk = Self(Arc::new(Inner {
            folder: folder.to_owned(),
            max_bytes,
            cache: cache.clone(),
            clock: clock.clone(),
            places: Mutex::default(),
            segments: Mutex::default(),
            jobs: Mutex::new(Some(receiver)),
            rests_until_ms: AtomicU64::new(0),
            is_failing: AtomicBool::new(false),
            written: AtomicU64::new(0),
            found: AtomicU64::new(0),
            corrupt: AtomicU64::new(0),
            failed_writes: AtomicU64::new(0),
        }));
        disk.load()?;
        cache.tell(sender);
        Ok(disk)
    }

    /// Writes what the cache tells until `shutdown`, and what it has told by then.
    pub(crate) async fn run(&self, shutdown: Shutdown) {
        let Some(mut jobs) = lock(&self.0.jobs).take() else { return };
        let mut batch = Vec::new();
        loop {
            let is_over = tokio::select! {
                biased;
                count = jobs.recv_many(&mut batch, MOST_AT_ONCE) => count == 0,
                () = shutdown.requested() => jobs.is_empty(),
            };
            if !batch.is_empty() {
                let (disk, jobs) = (self.clone(), std::mem::take(&mut batch));
                let written = tokio::task::spawn_blocking(move || disk.write(jobs)).await;
                if let Err(error) = written {
                    tracing::error!("the store on disk broke: {error}");
                    return;
                }
            }
            if is_over {
                return;
            }
        }
    }

    /// A page for `question` that is fresh and was not purged.
    pub(crate) async fn find(&self, question: &Question) -> Option<Kept> {
        let place = self.place(question)?;
        let disk = self.clone();
        let key = question.key().as_str().to_owned();
        tokio::task::spawn_blocking(move || disk.read(&key, &place)).await.ok().flatten()
    }

    pub(crate) fn status(&self) -> DiskStatus {
        let bytes =
            lock(&self.0.segments).iter().map(|one| one.bytes.load(Ordering::Relaxed)).sum();
        DiskStatus {
            addresses: lock(&self.0.places).len(),
            bytes,
            written: self.0.written.load(Ordering::Relaxed),
            found: self.0.found.load(Ordering::Relaxed),
            corrupt: self.0.corrupt.load(Ordering::Relaxed),
            failed_writes: self.0.failed_writes.load(Ordering::Relaxed),
        }
    }

    fn place(&self, question: &Question) -> Option<Place> {
        let inner = &self.0;
        let (key, now_ms) = (question.key().as_str(), inner.clock.now_ms());
        let mut places = lock(&inner.places);
        let of_key = places.get_mut(key)?;
        of_key.retain(|place| {
            place.fresh_until_unix_ms > now_ms && inner.cache.is_valid(key, &place.mark)
        });
        if of_key.is_empty() {
            places.remove(key);
            return None;
        }
        of_key.iter().rev().find(|place| question.selects(&place.selection)).cloned()
    }

    fn read(&self, key: &str, place: &Place) -> Option<Kept> {
        let file = &place.segment.file;
        let whole = || -> io::Result<Option<Kept>> {
            let end = place.segment.bytes.load(Ordering::Acquire);
            let Some((span, Meta::Page(page))) = Span::read(file, place.span.at, end)? else {
                return Ok(None);
            };
            let is_same = page.key == key && span == place.span;
            Ok(page.kept(place.span.body(file)?, place.mark.clone()).filter(|_| is_same))
        };
        match whole() {
            Ok(Some(kept)) => {
                self.0.found.fetch_add(1, Ordering::Relaxed);
                Some(kept)
            }
            Ok(None) | Err(_) => {
                self.0.corrupt.fetch_add(1, Ordering::Relaxed);
                lock(&self.0.places).remove(key);
                tracing::warn!("a page on disk is not what was written; it is fetched anew");
                None
            }
        }
    }

    fn write(&self, jobs: Vec<Job>) {
        if self.0.cache.take_overrun() {
            self.forget_all();
        }
        let now_ms = self.now_ms();
        let has_purge = jobs.iter().any(|job| matches!(job, Job::Purge(_)));
        let rests = self.0.rests_until_ms.load(Ordering::Relaxed) > now_ms;
        if rests && !has_purge {
            return;
        }
        let folder = self.0.folder.display();
        let Err(error) = self.append(jobs) else {
            self.0.rests_until_ms.store(0, Ordering::Relaxed);
            if self.0.is_failing.swap(false, Ordering::Relaxed) {
                tracing::info!("{folder} can be written to again");
            }
            return;
        };
        self.0.failed_writes.fetch_add(1, Ordering::Relaxed);
        self.0.rests_until_ms.store(now_ms + REST_MS, Ordering::Relaxed);
        // Told once, and not for as long as it lasts.
        if !self.0.is_failing.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                "cannot write to {folder}: {error}; pages are kept in memory alone until that is over"
            );
        }
        match has_purge {
            // What cannot be said to be purged must not be there after a restart.
            true => self.forget_all(),
            false => self.drop_oldest(),
        }
    }

    fn append(&self, jobs: Vec<Job>) -> io::Result<()> {
        let segment = self.active()?;
        let start = segment.bytes.load(Ordering::Relaxed);
        let (mut out, mut pages) = (Vec::new(), Vec::new());
        for job in jobs {
            let at = start + out.len() as u64;
            match job {
                // It was on its way when it was purged, and would be behind the purge after a restart.
                Job::Page(kept) if !self.0.cache.is_valid(&kept.key, &kept.mark) => {}
                Job::Page(kept) => {
                    let meta = Meta::Page(Page::of(&kept));
                    let span = Span::write(&mut out, at, &meta, &kept.body)?;
                    pages.push((kept, span));
                }
                Job::Purge(purge) => {
                    Span::write(&mut out, at, &purge.into(), &[])?;
                }
            }
        }
        let mut file = &segment.file;
        if let Err(error) = file.write_all(&out) {
            // Half a record is as good as none, and nothing may follow it.
            let _ = segment.file.set_len(start);
            if start == 0 {
                let _ = fs::remove_file(&segment.path);
                lock(&self.0.segments).retain(|one| one.number != segment.number);
            }
            return Err(error);
        }
        segment.bytes.store(start + out.len() as u64, Ordering::Release);
        let written = pages.len() as u64;
        let mut places = lock(&self.0.places);
        for (kept, span) in pages {
            let Kept { key, selection, fresh_until_unix_ms, mark, .. } = *kept;
            let segment = Arc::clone(&segment);
            put(&mut places, key, Place { selection, segment, span, fresh_until_unix_ms, mark });
        }
        drop(places);
        self.0.written.fetch_add(written, Ordering::Relaxed);
        while self.status().bytes > self.0.max_bytes && lock(&self.0.segments).len() > 1 {
            self.drop_oldest();
        }
        Ok(())
    }

    /// The segment that is written to; a new one when it is full.
    fn active(&self) -> io::Result<Arc<Segment>> {
        let most = (self.0.max_bytes / 16).clamp(LEAST_SEGMENT, MOST_SEGMENT);
        let mut segments = lock(&self.0.segments);
        if let Some(last) = segments.last()
            && last.is_own
            && last.bytes.load(Ordering::Relaxed) < most
            && last.path.exists()
        {
            return Ok(Arc::clone(last));
        }
        let mut number = segments.last().map_or(0, |last| last.number + 1);
        loop {
            let path = self.0.folder.join(format!("{number:012}.pages"));
            match OpenOptions::new().read(true).append(true).create_new(true).open(&path) {
                Ok(file) => {
                    let bytes = AtomicU64::new(0);
                    let segment = Segment { number, path, file, bytes, is_own: true };
                    segments.push(Arc::new(segment));
                    return Ok(Arc::clone(&segments[segments.len() - 1]));
                }
                // The process before this one is not yet gone, and writes there.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => number += 1,
                Err(error) => return Err(error),
            }
        }
    }

    fn drop_oldest(&self) {
        let oldest = {
            let mut segments = lock(&self.0.segments);
            if segments.is_empty() {
                return;
            }
            segments.remove(0)
        };
        let _ = fs::remove_file(&oldest.path);
        lock(&self.0.places).retain(|_, of_key| {
            of_key.retain(|place| place.segment.number != oldest.number);
            !of_key.is_empty()
        });
    }

    fn forget_all(&self) {
        let segments = std::mem::take(&mut *lock(&self.0.segments));
        segments.iter().for_each(|segment| drop(fs::remove_file(&segment.path)));
        lock(&self.0.places).clear();
    }

    /// Finds the pages of former processes, but those that were purged after they were written.
    fn load(&self) -> io::Result<()> {
        let mut paths: Vec<(u64, PathBuf)> = Vec::new();
        for entry in fs::read_dir(&self.0.folder)? {
            let path = entry?.path();
            let number = path.file_stem().and_then(|stem| stem.to_str()?.parse().ok());
            let is_ours = path.extension().is_some_and(|extension| extension == "pages");
            paths.extend(number.filter(|_| is_ours).map(|number| (number, path)));
        }
        paths.sort();
        let (mut pages, mut purged) = (Vec::new(), Purged::default());
        let mut order = 0_u64;
        for (number, path) in paths {
            let file = File::open(&path)?;
            let length = file.metadata()?.len();
            let bytes = AtomicU64::new(length);
            let segment = Arc::new(Segment { number, path, file, bytes, is_own: false });
            let mut at = 0;
            loop {
                order += 1;
                match Span::read(&segment.file, at, length) {
                    Ok(Some((span, meta))) => {
                        at += span.length();
                        match meta {
                            Meta::Page(page) => {
                                pages.push((order, page, span, Arc::clone(&segment)))
                            }
                            meta => purged.note(meta, order),
                        }
                    }
                    Ok(None) => break,
                    Err(_) => {
                        // The rest of a segment that was cut off cannot be read.
                        self.0.corrupt.fetch_add(1, Ordering::Relaxed);
                        break;
                    }
                }
            }
            lock(&self.0.segments).push(segment);
        }
        let now_ms = self.0.clock.now_ms();
        let mut places = lock(&self.0.places);
        for (order, page, span, segment) in pages {
            if page.fresh_until_unix_ms <= now_ms || purged.has(&page, order) {
                continue;
            }
            let Some(selection) = page.selection() else { continue };
            let mark = self.0.cache.mark(&page.key, page.tags());
            let fresh_until_unix_ms = page.fresh_until_unix_ms;
            let place = Place { selection, segment, span, fresh_until_unix_ms, mark };
            put(&mut places, page.key, place);
        }
        Ok(())
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.0.clock.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// What was purged, and after which record.
#[derive(Default)]
struct Purged {
    tags: HashMap<String, u64>,
    addresses: HashMap<String, u64>,
    patterns: Vec<(String, u64)>,
    all: u64,
}

impl Purged {
    fn note(&mut self, meta: Meta, order: u64) {
        match meta {
            Meta::Tag(tag) => {
                self.tags.insert(tag, order);
            }
            Meta::Address(address) => {
                self.addresses.insert(address, order);
            }
            Meta::Pattern(pattern) => self.patterns.push((pattern, order)),
            Meta::All => self.all = order,
            Meta::Page(_) => {}
        }
    }

    fn has(&self, page: &Page, order: u64) -> bool {
        let after = |purged: Option<&u64>| purged.is_some_and(|purged| *purged > order);
        self.all > order
            || after(self.addresses.get(&page.key))
            || page.tags().any(|tag| after(self.tags.get(tag)))
            || self
                .patterns
                .iter()
                .any(|(pattern, purged)| *purged > order && stars::matches(pattern, &page.key))
    }
}

/// Puts a place in, for one that answers the same requests.
fn put(places: &mut HashMap<String, Vec<Place>>, key: String, place: Place) {
    let of_key = places.entry(key).or_default();
    of_key.retain(|other| other.selection != place.selection);
    if of_key.len() >= MOST_VARIANTS {
        of_key.remove(0);
    }
    of_key.push(place);
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What waits to be written, pages and purges. Further pages are not written; when a purge finds no
/// place, all that is on disk goes.
const MOST_JOBS: usize = 4_096;
const MOST_AT_ONCE: usize = 256;
const MOST_VARIANTS: usize = 32;
const LEAST_SEGMENT: u64 = 64 << 10;
const MOST_SEGMENT: u64 = 64 << 20;
const REST_MS: u64 = Duration::from_secs(10).as_millis() as u64;
