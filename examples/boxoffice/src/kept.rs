//! What the site keeps in its cache: readers go through it, and whoever writes sets what it changed,
//! so that no reader loads what a writer already knows.

use throng::{
    Ctx, Result,
    cache::{Cacheable, Life},
};

use crate::models::counters::{self, Counted};

/// Makes what is kept under `key` anew, after something in it was written. Call it after the commit.
///
/// A cache that is away is no failure of the write: what it keeps runs out by itself.
pub(crate) async fn renew<T: Cacheable>(
    cx: &Ctx,
    key: &str,
    life: impl Into<Life>,
    make: impl Future<Output = Result<T>>,
) {
    // Of two who make it at once the later one stays: it took its number after its own commit, and
    // reads what was committed before that.
    let version = cx.ids.next();
    let set = match make.await {
        Ok(value) => cx.cache.set(key, &value, life.into().version(version)).await.is_ok(),
        Err(_) => false,
    };
    if !set && let Err(error) = cx.cache.delete(key).await {
        tracing::warn!(key, %error, "`{key}` stays in the cache as it was: {error}");
    }
}

/// How many there are, as of the last count.
pub(crate) async fn count(cx: &Ctx, counted: Counted) -> Result<i32> {
    let db = cx.db.clone();
    let load = async move || counters::of(&db, counted).await;
    Ok(cx.cache.fetch(count_key(counted), COUNTS, load).await?)
}

/// Something was counted anew.
pub(crate) async fn counted(cx: &Ctx, counted: Counted) {
    let total = async { Ok(counters::of(&cx.db, counted).await?) };
    renew(cx, &count_key(counted), COUNTS, total).await;
}

fn count_key(counted: Counted) -> String {
    let (kind, id) = counted.key();
    format!("count/{kind}/{id}")
}

const COUNTS: std::time::Duration = std::time::Duration::from_secs(60);
