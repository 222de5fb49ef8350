//! Patterns with stars in them, as they are written in settings: `/events/*`, `mail.*`.

/// Whether `text` is what `pattern` describes; `*` stands for any run of characters, and nothing else is
/// special. Takes time in proportion to the text for each star, and no memory.
#[must_use]
pub fn matches(pattern: &str, text: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut left) = text.strip_prefix(start) else { return false };
    let (middle, end) = rest.rsplit_once('*').unwrap_or(("", rest));
    // The first place where a piece fits leaves most for those behind it.
    for piece in middle.split('*') {
        let Some(at) = left.find(piece) else { return false };
        left = &left[at + piece.len()..];
    }
    left.ends_with(end)
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn stars_match_any_run_and_nothing_else_is_special() {
        for (pattern, text, is_match) in [
            ("/a", "/a", true),
            ("/a", "/ab", false),
            ("/a*", "/a", true),
            ("*.pdf", "/x/y.pdf", true),
            ("/a/*/c", "/a/b/b/c", true),
            ("/a/*/c", "/a/b/b/d", false),
            ("*a*a*", "banana", true),
            ("a*a", "a", false),
            ("a*a", "aa", true),
            ("a**b", "ab", true),
            ("a*b*c", "a-b-b-c", true),
            ("*ab*b", "ab", false),
            ("mail.*", "email.send", false),
            ("*.send", "mail.send", true),
            ("ä*", "ä", true),
            ("", "", true),
            ("", "a", false),
            ("*", "", true),
            ("*", "x", true),
        ] {
            assert_eq!(matches(pattern, text), is_match, "{pattern} {text}");
        }
    }

    #[test]
    fn it_is_what_trying_every_run_would_find() {
        fn tried(pattern: &[u8], text: &[u8]) -> bool {
            match pattern.split_first() {
                None => text.is_empty(),
                Some((b'*', rest)) => (0..=text.len()).any(|at| tried(rest, &text[at..])),
                Some((letter, rest)) => text.first() == Some(letter) && tried(rest, &text[1..]),
            }
        }
        let words = |letters: &[&str], longest: usize| {
            let mut all = vec![String::new()];
            for from in 0..longest {
                let longer: Vec<String> = all
                    .iter()
                    .filter(|word| word.len() == from)
                    .flat_map(|word| letters.iter().map(move |letter| format!("{word}{letter}")))
                    .collect();
                all.extend(longer);
            }
            all
        };
        let texts = words(&["a", "b"], 5);
        for pattern in words(&["a", "b", "*"], 5) {
            for text in &texts {
                let expected = tried(pattern.as_bytes(), text.as_bytes());
                assert_eq!(matches(&pattern, text), expected, "{pattern} {text}");
            }
        }
    }
}
