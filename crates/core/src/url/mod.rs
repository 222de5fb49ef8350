//! Engine URLs: `scheme://user:password@host:port,host:port/path?option=value`, parsed once.
//!
//! One URL names an engine and everything it needs. Embedded engines have no hosts and may leave
//! the slashes out: `memory:`, `sqlite:data/site.db`, `sqlite:///srv/site.db`. Reserved characters
//! in names, passwords, paths and options are percent-encoded.

mod options;
mod percent;

use std::fmt;

pub use options::{FromOption, Options};

/// A parsed engine URL. Prints with its secrets hidden; see [`EngineUrl::reveal`].
#[derive(Clone, PartialEq, Eq)]
pub struct EngineUrl {
    scheme: String,
    user: Option<String>,
    password: Option<Secret>,
    hosts: Vec<Host>,
    path: String,
    has_authority: bool,
    query: Vec<(String, String)>,
}

/// One server of the URL's host list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// Name or address as configured, without brackets. Placement hashes it, so it is kept exactly.
    pub name: String,
    /// Port, when the URL gives one.
    pub port: Option<u16>,
}

/// Text that never prints: `Debug` and `Display` give `***`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

/// What is wrong with a URL. Messages name the value and what would be right, secrets hidden.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UrlError {
    /// There is no `scheme:` in front.
    #[error("`{text}` has no scheme; a URL looks like `{example}`")]
    NoScheme {
        /// The text, with anything that looks like a password hidden.
        text: String,
        /// A URL that would be right.
        example: &'static str,
    },
    /// The scheme is not one that this room opens in this build.
    #[error("{room} cannot open `{scheme}:`; this build opens {}", list(.opens))]
    UnknownScheme {
        /// The room that was asked.
        room: &'static str,
        /// The scheme that was given.
        scheme: String,
        /// Schemes that this build opens.
        opens: Vec<&'static str>,
    },
    /// A part of the URL cannot be read.
    #[error("the {part} of `{url}` is wrong: {reason}")]
    Part {
        /// Which part: host, port, path, option…
        part: &'static str,
        /// The URL, secrets hidden.
        url: String,
        /// What is wrong and what would be right.
        reason: String,
    },
    /// A query option has a value of the wrong type.
    #[error("option `{name}` of `{url}` is `{value}`; it takes {wants}")]
    OptionValue {
        /// The option's name.
        name: String,
        /// The URL, secrets hidden.
        url: String,
        /// The value that was given; `***` where the option is a secret.
        value: String,
        /// What the option takes.
        wants: &'static str,
    },
    /// A query option that the engine does not know.
    #[error("`{url}` has an unknown option `{name}`; {}", name_all(.known))]
    UnknownOption {
        /// The option's name.
        name: String,
        /// The URL, secrets hidden.
        url: String,
        /// The options that the engine knows.
        known: Vec<String>,
    },
}

impl EngineUrl {
    /// Reads a URL.
    ///
    /// # Errors
    /// [`UrlError::NoScheme`] or [`UrlError::Part`], naming the part that cannot be read.
    pub fn parse(text: &str) -> Result<Self, UrlError> {
        let (scheme, rest) = split_scheme(text)?;
        let mut url = Self {
            scheme: scheme.to_ascii_lowercase(),
            user: None,
            password: None,
            hosts: Vec::new(),
            path: String::new(),
            has_authority: false,
            query: Vec::new(),
        };
        let fault = |part, reason: String| UrlError::Part { part, url: mask(text), reason };
        if let Some(bad) = text.chars().find(|c| c.is_control() || c.is_whitespace()) {
            let reason = format!("it holds {bad:?}; percent-encode it");
            return Err(fault("text", reason));
        }
        let (rest, query) = rest.split_once('?').map_or((rest, None), |(r, q)| (r, Some(q)));
        let path = match rest.strip_prefix("//") {
            None => rest,
            Some(rest) => {
                url.has_authority = true;
                let end = rest.find('/').unwrap_or(rest.len());
                url.read_authority(&rest[..end]).map_err(|(part, reason)| fault(part, reason))?;
                &rest[end..]
            }
        };
        url.path = percent::decode(path).map_err(|reason| fault("path", reason))?;
        for pair in query.unwrap_or("").split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let name = percent::decode(name).map_err(|reason| fault("query", reason))?;
            let value = percent::decode(value).map_err(|reason| fault("query", reason))?;
            if url.query.iter().any(|(known, _)| *known == name) {
                return Err(fault("query", format!("option `{name}` stands twice")));
            }
            url.query.push((name, value));
        }
        Ok(url)
    }

    /// The scheme, in lower case: `sqlite`, `redis`, `memory`.
    #[must_use]
    pub fn scheme(&self) -> &str {
        &self.scheme
    }

    /// The user before the `@`, decoded.
    #[must_use]
    pub fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }

    /// The password before the `@`, decoded.
    #[must_use]
    pub fn password(&self) -> Option<&Secret> {
        self.password.as_ref()
    }

    /// The servers, in the order of the URL. Empty for an embedded engine.
    #[must_use]
    pub fn hosts(&self) -> &[Host] {
        &self.hosts
    }

    /// What follows the hosts, decoded, with its leading slash if there were hosts or slashes:
    /// `/0` of `redis://h/0`, `data/site.db` of `sqlite:data/site.db`, `/srv/x` of `sqlite:///srv/x`.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Reads the query options by type; see [`Options`].
    pub fn options(&self) -> Options<'_> {
        Options::new(self, &self.query)
    }

    /// The error for a scheme that `room` does not open.
    #[must_use]
    pub fn unknown_scheme(&self, room: &'static str, opens: &[&'static str]) -> UrlError {
        UrlError::UnknownScheme { room, scheme: self.scheme.clone(), opens: opens.to_vec() }
    }

    /// The error for a `part` of this URL that an engine cannot use.
    #[must_use]
    pub fn fault(&self, part: &'static str, reason: impl Into<String>) -> UrlError {
        UrlError::Part { part, url: self.to_string(), reason: reason.into() }
    }

    /// The whole URL with its secrets, for handing to a driver. Never log it.
    #[must_use]
    pub fn reveal(&self) -> String {
        self.write(percent::encode)
    }

    fn read_authority(&mut self, text: &str) -> Result<(), (&'static str, String)> {
        let hosts = match text.rsplit_once('@') {
            None => text,
            Some((login, hosts)) => {
                let (user, password) =
                    login.split_once(':').map_or((login, None), |(u, p)| (u, Some(p)));
                let user = percent::decode(user).map_err(|reason| ("user", reason))?;
                self.user = Some(user).filter(|user| !user.is_empty());
                if let Some(password) = password {
                    let password = percent::decode(password);
                    // The reason would quote the password.
                    let password = password.map_err(|_| {
                        ("password", "a `%` in it must be written `%25`".to_owned())
                    })?;
                    self.password = Some(Secret(password));
                }
                hosts
            }
        };
        if hosts.is_empty() {
            return Ok(());
        }
        self.hosts = hosts.split(',').map(read_host).collect::<Result<_, _>>()?;
        Ok(())
    }

    fn write(&self, secret: impl Fn(&str) -> String) -> String {
        let mut text = format!("{}:", self.scheme);
        if self.has_authority {
            text.push_str("//");
        }
        if self.user.is_some() || self.password.is_some() {
            text.push_str(&percent::encode(self.user.as_deref().unwrap_or("")));
            if let Some(Secret(password)) = &self.password {
                text.push(':');
                text.push_str(&secret(password));
            }
            text.push('@');
        }
        let hosts: Vec<String> = self.hosts.iter().map(Host::encoded).collect();
        text.push_str(&hosts.join(","));
        text.push_str(&percent::encode_path(&self.path));
        for (at, (name, value)) in self.query.iter().enumerate() {
            text.push(if at == 0 { '?' } else { '&' });
            text.push_str(&percent::encode(name));
            text.push('=');
            if is_secret(name) {
                text.push_str(&secret(value));
            } else {
                text.push_str(&percent::encode(value));
            }
        }
        text
    }
}

impl fmt::Display for EngineUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.write(|_| HIDDEN.to_owned()))
    }
}

impl fmt::Debug for EngineUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EngineUrl({self})")
    }
}

impl std::str::FromStr for EngineUrl {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        Self::parse(text)
    }
}

impl Host {
    /// `host:port`, with `default` where the URL gives no port; IPv6 addresses in brackets.
    #[must_use]
    pub fn address(&self, default: u16) -> String {
        Self { name: self.name.clone(), port: Some(self.port.unwrap_or(default)) }.to_string()
    }

    /// As it stands in a URL.
    fn encoded(&self) -> String {
        Self { name: percent::encode_host(&self.name), port: self.port }.to_string()
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.name.contains(':') {
            write!(f, "[{}]", self.name)?;
        } else {
            f.write_str(&self.name)?;
        }
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

impl Secret {
    /// Keeps `text` from printing.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself. Never log it.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HIDDEN)
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HIDDEN)
    }
}

/// Whether an option or config key of this name holds something that must not print.
#[must_use]
pub fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ["password", "passwd", "secret", "token", "credential", "private"]
        .iter()
        .any(|word| name.contains(word))
        || name.split(['_', '-', '.']).any(|word| word == "key" || word == "keys")
}

fn split_scheme(text: &str) -> Result<(&str, &str), UrlError> {
    let error = || UrlError::NoScheme { text: mask(text), example: "sqlite:data/site.db" };
    let (scheme, rest) = text.split_once(':').ok_or_else(error)?;
    let mut letters = scheme.chars();
    let is_first_good = letters.next().is_some_and(|c| c.is_ascii_alphabetic());
    if !is_first_good || !letters.all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c)) {
        return Err(error());
    }
    Ok((scheme, rest))
}

fn read_host(text: &str) -> Result<Host, (&'static str, String)> {
    let (name, port) = if let Some(rest) = text.strip_prefix('[') {
        let (name, rest) = rest
            .split_once(']')
            .ok_or_else(|| ("host", format!("`{text}` lacks its closing bracket")))?;
        (name, rest.strip_prefix(':').or((!rest.is_empty()).then_some(rest)))
    } else {
        text.split_once(':').map_or((text, None), |(name, port)| (name, Some(port)))
    };
    if name.is_empty() {
        return Err(("host", "a name is empty; write `host:port,host:port`".to_owned()));
    }
    let name = percent::decode(name).map_err(|reason| ("host", reason))?;
    let port = port
        .map(|port| port.parse::<u16>())
        .transpose()
        .map_err(|_| ("port", format!("`{text}` must end in a number from 0 to 65535")))?;
    Ok(Host { name, port })
}

/// Hides what may be a password in text that could not be parsed.
fn mask(text: &str) -> String {
    let (text, query) = text.split_once('?').map_or((text, false), |(text, _)| (text, true));
    let mut shown = match (text.find("//"), text.rfind('@')) {
        (Some(start), Some(end)) if start < end => {
            format!("{}//{HIDDEN}{}", &text[..start], &text[end..])
        }
        (None, Some(end)) => format!("{HIDDEN}{}", &text[end..]),
        _ => text.to_owned(),
    };
    if query {
        shown.push_str("?…");
    }
    shown
}

fn list(names: &[&'static str]) -> String {
    names.iter().map(|name| format!("`{name}:`")).collect::<Vec<_>>().join(", ")
}

fn name_all(names: &[String]) -> String {
    if names.is_empty() {
        return "it takes none".to_owned();
    }
    format!("it takes {}", names.iter().map(|n| format!("`{n}`")).collect::<Vec<_>>().join(", "))
}

const HIDDEN: &str = "***";

#[cfg(test)]
mod tests;
