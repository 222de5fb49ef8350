//! Page caches that are programs of their own, such as `throng edge` on other machines: they are told over
//! HTTP what has changed.

use std::{
    collections::{BTreeSet, VecDeque},
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use http::Uri;
use throng_core::{Clock, Secret, Shutdown};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::Notify,
};

/// One edge, and what it has yet to hear.
pub(crate) struct Outer {
    /// Host and port.
    address: String,
    token: Secret,
    wanted: Mutex<Wanted>,
    is_more: Notify,
}

/// What is to be purged. Beyond a bound it is everything.
#[derive(Debug, Default, PartialEq, Eq)]
struct Wanted {
    tags: BTreeSet<String>,
    is_all: bool,
}

/// Why an edge cannot be told.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OuterError {
    #[error("`{0}` is no place to send purges to; it must be `http://host:port` and nothing more")]
    Url(String),
    #[error("set `edge.purge_token` to what the edges were given, or they refuse every purge")]
    NoToken,
}

impl Outer {
    /// The edges at `urls`, which purge for whoever shows `token`.
    pub(super) fn all(
        urls: &[String],
        token: Option<&Secret>,
    ) -> Result<Vec<Arc<Self>>, OuterError> {
        let outer = |url: &String| {
            let address = address(url).ok_or_else(|| OuterError::Url(url.clone()))?;
            let token = token.ok_or(OuterError::NoToken)?.clone();
            let (wanted, is_more) = (Mutex::default(), Notify::new());
            Ok(Arc::new(Self { address, token, wanted, is_more }))
        };
        urls.iter().map(outer).collect()
    }

    /// Has it purge what carries `tag`, as soon as it can be reached.
    pub(super) fn purge(&self, tag: &str) {
        self.wanted().add(tag.to_owned());
        self.is_more.notify_one();
    }

    /// Tells it, until `shutdown` and what there is to tell by then.
    pub(crate) async fn tell(self: Arc<Self>, clock: Clock, shutdown: Shutdown) {
        let mut told: VecDeque<(Duration, Wanted)> = VecDeque::new();
        let mut second = Wanted::default();
        let mut trouble = Trouble::default();
        loop {
            let due = told.front().map(|(due, _)| due.saturating_sub(clock.elapsed()));
            tokio::select! {
                () = self.is_more.notified() => {}
                () = clock.sleep(due.unwrap_or_default()), if due.is_some() => {
                    second.extend(told.pop_front().map(|(_, told)| told).unwrap_or_default());
                }
                () = shutdown.requested() => {}
            }
            let first = std::mem::take(&mut *self.wanted());
            match self.send(&[&first, &second], &clock).await {
                Ok(()) => {
                    trouble.is_over(&self.address);
                    second = Wanted::default();
                    if told.iter().map(|(_, told)| told.tags.len()).sum::<usize>() > MOST_TAGS {
                        told = VecDeque::from([(clock.elapsed() + AGAIN, Wanted::everything())]);
                    } else if !first.is_empty() {
                        told.push_back((clock.elapsed() + AGAIN, first));
                    }
                }
                Err(error) => {
                    self.wanted().extend(first);
                    let pause = trouble.met(&self.address, &error);
                    tokio::select! {
                        () = clock.sleep(pause) => self.is_more.notify_one(),
                        () = shutdown.requested() => {}
                    }
                }
            }
            if shutdown.is_requested() {
                return;
            }
        }
    }

    async fn send(&self, wanted: &[&Wanted], clock: &Clock) -> io::Result<()> {
        for fields in fields(wanted) {
            let told = clock.timeout(PATIENCE, self.ask(&fields)).await;
            told.unwrap_or_else(|| Err(io::ErrorKind::TimedOut.into()))?;
        }
        Ok(())
    }

    async fn ask(&self, fields: &str) -> io::Result<()> {
        let Self { address, token, .. } = self;
        let mut stream = TcpStream::connect(address).await?;
        let head = format!(
            "PURGE / HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {}\r\n{fields}\r\n\
             content-length: 0\r\nconnection: close\r\n\r\n",
            token.reveal()
        );
        stream.write_all(head.as_bytes()).await?;
        let mut start = [0; STATUS.len()];
        stream.read_exact(&mut start).await?;
        match &start {
            STATUS => Ok(()),
            b"HTTP/1.1 403" => Err(io::Error::other("it refuses the token")),
            other => {
                let said = String::from_utf8_lossy(other);
                Err(io::Error::other(format!("it says `{said}`")))
            }
        }
    }

    fn wanted(&self) -> MutexGuard<'_, Wanted> {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wanted {
    fn everything() -> Self {
        Self { tags: BTreeSet::new(), is_all: true }
    }

    fn is_empty(&self) -> bool {
        !self.is_all && self.tags.is_empty()
    }

    fn extend(&mut self, other: Self) {
        self.is_all |= other.is_all;
        other.tags.into_iter().for_each(|tag| self.add(tag));
        if self.is_all {
            self.tags.clear();
        }
    }

    fn add(&mut self, tag: String) {
        if !self.is_all {
            self.tags.insert(tag);
        }
        if self.tags.len() > MOST_TAGS {
            *self = Self::everything();
        }
    }
}

/// The field of each request that it takes to purge all of these.
fn fields(wanted: &[&Wanted]) -> Vec<String> {
    if wanted.iter().any(|wanted| wanted.is_all) {
        return vec!["x-ban: *".to_owned()];
    }
    let mut fields: Vec<String> = Vec::new();
    for tag in wanted.iter().flat_map(|wanted| &wanted.tags) {
        match fields.last_mut().filter(|field| field.len() + tag.len() < MOST_BYTES) {
            Some(field) => {
                field.push(' ');
                field.push_str(tag);
            }
            None => fields.push(format!("surrogate-key: {tag}")),
        }
    }
    fields
}

/// Host and port of `http://host:port`.
fn address(url: &str) -> Option<String> {
    let uri: Uri = url.parse().ok()?;
    let authority = uri.authority().filter(|authority| !authority.as_str().contains('@'))?;
    let is_bare = uri.scheme_str() == Some("http") && uri.path() == "/" && uri.query().is_none();
    is_bare.then(|| format!("{}:{}", authority.host(), authority.port_u16().unwrap_or(80)))
}

/// What goes wrong with an edge, told when it begins, when it becomes something else, and when it is over.
#[derive(Default)]
struct Trouble {
    said: Option<String>,
    pause: Duration,
}

impl Trouble {
    /// How long to wait before the next attempt.
    fn met(&mut self, address: &str, error: &io::Error) -> Duration {
        let error = error.to_string();
        if self.said.as_ref() != Some(&error) {
            tracing::warn!(
                "cannot tell the edge at {address} what to purge: {error}; it is tried again"
            );
            self.said = Some(error);
        }
        self.pause = (2 * self.pause).clamp(FIRST_PAUSE, LONGEST_PAUSE);
        self.pause
    }

    fn is_over(&mut self, address: &str) {
        if std::mem::take(self).said.is_some() {
            tracing::info!("the edge at {address} hears of purges again");
        }
    }
}

const STATUS: &[u8; 12] = b"HTTP/1.1 200";
const PATIENCE: Duration = Duration::from_secs(5);
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// Each purge is told twice: a process that keeps copies of a shared cache for two seconds may have made
/// a page of an older copy meanwhile.
const AGAIN: Duration = Duration::from_secs(3);
/// Tags that are told one by one; with more, everything is purged.
const MOST_TAGS: usize = 10_000;
/// What goes into one field; an edge takes heads of 64 KiB.
const MOST_BYTES: usize = 8 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_tags_are_several_requests_and_too_many_are_everything() {
        let mut wanted = Wanted::default();
        assert!(fields(&[&wanted]).is_empty());
        (0..2_000).for_each(|number| wanted.add(format!("event-{number}")));
        let some = fields(&[&wanted, &Wanted::default()]);
        assert!(some.len() > 1 && some.iter().all(|field| field.len() <= MOST_BYTES));
        let tags = some.iter().map(|field| field.split(' ').count() - 1).sum::<usize>();
        assert_eq!(tags, 2_000);
        (0..=MOST_TAGS).for_each(|number| wanted.add(format!("event-{number}")));
        assert_eq!(fields(&[&wanted]), ["x-ban: *"]);
        let mut other = Wanted::default();
        other.add("event-1".to_owned());
        other.extend(wanted);
        assert_eq!(other, Wanted::everything());
    }

    #[test]
    fn an_edge_is_a_host_and_a_port() {
        assert_eq!(address("http://10.0.0.9:8080").as_deref(), Some("10.0.0.9:8080"));
        assert_eq!(address("http://edge/").as_deref(), Some("edge:80"));
        for wrong in ["edge:8080", "https://edge", "http://edge/purge", "http://me@edge", ""] {
            assert_eq!(address(wrong), None, "{wrong}");
        }
    }
}
