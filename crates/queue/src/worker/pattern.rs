//! Names with stars in them.

/// Whether a task's `name` matches a pattern of [`WorkerConfig::tasks`](crate::WorkerConfig::tasks),
/// in which `*` stands for any text.
#[must_use]
pub fn name_matches(pattern: &str, name: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else { return pattern == name };
    let Some(mut left) = name.strip_prefix(start) else { return false };
    let mut parts: Vec<&str> = rest.split('*').collect();
    let end = parts.pop().unwrap_or_default();
    for part in parts {
        let Some(at) = left.find(part) else { return false };
        left = &left[at + part.len()..];
    }
    left.len() >= end.len() && left.ends_with(end)
}

#[cfg(test)]
mod tests {
    use super::name_matches;

    #[test]
    fn a_star_stands_for_any_text() {
        for (pattern, name, fits) in [
            ("mail.*", "mail.send", true),
            ("mail.*", "email.send", false),
            ("*.send", "mail.send", true),
            ("*", "", true),
            ("a*b*c", "a-b-b-c", true),
            ("a*a", "a", false),
            ("slow", "slow", true),
            ("slow", "slower", false),
        ] {
            assert_eq!(name_matches(pattern, name), fits, "{pattern} {name}");
        }
    }
}
