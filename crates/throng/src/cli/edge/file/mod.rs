//! The file of an edge: what the command line has flags for, and everything else that can be set.

mod check;
mod wrong;

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use serde::Deserialize;
use throng_core::Secret;
use throng_edge::{PemFiles, Trust, Upstream, cache};
use toml::Spanned;

pub(super) use self::wrong::FileError;

/// What a file says. Two that are equal ask for the same edge.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Page {
    pub(super) listen: Option<Spanned<String>>,
    pub(super) access_log: bool,
    pub(super) read_only: bool,
    pub(super) figures: Option<SocketAddr>,
    cache_mib: Option<Spanned<u64>>,
    disk_folder: Option<Spanned<PathBuf>>,
    disk_mib: Option<u64>,
    balance: Balance,
    trust: Vec<Spanned<String>>,
    proxy_protocol: bool,
    purge_token: Option<String>,
    pub(super) upstream: Vec<BackEnd>,
    health: Health,
    limits: Limits,
    client: Client,
    policy: Policy,
    rule: Vec<Rule>,
    pub(super) tls: Option<Tls>,
    pub(super) acme: Option<Acme>,
}

/// `[acme]`: a certificate that the edge gets by itself. Paths begin at the folder of the file.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Acme {
    names: Spanned<Vec<String>>,
    contact: Option<String>,
    folder: PathBuf,
    directory: Option<String>,
    root: Option<PathBuf>,
    #[serde(default)]
    proof: Proof,
}

/// How an authority sees that a name is ours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
enum Proof {
    #[default]
    #[serde(rename = "http-01")]
    Http,
    #[serde(rename = "tls-alpn-01")]
    TlsAlpn,
}

/// `[tls]`: where HTTPS is spoken, and with which certificates.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Tls {
    pub(super) listen: Option<Spanned<String>>,
    /// Whether visitors who come in the clear are sent here.
    #[serde(default)]
    pub(super) redirect: bool,
    #[serde(default)]
    certificate: Vec<Certificate>,
}

/// One `[[tls.certificate]]`; a path begins at the folder of the file that names it.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Certificate {
    chain: Spanned<PathBuf>,
    key: PathBuf,
}

/// How a back end is chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Balance {
    #[default]
    PeakEwma,
    LeastConnections,
    Consistent,
}

/// One `[[upstream]]`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct BackEnd {
    url: Spanned<String>,
    /// Who issued its certificate, beside this file.
    ca: Option<PathBuf>,
    server_name: Option<String>,
    #[serde(default = "yes")]
    verify: bool,
    /// In percent of the usual share.
    #[serde(default = "usual")]
    pub(super) weight: u32,
    #[serde(default)]
    pub(super) drain: bool,
}

fn yes() -> bool {
    true
}

fn usual() -> u32 {
    100
}

/// Declares a section whose keys are fields of a part of the edge's own config: what the file leaves
/// out stays as it is there.
macro_rules! section {
    ($name:ident of $part:ty { $($field:ident: $type:ty),* $(,)? }) => {
        #[derive(Clone, Debug, Default, PartialEq, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        struct $name { $($field: Option<$type>),* }

        impl $name {
            fn apply(&self, part: &mut $part) {
                $(if let Some(value) = &self.$field { part.$field = value.clone().into(); })*
            }
        }
    };
}

section!(Health of throng_edge::Health {
    path: String,
    interval_ms: u64,
    timeout_ms: u64,
    fall: u32,
    rise: u32,
    eject_after: u32,
    eject_ms: u64,
    slow_start_ms: u64,
    panic_percent: u32,
});

section!(Limits of throng_edge::Config {
    head_timeout_ms: u64,
    body_timeout_ms: u64,
    max_head_bytes: usize,
    max_fields: usize,
    max_body_bytes: u64,
    max_connections: usize,
    connect_timeout_ms: u64,
    answer_timeout_ms: u64,
    max_requests_per_server: usize,
    max_queue: usize,
    queue_timeout_ms: u64,
    max_refreshes: usize,
    retries: usize,
    retry_after_s: u32,
});

section!(Client of throng_edge::ClientLimits {
    requests_per_s: u32,
    burst: u32,
    requests_at_a_time: u32,
});

section!(Policy of cache::Policy {
    default_ttl_ms: u64,
    is_heuristic: bool,
    grace_ms: u64,
    ahead_percent: u32,
    sick_ms: u64,
    read_only_ms: u64,
    session_cookies: Vec<String>,
    neutral_cookies: Vec<String>,
    tracking_cookies: Vec<String>,
    tracking_parameters: Vec<String>,
    stores_cookies: bool,
    heeds_clients: bool,
    selects_language: bool,
    hit_for_miss_ms: u64,
    sick_pause_ms: u64,
    max_object_bytes: u64,
    max_variants: usize,
});

/// One `[[rule]]`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    pattern: Spanned<String>,
    keep_ms: Option<u64>,
    #[serde(default)]
    bypass: bool,
}

impl Page {
    /// Reads the file at `path`, and its text.
    pub(super) fn load(path: &Path) -> Result<(Self, String), FileError> {
        let unreadable = |source| FileError::Unreadable { path: path.to_owned(), source };
        let text = std::fs::read_to_string(path).map_err(unreadable)?;
        Ok((Self::read(path, &text)?, text))
    }

    /// The back ends of the file at `path`, in its order.
    pub(super) fn upstreams(&self, path: &Path) -> Result<Vec<Upstream>, throng_edge::Error> {
        self.upstream.iter().map(|back_end| back_end.upstream(path)).collect()
    }

    /// The certificates that the file at `path` names.
    pub(super) fn certificates(&self, path: &Path) -> Vec<PemFiles> {
        let all = self.tls.iter().flat_map(|tls| &tls.certificate);
        all.map(|certificate| certificate.files(path)).collect()
    }

    /// The order that the file at `path` asks for.
    #[cfg(feature = "acme")]
    pub(super) fn order(&self, path: &Path) -> Option<throng_edge::Acme> {
        let Acme { names, contact, folder, directory, root, proof } = self.acme.as_ref()?;
        let beside = |other: &PathBuf| path.parent().unwrap_or(Path::new("")).join(other);
        let mut acme = throng_edge::Acme::new(names.get_ref().clone(), beside(folder));
        acme.contact.clone_from(contact);
        acme.proof = match proof {
            Proof::Http => throng_edge::Proof::Http,
            Proof::TlsAlpn => throng_edge::Proof::TlsAlpn,
        };
        acme.root = root.as_ref().map(beside);
        if let Some(directory) = directory {
            acme.directory.clone_from(directory);
        }
        Some(acme)
    }

    /// Writes what the file says over `config`.
    pub(super) fn apply(&self, config: &mut throng_edge::Config) {
        self.health.apply(&mut config.health);
        self.limits.apply(config);
        self.client.apply(&mut config.client);
        self.policy.apply(&mut config.policy);
        if let Some(mib) = &self.cache_mib {
            config.cache_bytes = mib.get_ref() << 20;
        }
        config.disk_folder = self.disk_folder.as_ref().map(|folder| folder.get_ref().clone());
        if let Some(mib) = self.disk_mib {
            config.disk_bytes = mib << 20;
        }
        if let Some(token) = &self.purge_token {
            config.purge_token = Some(Secret::new(token.clone()));
        }
        let networks = self.trust.iter().map(|network| network.get_ref().parse());
        config.trusted_peers.extend(networks.filter_map(Result::<throng_edge::Network, _>::ok));
        config.proxy_protocol = self.proxy_protocol;
        config.balance = match self.balance {
            Balance::PeakEwma => throng_edge::Balance::PeakEwma,
            Balance::LeastConnections => throng_edge::Balance::LeastConnections,
            Balance::Consistent => throng_edge::Balance::Consistent,
        };
        config.policy.rules = self.rule.iter().map(Rule::rule).collect();
    }

    /// The page without what a running edge can change.
    pub(super) fn fixed(&self) -> Self {
        let tls = self.tls.clone().map(|tls| Tls { certificate: Vec::new(), ..tls });
        Self { upstream: Vec::new(), read_only: false, tls, ..self.clone() }
    }
}

impl BackEnd {
    /// As the file at `path` means it.
    pub(super) fn upstream(&self, path: &Path) -> Result<Upstream, throng_edge::Error> {
        let ca = self.ca.as_ref().map(|ca| path.parent().unwrap_or(Path::new("")).join(ca));
        let trust = Trust { ca, name: self.server_name.clone(), is_blind: !self.verify };
        Upstream::trusted(self.url.get_ref(), &trust)
    }
}

impl Certificate {
    fn files(&self, file: &Path) -> PemFiles {
        let folder = file.parent().unwrap_or_else(|| Path::new(""));
        PemFiles { chain: folder.join(self.chain.get_ref()), key: folder.join(&self.key) }
    }
}

impl Rule {
    fn rule(&self) -> cache::Rule {
        let keep = |ttl_ms| cache::Action::Keep { ttl_ms };
        let action = self.keep_ms.map_or(cache::Action::Bypass, keep);
        cache::Rule { pattern: self.pattern.get_ref().clone(), action }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_file_says_reaches_the_edge_and_the_rest_stays() {
        let text = "trust = [\"10.0.0.0/8\"]\nbalance = \"consistent\"\n[[upstream]]\nurl = \"http://a:1\"\n[health]\npath = \"/up\"\n\
             [limits]\nretries = 1\n[policy]\nsession_cookies = [\"sid\"]\n[[rule]]\npattern = \"/live/*\"\n\
             keep_ms = 1000\n";
        let page = Page::read(Path::new("edge.toml"), text).unwrap();
        let mut config = throng_edge::Config::default();
        page.apply(&mut config);
        assert_eq!(config.health.path.as_deref(), Some("/up"));
        assert_eq!((config.retries, config.max_queue), (1, 1_024));
        assert_eq!(config.policy.session_cookies, ["sid"]);
        assert_eq!(config.policy.rules[0].action, cache::Action::Keep { ttl_ms: 1_000 });
        assert_eq!(config.policy.default_ttl_ms, 60_000);
        assert_eq!(config.trusted_peers.len(), 1);
        assert_eq!(config.balance, throng_edge::Balance::Consistent);
    }
}
