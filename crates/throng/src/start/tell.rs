//! Tells the other processes what this one writes to the shared cache, and hears what they write, so
//! that nobody serves a copy that somebody has written over.
//!
//! It goes by the bus, at most once: a change that is lost costs the time for which processes keep
//! copies, which is what it costs where the bus is in one process.

use std::time::Duration;

use futures_util::FutureExt;
use throng_bus::Bus;
use throng_cache::{Cache, Change, Changes};
use throng_core::{Clock, Shutdown, Trigger};
use tokio::{sync::Mutex, task::JoinSet};

use crate::Config;

/// The telling and the hearing of a process.
pub(crate) struct Telling {
    stop: Trigger,
    running: Mutex<JoinSet<()>>,
}

impl Telling {
    /// Begins, where both cache and bus are shared with other processes.
    pub(crate) fn begin(cache: &Cache, bus: &Bus, clock: &Clock) -> Self {
        let is_shared = cache.is_shared() && bus.is_shared();
        if is_shared { Self::between(cache, bus, clock) } else { Self::none() }
    }

    fn none() -> Self {
        Self { stop: Shutdown::pair().0, running: Mutex::default() }
    }

    fn between(cache: &Cache, bus: &Bus, clock: &Clock) -> Self {
        let (stop, shutdown) = Shutdown::pair();
        let mut running = JoinSet::new();
        running.spawn(tell(cache.changes(), bus.clone(), shutdown.clone()));
        running.spawn(hear(cache.clone(), bus.clone(), clock.clone(), shutdown));
        Self { stop, running: Mutex::new(running) }
    }

    /// Hears of something else as well, until the end.
    pub(crate) async fn also<F>(&self, hear: impl FnOnce(Shutdown) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.running.lock().await.spawn(hear(self.stop.shutdown()));
    }

    /// Tells what is still to be told, and ends.
    pub(crate) async fn end(&self) {
        self.stop.request();
        let mut running = self.running.lock().await;
        while running.join_next().await.is_some() {}
    }
}

/// Tells a change that a command made. That nobody can be told is no failure of the command.
pub(crate) async fn from_command(config: &Config, change: &Change) {
    match Bus::open(&config.bus.reveal()).await {
        Ok(bus) if bus.is_shared() => send(&bus, std::slice::from_ref(change)).await,
        Ok(_) => {}
        Err(error) => tracing::warn!(%error, "cannot tell other processes of a change: {error}"),
    }
}

async fn tell(mut changes: Changes, bus: Bus, shutdown: Shutdown) {
    let mut batch = Vec::new();
    loop {
        let next = tokio::select! {
            next = changes.next() => next,
            () = shutdown.requested() => changes.next().now_or_never().flatten(),
        };
        let Some(change) = next else { return };
        batch.push(change);
        // What was written at the same time is told in one message.
        while batch.len() < MAX_BATCH
            && let Some(Some(change)) = changes.next().now_or_never()
        {
            batch.push(change);
        }
        send(&bus, &batch).await;
        batch.clear();
    }
}

async fn send(bus: &Bus, changes: &[Change]) {
    let sent = match serde_json::to_vec(changes) {
        Ok(message) => bus.group_send(GROUP, message).await.map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    match sent {
        Ok(sent) if sent.dropped > 0 => {
            let lost = sent.dropped;
            tracing::warn!(lost, "{lost} processes did not keep up with the changes of the cache");
        }
        Ok(_) => {}
        Err(error) => tracing::warn!(error, "cannot tell other processes of a change: {error}"),
    }
}

async fn hear(cache: Cache, bus: Bus, clock: Clock, shutdown: Shutdown) {
    let hearing = async {
        loop {
            if let Err(error) = hear_all(&cache, &bus).await {
                tracing::warn!(%error, "cannot hear of changes of the cache: {error}");
            }
            clock.sleep(PAUSE).await;
        }
    };
    tokio::select! {
        () = hearing => {}
        () = shutdown.requested() => {}
    }
}

async fn hear_all(cache: &Cache, bus: &Bus) -> throng_bus::Result<()> {
    let mut heard = bus.subscribe(GROUP).await?;
    // What was written before, or while nothing was heard, may be anything.
    cache.forget();
    loop {
        let message = heard.next().await?;
        match serde_json::from_slice::<Vec<Change>>(&message) {
            Ok(changes) => changes.iter().for_each(|change| cache.hear(change)),
            Err(error) => tracing::warn!(%error, "a change of the cache cannot be read: {error}"),
        }
    }
}

/// The group of all processes of a site.
const GROUP: &str = "throng.cache";
/// How many changes go into one message.
const MAX_BATCH: usize = 256;
const PAUSE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use throng_cache::Memory;

    use super::*;

    const HOUR: Duration = Duration::from_secs(3_600);

    /// Caches of three processes on one engine, whose copies are good for an hour.
    fn three() -> [Cache; 3] {
        let engine = Memory::new(1 << 20, Clock::system());
        let config = throng_cache::Config { near_ms: 3_600_000, ..Default::default() };
        [(); 3].map(|()| config.clone().with_engine(engine.clone()))
    }

    /// Reads until `wanted` comes. What is not there is loaded as 0.
    async fn until(cache: &Cache, key: &str, wanted: u32) {
        let seen = async {
            while read(cache, key).await != wanted {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        let limit = Duration::from_secs(60);
        assert!(tokio::time::timeout(limit, seen).await.is_ok(), "`{key}` is not {wanted}");
    }

    async fn read(cache: &Cache, key: &str) -> u32 {
        cache.fetch(key, HOUR, async || Ok::<_, throng_cache::Error>(0)).await.unwrap()
    }

    #[tokio::test]
    async fn what_one_process_writes_the_others_see_at_once() {
        let (bus, clock) = (Bus::memory(), Clock::system());
        let [writer, reader, deaf] = three();
        let tellings = [&writer, &reader].map(|cache| Telling::between(cache, &bus, &clock));
        let tagged = throng_cache::Life::of(HOUR).tag("shows");
        writer.set("tagged", &1_u32, tagged).await.unwrap();
        until(&reader, "tagged", 1).await;
        writer.set("seats", &40_u32, HOUR).await.unwrap();
        until(&reader, "seats", 40).await;
        until(&deaf, "seats", 40).await;
        for left in (8..40).rev() {
            writer.set("seats", &left, HOUR).await.unwrap();
            until(&reader, "seats", left).await;
        }
        reader.set("seats", &7_u32, HOUR).await.unwrap();
        until(&writer, "seats", 7).await;
        writer.delete("seats").await.unwrap();
        until(&reader, "seats", 0).await;
        writer.expire_tag("shows").await.unwrap();
        until(&reader, "tagged", 0).await;
        assert_eq!(read(&deaf, "seats").await, 40, "who is not told keeps its copy");
        for telling in &tellings {
            telling.end().await;
        }
    }

    #[tokio::test]
    async fn what_was_written_last_is_told_before_a_process_ends() {
        let (bus, clock) = (Bus::memory(), Clock::system());
        let [writer, reader, _] = three();
        let hearing = Telling::between(&reader, &bus, &clock);
        writer.set("k", &1_u32, HOUR).await.unwrap();
        until(&reader, "k", 1).await;
        let telling = Telling::between(&writer, &bus, &clock);
        for number in 2..500_u32 {
            writer.set("k", &number, HOUR).await.unwrap();
        }
        telling.end().await;
        until(&reader, "k", 499).await;
        hearing.end().await;
    }
}
