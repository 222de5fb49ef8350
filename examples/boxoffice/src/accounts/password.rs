//! Password hashes in Django's format: argon2id for new ones, PBKDF2 read and replaced.

use std::{fmt, sync::Arc};

use argon2::{Algorithm, Argon2, Params, Version};
use base64::{
    Engine as _, engine::general_purpose::STANDARD, engine::general_purpose::STANDARD_NO_PAD,
};
use subtle::ConstantTimeEq;
use tokio::sync::Semaphore;

use super::Error;

/// Hashes and checks passwords on threads of their own, a few at a time. Cheap to clone.
#[derive(Clone)]
pub struct Hasher {
    cost: Cost,
    /// One argon2id hash takes 19 MiB and a core: more at once than cores only takes memory. Those
    /// who wait do so in order; the web server's limit on requests bounds how many.
    turns: Arc<Semaphore>,
    /// Checked when there is no such account, so that the answer takes as long.
    decoy: Arc<str>,
}

/// How much work a new hash is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cost {
    /// Memory in KiB. Defaults to 19,456 (19 MiB), as OWASP advises.
    pub memory_kib: u32,
    /// Passes over the memory. Defaults to 2.
    pub passes: u32,
}

impl Default for Cost {
    fn default() -> Self {
        Self { memory_kib: 19_456, passes: 2 }
    }
}

/// Whether a password was right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It was, and the stored hash is as a new one would be.
    Right,
    /// It was; store a new hash.
    RightButOld,
    /// It was not, or the stored text is no hash that this site reads.
    Wrong,
}

impl Hasher {
    /// Hashes at `cost`, on as many threads at once as there are cores.
    #[must_use]
    pub fn new(cost: Cost) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let decoy = encode(cost, b"no such account!", &[0; 32]).into();
        Self { cost, turns: Arc::new(Semaphore::new(cores)), decoy }
    }

    /// The text to store for `password`.
    ///
    /// # Errors
    /// [`Error::Hash`] when there is no memory or no randomness to hash with.
    pub async fn hash(&self, password: &str) -> Result<String, Error> {
        let (password, cost) = (password.to_owned(), self.cost);
        self.in_turn(move || {
            let mut salt = [0; 16];
            getrandom::fill(&mut salt).map_err(|error| Error::Hash(error.to_string()))?;
            // Django reads the salt as text, so it must be printable.
            let salt = STANDARD_NO_PAD.encode(salt);
            let hash = argon2id(cost, password.as_bytes(), salt.as_bytes())?;
            Ok(encode(cost, salt.as_bytes(), &hash))
        })
        .await
    }

    /// Checks `password` against what is stored; against a decoy when nothing is.
    ///
    /// # Errors
    /// [`Error::Hash`] when there is no memory to hash with.
    pub async fn check(&self, password: &str, stored: Option<&str>) -> Result<Verdict, Error> {
        let is_known = stored.is_some();
        let (password, cost) = (password.to_owned(), self.cost);
        let stored = stored.unwrap_or(&self.decoy).to_owned();
        let verdict = self.in_turn(move || check(cost, &password, &stored)).await?;
        Ok(if is_known { verdict } else { Verdict::Wrong })
    }

    async fn in_turn<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let gone = |error: &dyn fmt::Display| Error::Hash(error.to_string());
        let turn = self.turns.clone().acquire_owned().await.map_err(|error| gone(&error))?;
        let done = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            work()
        });
        done.await.map_err(|error| gone(&error))?
    }
}

impl fmt::Debug for Hasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hasher").field("cost", &self.cost).finish_non_exhaustive()
    }
}

fn check(cost: Cost, password: &str, stored: &str) -> Result<Verdict, Error> {
    let (algorithm, rest) = stored.split_once('$').unwrap_or_default();
    let (is_right, is_new) = match algorithm {
        "pbkdf2_sha256" => (check_pbkdf2(password, rest), false),
        "argon2" => match Phc::parse(rest) {
            Some(phc) => (phc.check(password)?, phc.is_made_at(cost)),
            None => (false, false),
        },
        _ => (false, false),
    };
    Ok(match (is_right, is_new) {
        (true, true) => Verdict::Right,
        (true, false) => Verdict::RightButOld,
        (false, _) => Verdict::Wrong,
    })
}

/// `iterations$salt$hash`, as Django writes it.
fn check_pbkdf2(password: &str, rest: &str) -> bool {
    let mut parts = rest.split('$');
    let (Some(iterations), Some(salt), Some(hash), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return false;
    };
    let (Ok(iterations @ 1..=MAX_ITERATIONS), Ok(hash)) =
        (iterations.parse(), STANDARD.decode(hash))
    else {
        return false;
    };
    let mut made = [0; 32];
    pbkdf2::pbkdf2_hmac::<sha2::Sha256>(
        password.as_bytes(),
        salt.as_bytes(),
        iterations,
        &mut made,
    );
    made.as_slice().ct_eq(&hash).into()
}

/// What follows `argon2$`: `argon2id$v=19$m=102400,t=2,p=8$salt$hash`.
struct Phc {
    algorithm: Algorithm,
    params: Params,
    salt: Vec<u8>,
    hash: Vec<u8>,
}

impl Phc {
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('$');
        let algorithm = match parts.next()? {
            "argon2id" => Algorithm::Argon2id,
            "argon2i" => Algorithm::Argon2i,
            "argon2d" => Algorithm::Argon2d,
            _ => return None,
        };
        if parts.next()? != "v=19" {
            return None;
        }
        let (mut memory, mut passes, mut lanes) = (0, 0, 0);
        for param in parts.next()?.split(',') {
            let (name, value) = param.split_once('=')?;
            let value: u32 = value.parse().ok()?;
            match name {
                "m" => memory = value,
                "t" => passes = value,
                "p" => lanes = value,
                _ => return None,
            }
        }
        let salt = STANDARD_NO_PAD.decode(parts.next()?).ok()?;
        let hash = STANDARD_NO_PAD.decode(parts.next()?).ok()?;
        if parts.next().is_some() || memory > MAX_MEMORY_KIB || passes > MAX_PASSES {
            return None;
        }
        let params = Params::new(memory, passes, lanes, Some(hash.len())).ok()?;
        Some(Self { algorithm, params, salt, hash })
    }

    fn check(&self, password: &str) -> Result<bool, Error> {
        let argon2 = Argon2::new(self.algorithm, Version::V0x13, self.params.clone());
        let mut made = vec![0; self.hash.len()];
        let hashed = argon2.hash_password_into(password.as_bytes(), &self.salt, &mut made);
        hashed.map_err(|error| Error::Hash(error.to_string()))?;
        Ok(made.ct_eq(&self.hash).into())
    }

    fn is_made_at(&self, cost: Cost) -> bool {
        let made = Cost { memory_kib: self.params.m_cost(), passes: self.params.t_cost() };
        matches!(self.algorithm, Algorithm::Argon2id) && made == cost
    }
}

fn argon2id(cost: Cost, password: &[u8], salt: &[u8]) -> Result<[u8; 32], Error> {
    let failed = |error: argon2::Error| Error::Hash(error.to_string());
    let params = Params::new(cost.memory_kib, cost.passes, 1, Some(32)).map_err(failed)?;
    let mut hash = [0; 32];
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(password, salt, &mut hash)
        .map_err(failed)?;
    Ok(hash)
}

fn encode(cost: Cost, salt: &[u8], hash: &[u8]) -> String {
    let Cost { memory_kib, passes } = cost;
    let (salt, hash) = (STANDARD_NO_PAD.encode(salt), STANDARD_NO_PAD.encode(hash));
    format!("argon2$argon2id$v=19$m={memory_kib},t={passes},p=1${salt}${hash}")
}

/// Ten times Django's of today: a stored hash beyond it is a mistake that would stall the site.
const MAX_ITERATIONS: u32 = 12_000_000;
const MAX_MEMORY_KIB: u32 = 1 << 20;
const MAX_PASSES: u32 = 64;
