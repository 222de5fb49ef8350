//! The language that a visitor likes best.

use http::HeaderValue;

/// The language that Accept-Language likes better than any other; `None` when there is none.
pub(super) fn liked_best<'a>(values: impl Iterator<Item = &'a HeaderValue>) -> Option<String> {
    let mut best: Option<(&str, u32)> = None;
    let mut is_alone = false;
    for one in values.filter_map(|value| value.to_str().ok()).flat_map(|text| text.split(',')) {
        let mut parts = one.split(';').map(str::trim);
        let language = parts.next().filter(|language| !language.is_empty());
        let Some(language) = language else { continue };
        let quality = parts.find_map(|part| part.strip_prefix("q=").or(part.strip_prefix("Q=")));
        // In thousandths, of which the field has no parts.
        let liked = match quality.map(|quality| quality.trim().parse::<f32>()) {
            None => 1000,
            Some(Ok(quality)) if (0.0..=1.0).contains(&quality) => (quality * 1000.0) as u32,
            Some(_) => return None,
        };
        let most = best.map_or(0, |(_, most)| most);
        if liked > most {
            (best, is_alone) = (Some((language, liked)), true);
        } else if liked == most {
            is_alone = false;
        }
    }
    let language = best.map(|(language, _)| language).filter(|language| *language != "*")?;
    is_alone.then(|| language.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_language_is_liked_best_or_none_is() {
        for (text, best) in [
            ("fr;q=0.5, de;q=1.0", Some("de")),
            ("de", Some("de")),
            ("de-AT, de;q=0.9, en;q=0.8", Some("de-AT")),
            ("en, de", None),
            ("de;q=0.5, en;q=0.5, fr;q=0.4", None),
            ("*, de;q=0.9", None),
            ("de;q=0", None),
            ("de;q=x, en;q=0.1", None),
            ("de;q=7, en", None),
            ("", None),
        ] {
            let value = HeaderValue::from_static(text);
            assert_eq!(liked_best([&value].into_iter()).as_deref(), best, "{text}");
        }
    }
}
