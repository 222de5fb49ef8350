//! Which certificate a visitor gets.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
};

use rustls::{
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};

use super::{Certificate, CertificateStatus};

/// Certificates by name.
#[derive(Debug, Default)]
pub(super) struct Table {
    now: RwLock<Arc<Set>>,
    #[cfg(feature = "acme")]
    pub(super) proofs: super::prove::Proofs,
}

#[derive(Debug, Default)]
struct Set {
    all: Vec<Certificate>,
    /// Places in `all`. A wildcard is kept as `.example.org`.
    by_name: HashMap<String, usize>,
}

impl Table {
    pub(super) fn set(&self, certificates: Vec<Certificate>) {
        let set = Arc::new(Set::new(certificates));
        *self.now.write().unwrap_or_else(PoisonError::into_inner) = set;
    }

    pub(super) fn status(&self) -> Vec<CertificateStatus> {
        self.now().all.iter().map(|one| one.status.clone()).collect()
    }

    fn now(&self) -> Arc<Set> {
        Arc::clone(&self.now.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl ResolvesServerCert for Table {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        #[cfg(feature = "acme")]
        if let Some(shown) = self.proofs.shown(&hello) {
            return shown;
        }
        let set = self.now();
        let place = hello.server_name().and_then(|name| set.place(name)).unwrap_or(0);
        set.all.get(place).map(|one| Arc::clone(&one.key))
    }
}

impl Set {
    fn new(all: Vec<Certificate>) -> Self {
        let mut by_name = HashMap::new();
        for (place, certificate) in all.iter().enumerate() {
            for name in &certificate.status.names {
                let name = name.strip_prefix('*').unwrap_or(name).to_owned();
                // Of two for one name, the one that lasts longer.
                by_name
                    .entry(name)
                    .and_modify(|held: &mut usize| {
                        if all[*held].status.ends_s < certificate.status.ends_s {
                            *held = place;
                        }
                    })
                    .or_insert(place);
            }
        }
        Self { all, by_name }
    }

    /// The name itself before a wildcard, which stands for one label.
    fn place(&self, name: &str) -> Option<usize> {
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        let wildcard = || self.by_name.get(&name[name.find('.')?..]);
        self.by_name.get(&name).or_else(wildcard).copied()
    }
}
