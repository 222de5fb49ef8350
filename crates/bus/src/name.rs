//! Which names channels and groups may have: those of Django Channels, on every engine.

use crate::{Error, Result};

/// Checks a channel name: `name`, or `prefix!suffix` for a channel of one receiver.
pub(crate) fn check_channel(name: &str) -> Result<()> {
    let fault = |reason| Err(Error::Name { what: "channel", name: shorten(name), reason });
    let (prefix, suffix) = name.split_once('!').map_or((name, None), |(p, s)| (p, Some(s)));
    if name.len() > MAX_LEN {
        return fault("a name has at most 99 characters");
    }
    if prefix.is_empty() || suffix == Some("") {
        return fault("neither the name nor what follows its `!` may be empty");
    }
    if !is_plain(prefix) || !is_plain(suffix.unwrap_or("")) {
        return fault("letters, digits, `.`, `-`, `_` and one `!` before a suffix make up a name");
    }
    Ok(())
}

/// Checks a group name.
pub(crate) fn check_group(name: &str) -> Result<()> {
    let fault = |reason| Err(Error::Name { what: "group", name: shorten(name), reason });
    if name.len() > MAX_LEN {
        return fault("a name has at most 99 characters");
    }
    if name.is_empty() || !is_plain(name) {
        return fault("letters, digits, `.`, `-` and `_` make up a name");
    }
    Ok(())
}

fn is_plain(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte))
}

/// A name from a stranger must not fill the log.
fn shorten(name: &str) -> String {
    name.chars().take(MAX_LEN + 1).collect()
}

const MAX_LEN: usize = 99;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_django_channels() {
        let long = "x".repeat(99);
        for good in ["a", "http.request", "specific.0a!b-c_d", long.as_str()] {
            assert!(check_channel(good).is_ok(), "{good}");
        }
        let longer = "x".repeat(100);
        for bad in ["", "a!", "!a", "a!b!c", "a b", "é", "a/b", longer.as_str()] {
            assert!(check_channel(bad).is_err(), "{bad}");
        }
        assert!(check_group("show.7").is_ok());
        for bad in ["", "a!b", "a b", "show/7", longer.as_str()] {
            assert!(check_group(bad).is_err(), "{bad}");
        }
    }
}
