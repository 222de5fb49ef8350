//! Do both sites show the same? Pages are compared word by word, markup and pictures aside.

use std::collections::BTreeMap;

use anyhow::{Result, bail};

use super::http::Client;

/// An error when a page of `paths` shows other words on one site than on the other.
pub(super) fn pages(ours: u16, theirs: u16, paths: &[String]) -> Result<()> {
    let (mut ours, mut theirs) = (Client::new(ours), Client::new(theirs));
    for path in paths {
        let our_page = ours.get(path)?.expect(200)?.text();
        let their_page = theirs.get(path)?.expect(200)?.text();
        let missing = difference(&our_page, &their_page);
        let extra = difference(&their_page, &our_page);
        if !missing.is_empty() || !extra.is_empty() {
            bail!(
                "{path} is not the same page on both sites\n  only ours: {}\n  only Django's: {}",
                missing.join(" "),
                extra.join(" ")
            );
        }
    }
    Ok(())
}

/// The words that `one` shows more often than `other`.
fn difference(one: &str, other: &str) -> Vec<String> {
    let mut left = BTreeMap::<String, usize>::new();
    for word in words(other) {
        *left.entry(word).or_default() += 1;
    }
    let is_more = |word: &String| match left.get_mut(word) {
        Some(count) if *count > 0 => {
            *count -= 1;
            false
        }
        _ => true,
    };
    words(one).into_iter().filter(is_more).collect()
}

/// The words of the page's `<main>`, tags and pictures left out.
fn words(page: &str) -> Vec<String> {
    let main = page.split_once("<main").map_or(page, |(_, main)| main);
    let main = main.split_once('>').map_or(main, |(_, main)| main);
    let mut rest = main.split_once("</main>").map_or(main, |(main, _)| main);
    let mut text = String::new();
    while let Some((before, tag)) = rest.split_once('<') {
        text.push_str(before);
        text.push(' ');
        let end = if tag.starts_with("svg") { "</svg>" } else { ">" };
        rest = tag.split_once(end).map_or("", |(_, after)| after);
    }
    text.push_str(rest);
    for (entity, character) in ENTITIES {
        text = text.replace(entity, character);
    }
    text.split_whitespace().map(str::to_owned).collect()
}

const ENTITIES: [(&str, &str); 7] = [
    ("&lt;", "<"),
    ("&gt;", ">"),
    ("&quot;", "\""),
    ("&#x27;", "'"),
    ("&#39;", "'"),
    ("&nbsp;", " "),
    ("&amp;", "&"),
];

#[cfg(test)]
mod tests {
    use super::{difference, words};

    #[test]
    fn words_are_what_a_reader_sees() {
        let page = "<h1>no</h1><main id=\"a\">Two <b>seats</b>left<svg><text>no</text></svg> at \
                    K&amp;R&#39;s</main> no";
        assert_eq!(words(page), ["Two", "seats", "left", "at", "K&R's"]);
    }

    #[test]
    fn a_word_shown_twice_must_be_twice_on_both() {
        assert_eq!(difference("<main>a b a</main>", "<main>b a</main>"), ["a"]);
        assert!(difference("<main>b a</main>", "<main>a b a</main>").is_empty());
    }
}
