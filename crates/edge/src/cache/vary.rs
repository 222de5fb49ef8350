//! Which of several answers of one address fits a request.

use http::{HeaderMap, HeaderName, HeaderValue, header};

use super::question::Question;

/// The fields that a response names in Vary, with their values in the request that it answered.
pub(super) type Selection = Vec<(HeaderName, Option<String>)>;

/// What `headers` of a response vary on. `*` is refused before this is asked.
pub(super) fn selection(headers: &HeaderMap, question: &Question) -> Selection {
    let mut selection: Selection = Vec::new();
    for vary in headers.get_all(header::VARY) {
        for name in vary.as_bytes().split(|byte| *byte == b',') {
            let Ok(name) = HeaderName::from_bytes(name.trim_ascii()) else { continue };
            if !selection.iter().any(|(other, _)| *other == name) {
                let value = selecting(question, &name);
                selection.push((name, value));
            }
        }
    }
    selection
}

pub(super) fn fits(selection: &Selection, question: &Question) -> bool {
    selection.iter().all(|(name, value)| selecting(question, name) == *value)
}

/// Whether an answer in the one language that the visitor likes best fits but for what else he takes.
pub(super) fn speaks(selection: &Selection, headers: &HeaderMap, question: &Question) -> bool {
    let Some(liked) = &question.language else { return false };
    let mut spoken = headers.get_all(header::CONTENT_LANGUAGE).iter();
    let is_spoken =
        spoken.next().is_some_and(|own| own.as_bytes().eq_ignore_ascii_case(liked.as_bytes()));
    let others = selection.iter().filter(|(name, _)| *name != header::ACCEPT_LANGUAGE);
    is_spoken
        && spoken.next().is_none()
        && selection.iter().any(|(name, _)| *name == header::ACCEPT_LANGUAGE)
        && others.clone().all(|(name, value)| selecting(question, name) == *value)
}

/// The value that counts: in a form in which requests that mean the same are the same.
pub(super) fn selecting(question: &Question, name: &HeaderName) -> Option<String> {
    match *name {
        header::COOKIE => question.cookies.clone(),
        _ => normal(name, question.headers.get_all(name).iter().map(HeaderValue::as_bytes)),
    }
}

/// The same for any field but Cookie, of the values that a request has for it.
pub(super) fn normal<'a>(
    name: &HeaderName,
    values: impl Iterator<Item = &'a [u8]>,
) -> Option<String> {
    let mut values = values.peekable();
    values.peek()?;
    let mut joined = String::new();
    for value in values {
        if !joined.is_empty() {
            joined.push_str(", ");
        }
        // Byte by byte, so that two values that differ never look alike.
        joined.extend(value.trim_ascii().iter().map(|byte| char::from(*byte)));
    }
    Some(match *name {
        header::ACCEPT_ENCODING => encodings(&joined),
        header::ACCEPT_LANGUAGE => languages(&joined),
        // Without a quoted string in it, only the words of a list count.
        _ if !joined.contains('"') => {
            joined.split(',').map(str::trim).collect::<Vec<_>>().join(",")
        }
        _ => joined,
    })
}

/// The codings that a client takes at all; how much it likes them changes no answer in practice.
fn encodings(text: &str) -> String {
    let mut taken: Vec<String> = Vec::new();
    for one in text.split(',') {
        let mut parts = one.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default().to_ascii_lowercase();
        let refuses = parts.any(|part| {
            let quality = part.strip_prefix("q=").or_else(|| part.strip_prefix("Q="));
            quality.is_some_and(|quality| quality.trim_matches(['0', '.']).is_empty())
        });
        if name.is_empty() || name == "identity" && !refuses {
            continue;
        }
        taken.push(if refuses { format!("-{name}") } else { name });
    }
    taken.sort_unstable();
    taken.dedup();
    taken.join(",")
}

/// Languages in lower case, without space, in an order of our own: the weights tell which is liked.
fn languages(text: &str) -> String {
    let mut all: Vec<String> = text
        .split(',')
        .map(|one| one.chars().filter(|c| !c.is_ascii_whitespace()).collect::<String>())
        .map(|one| one.to_ascii_lowercase())
        .filter(|one| !one.is_empty())
        .collect();
    all.sort_unstable();
    all.dedup();
    all.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_that_mean_the_same_select_the_same() {
        assert_eq!(encodings("gzip, br;q=0.5, identity"), encodings("br,GZIP"));
        assert_ne!(encodings("gzip;q=0, br"), encodings("gzip, br"));
        assert_eq!(languages("en, de"), languages("De,eN"));
        assert_ne!(languages("en;q=0.1, de"), languages("en, de"));
    }
}
