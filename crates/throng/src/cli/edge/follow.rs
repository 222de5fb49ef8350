//! Follows the file of a running edge. A file that is wrong changes nothing.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use throng_edge::{Certificates, Edge};
use tokio::{
    signal::unix::Signal,
    time::{MissedTickBehavior, interval},
};

use super::file::Page;

/// What an edge was told last, and where it is told more.
pub(super) struct Follow {
    path: Option<PathBuf>,
    page: Page,
    text: String,
    certificates: Option<Certificates>,
    /// What was wrong with the certificates when they were read last.
    wrong: Option<String>,
    hang_up: Signal,
}

/// Gives the back ends of `edge` the weights that `page` says, and the edge its mode.
pub(super) fn set(edge: &Edge, page: &Page, path: &Path) {
    edge.set_read_only(page.read_only);
    for back_end in &page.upstream {
        if let Ok(upstream) = back_end.upstream(path) {
            edge.set_weight(upstream.name(), back_end.weight);
            edge.drain(upstream.name(), back_end.drain);
        }
    }
}

impl Follow {
    pub(super) fn new(
        path: Option<PathBuf>,
        (page, text): (Page, String),
        certificates: Option<Certificates>,
        hang_up: Signal,
    ) -> Self {
        Self { path, page, text, certificates, wrong: None, hang_up }
    }

    /// Looks at the file once a second, and when the process gets HUP. Never ends.
    pub(super) async fn run(&mut self, edge: &Edge) {
        let mut ticks = interval(PAUSE);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                _ = self.hang_up.recv() => {}
            }
            if let Some(path) = self.path.clone() {
                self.look(edge, &path).await;
            }
            self.look_at_certificates().await;
        }
    }

    async fn look_at_certificates(&mut self) {
        let Some(certificates) = self.certificates.clone() else { return };
        let reload = tokio::task::spawn_blocking(move || certificates.reload());
        let Ok(reloaded) = reload.await else { return };
        let wrong = reloaded.as_ref().err().map(ToString::to_string);
        match (&reloaded, &wrong) {
            (Ok(true), _) => tracing::info!("there are new certificates"),
            // Told once, not once a second.
            (_, Some(error)) if wrong != self.wrong => {
                tracing::error!("{error}; the old certificates stay in force");
            }
            _ => {}
        }
        self.wrong = wrong;
    }

    async fn look(&mut self, edge: &Edge, path: &Path) {
        // An editor may be between taking the old file away and putting the new one there.
        let Ok(text) = tokio::fs::read_to_string(path).await else { return };
        if text == self.text {
            return;
        }
        match Page::read(path, &text) {
            Ok(page) => self.change(edge, path, page),
            Err(error) => tracing::error!("{error}; the old one stays in force"),
        }
        self.text = text;
    }

    fn change(&mut self, edge: &Edge, path: &Path, page: Page) {
        let file = path.display();
        if let Err(error) = page.upstreams(path).and_then(|upstreams| edge.set_upstreams(upstreams))
        {
            tracing::error!("{file}: {error}; the old one stays in force");
            return;
        }
        if let (Some(certificates), true) = (&self.certificates, page.tls.is_some())
            && let Err(error) = certificates.set_files(page.certificates(path))
        {
            tracing::error!("{error}; the old certificates stay in force");
        }
        set(edge, &page, path);
        tracing::info!("{file}: read again, back ends: {}", page.upstream.len());
        if page.fixed() != self.page.fixed() {
            tracing::warn!(
                "{file}: only back ends, certificates and `read_only` change while the edge runs; \
                 the rest waits for a restart, which USR2 does without losing a request"
            );
        }
        self.page = page;
    }
}

const PAUSE: Duration = Duration::from_secs(1);
