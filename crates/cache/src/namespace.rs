//! Namespaces: keys that are forgotten together, by a generation that is part of each of them.

use std::{
    borrow::Cow,
    fmt::Write,
    sync::{Arc, atomic::Ordering},
};

use crate::{Cache, Result, core::Core};

impl Cache {
    /// A handle whose keys are in the namespace `name`: other handles do not meet them, and
    /// [`expire_namespace`](Self::expire_namespace) forgets them all at once, however many there
    /// are. Unlike a tag it holds for counters and for values that Python reads, too.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use throng_cache::Cache;
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build()?.block_on(async {
    /// let cache = Cache::memory();
    /// let organiser = cache.namespace("organiser/7");
    /// organiser.set_count("sold", 40, Duration::from_secs(60)).await?;
    /// cache.expire_namespace("organiser/7").await?;
    /// assert_eq!(organiser.count("sold").await?, None);
    /// # Ok::<(), throng_cache::Error>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// A namespace within a namespace goes by both their names and is expired by itself, or with
    /// the outer one.
    #[must_use]
    pub fn namespace(&self, name: impl AsRef<str>) -> Self {
        let names = self.names.iter().map(|name| &**name).chain([name.as_ref()]);
        Self { names: names.map(Arc::from).collect(), ..self.clone() }
    }

    /// Forgets everything in the namespace `name` of this handle. Other processes follow within
    /// [`Config::near_ms`](crate::Config::near_ms), or at once where they hear of changes.
    ///
    /// # Errors
    /// [`Error::Engine`](crate::Error::Engine).
    pub async fn expire_namespace(&self, name: impl AsRef<str>) -> Result<()> {
        let names = self.names.iter().map(|name| &**name).chain([name.as_ref()]);
        let path = names.collect::<Vec<_>>().join(SEPARATOR);
        self.core().expire_namespace(&path).await
    }

    /// The key as the store and the engine have it.
    pub(crate) async fn key<'a>(&self, key: &'a str) -> Cow<'a, str> {
        if self.names.is_empty() {
            return Cow::Borrowed(key);
        }
        let mut path = String::new();
        let mut whole = String::with_capacity(64 + key.len());
        for name in self.names.iter() {
            if !path.is_empty() {
                path.push_str(SEPARATOR);
            }
            path.push_str(name);
            let generation = self.core().generation(&path).await;
            // Writing to a string does not fail.
            let _ = write!(whole, "{name}.{generation}:");
        }
        whole.push_str(key);
        Cow::Owned(whole)
    }
}

impl Core {
    /// The generation of a namespace; while the engine is down, the one that it had last.
    async fn generation(&self, path: &str) -> u64 {
        let namespace = self.namespaces.of(path);
        let Some(far) = &self.far else {
            return namespace.generation.load(Ordering::Acquire);
        };
        let now_ms = self.near.now_ms();
        if now_ms < namespace.known_until_ms.load(Ordering::Acquire) {
            return namespace.generation.load(Ordering::Acquire);
        }
        let (before, doubts) = (namespace.generation.load(Ordering::Acquire), self.doubts.of(path));
        match self.ask_generation(&**far, &namespace_key(path)).await {
            // Unless something newer was told meanwhile.
            Ok(generation) => {
                let (told, order) = (&namespace.generation, Ordering::AcqRel);
                let _ = told.compare_exchange(before, generation, order, Ordering::Relaxed);
            }
            Err(error) => {
                tracing::warn!(namespace = path, %error, "cannot ask for the namespace `{path}`");
            }
        }
        let near_ms = i64::try_from(self.config.near_ms).unwrap_or(i64::MAX);
        namespace.known_until_ms.store(now_ms.saturating_add(near_ms), Ordering::Release);
        if self.doubts.of(path) != doubts {
            self.namespaces.doubt(path);
        }
        namespace.generation.load(Ordering::Acquire)
    }

    async fn expire_namespace(&self, path: &str) -> Result<()> {
        let namespace = self.namespaces.of(path);
        let Some(far) = &self.far else {
            namespace.generation.store(self.namespaces.fresh(), Ordering::Release);
            return Ok(());
        };
        let generation = self.next_generation(&**far, &namespace_key(path)).await?;
        namespace.generation.store(generation, Ordering::Release);
        self.tell_namespace(path, generation);
        Ok(())
    }
}

fn namespace_key(path: &str) -> String {
    format!("{NAMESPACE}{path}")
}

/// What the key of a namespace's generation begins with.
pub(crate) const NAMESPACE: &str = "throng.namespace.";
/// Between the names of a namespace within a namespace.
const SEPARATOR: &str = "/";
