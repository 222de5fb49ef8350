//! The causal token: how far a database must have got to show a visitor what he has done.

use std::{fmt, str::FromStr};

use crate::sight::Position;

/// What a visitor carries from one request to the next, and a task from whoever pushed it. Its text
/// is short and says nothing secret; whoever hands it to strangers signs it.
///
/// A token that is wrong is harmless: one of another cluster, of another timeline or from the
/// future sends reads to the primary, which never shows too little.
///
/// ```
/// # use throng_db::Token;
/// let token: Token = "p.1f.1.3000060".parse()?;
/// assert_eq!(token.to_string(), "p.1f.1.3000060");
/// assert!("p.1f".parse::<Token>().is_err());
/// # Ok::<(), throng_db::BadToken>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token(pub(crate) Stand);

/// What a token says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stand {
    /// A place in the log of a cluster's primary. `is_shown` when it was a replica that showed the
    /// visitor as much.
    Position { cluster: u64, position: Position, is_shown: bool },
    /// Reads stay on the primary until then: the engine has no positions, or could not be asked.
    Clock { until_ms: i64 },
}

/// The text is no token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this is no causal token")]
pub struct BadToken;

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Stand::Position { cluster, position, is_shown } => {
                let kind = if is_shown { 's' } else { 'p' };
                write!(f, "{kind}.{cluster:x}.{:x}.{:x}", position.timeline, position.at)
            }
            Stand::Clock { until_ms } => write!(f, "c.{until_ms:x}"),
        }
    }
}

impl FromStr for Token {
    type Err = BadToken;

    fn from_str(text: &str) -> Result<Self, BadToken> {
        let mut parts = text.split('.');
        let stand = match parts.next() {
            Some(kind @ ("p" | "s")) => Stand::Position {
                is_shown: kind == "s",
                cluster: hex(parts.next())?,
                position: Position {
                    timeline: hex(parts.next())?.try_into().map_err(|_| BadToken)?,
                    at: hex(parts.next())?,
                },
            },
            Some("c") => {
                Stand::Clock { until_ms: hex(parts.next())?.try_into().map_err(|_| BadToken)? }
            }
            _ => return Err(BadToken),
        };
        if parts.next().is_some() {
            return Err(BadToken);
        }
        Ok(Self(stand))
    }
}

fn hex(text: Option<&str>) -> Result<u64, BadToken> {
    let text = text.filter(|text| text.bytes().all(|byte| byte.is_ascii_hexdigit()));
    u64::from_str_radix(text.ok_or(BadToken)?, 16).map_err(|_| BadToken)
}
