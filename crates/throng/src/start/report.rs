//! What a serving process tells of its work: over a socket in the data folder, `run/PID-STARTED.sock`,
//! which gives one JSON object to whoever connects. Why so: `docs/decisions/0012`.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{UnixListener, UnixStream},
    task::JoinHandle,
    time::timeout,
};

use super::{Role, Works};

/// The socket of this process. It answers until [`Report::end`].
pub(crate) struct Report {
    path: PathBuf,
    answering: JoinHandle<()>,
}

impl Report {
    /// Begins to answer. A process that cannot does its work all the same.
    pub(crate) fn begin(works: &Arc<Works>, roles: &[&'static Role]) -> Option<Self> {
        let site = works.door.site();
        let folder = folder(&site.0.config.data);
        let started_ms = site.0.clock.now_ms();
        let path = folder.join(format!("{}-{started_ms}.{EXTENSION}", std::process::id()));
        let listener = match listen(&folder, &path) {
            Ok(listener) => listener,
            Err(error) => {
                let shown = path.display();
                tracing::warn!(%error, "`db status` will not show this process: cannot listen on {shown}");
                return None;
            }
        };
        let roles: Vec<_> = roles.iter().map(|role| role.name).collect();
        let works = Arc::clone(works);
        let answering = tokio::spawn(async move {
            loop {
                let Ok((stream, _)) = listener.accept().await else {
                    // Too many open files, most likely; it passes.
                    tokio::time::sleep(PATIENCE).await;
                    continue;
                };
                let told = json!({
                    "pid": std::process::id(),
                    "roles": &roles,
                    "started_ms": started_ms,
                    "database": works.door.site().0.db.status(),
                });
                // Who asked and went away needs no answer.
                let _ = timeout(PATIENCE, tell(stream, &told)).await;
            }
        });
        Some(Self { path, answering })
    }

    pub(crate) async fn end(self) {
        self.answering.abort();
        let _ = self.answering.await;
        let _ = fs::remove_file(&self.path);
    }
}

/// What each process of the site tells that runs with this data folder, oldest first.
pub(crate) async fn all(data: &Path) -> Vec<Value> {
    let mut told = Vec::new();
    for path in sockets(&folder(data)) {
        // One that has just ended is not shown.
        if let Ok(Ok(process)) = timeout(PATIENCE, ask(&path)).await {
            told.push(process);
        }
    }
    told.sort_by_key(|process| process["started_ms"].as_i64());
    told
}

fn listen(folder: &Path, path: &Path) -> io::Result<UnixListener> {
    fs::create_dir_all(folder)?;
    for left in sockets(folder) {
        // A process that was killed has left it behind.
        let refused = io::ErrorKind::ConnectionRefused;
        let asked = std::os::unix::net::UnixStream::connect(&left);
        if asked.is_err_and(|error| error.kind() == refused) {
            let _ = fs::remove_file(left);
        }
    }
    UnixListener::bind(path)
}

async fn tell(mut stream: UnixStream, told: &Value) -> io::Result<()> {
    stream.write_all(told.to_string().as_bytes()).await?;
    stream.shutdown().await
}

async fn ask(path: &Path) -> io::Result<Value> {
    let mut text = Vec::new();
    let stream = UnixStream::connect(path).await?;
    stream.take(MAX_BYTES).read_to_end(&mut text).await?;
    Ok(serde_json::from_slice(&text)?)
}

fn sockets(folder: &Path) -> Vec<PathBuf> {
    // Without the folder there is nobody.
    let Ok(files) = fs::read_dir(folder) else { return Vec::new() };
    let paths = files.filter_map(|file| Some(file.ok()?.path()));
    paths.filter(|path| path.extension().is_some_and(|end| end == EXTENSION)).collect()
}

fn folder(data: &Path) -> PathBuf {
    data.join("run")
}

const EXTENSION: &str = "sock";
/// Longest wait for a process of this machine.
const PATIENCE: Duration = Duration::from_secs(1);
/// Far more than a process has to tell.
const MAX_BYTES: u64 = 4 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_a_killed_process_left_behind_is_cleared_away_and_the_living_are_asked() {
        let data = tempfile::tempdir().unwrap();
        let folder = folder(data.path());
        fs::create_dir_all(&folder).unwrap();
        drop(UnixListener::bind(folder.join("7-1.sock")).unwrap());
        let others = UnixListener::bind(folder.join("8-2.sock")).unwrap();
        let ours = listen(&folder, &folder.join("9-3.sock")).unwrap();
        assert_eq!(sockets(&folder).len(), 2, "{:?}", sockets(&folder));
        let answer = async |listener: UnixListener, told: Value| {
            // The first to connect may have been `listen`, which only looks.
            while let Ok((stream, _)) = listener.accept().await {
                let _ = tell(stream, &told).await;
            }
        };
        let one = tokio::spawn(answer(others, json!({ "pid": 8, "started_ms": 2 })));
        let other = tokio::spawn(answer(ours, json!({ "pid": 9, "started_ms": 3 })));
        let told = all(data.path()).await;
        assert_eq!(
            told.iter().map(|told| told["pid"].as_u64()).collect::<Vec<_>>(),
            [Some(8), Some(9)]
        );
        one.abort();
        other.abort();
    }
}
