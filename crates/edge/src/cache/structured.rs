//! Dictionaries of structured fields (RFC 8941), as far as a targeted cache control needs them.

/// A value of a dictionary; strings, tokens, bytes, decimals and lists are told apart from nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Item {
    Integer(i64),
    Boolean(bool),
    /// Valid, but of a kind that no directive takes.
    Other,
}

/// Parses a whole dictionary; `None` when any part of it is malformed. A later key wins.
pub(super) fn dictionary(text: &str) -> Option<Vec<(String, Item)>> {
    let mut at = Cursor { rest: text.trim_matches(' ').as_bytes() };
    let mut members: Vec<(String, Item)> = Vec::new();
    while !at.rest.is_empty() {
        let key = at.key()?;
        let item = if at.eats(b'=') { at.member()? } else { Item::Boolean(true) };
        at.parameters()?;
        members.retain(|(other, _)| *other != key);
        members.push((key, item));
        at.skip_space();
        if at.rest.is_empty() {
            break;
        }
        if !at.eats(b',') {
            return None;
        }
        at.skip_space();
        if at.rest.is_empty() {
            return None; // a trailing comma
        }
    }
    Some(members)
}

struct Cursor<'a> {
    rest: &'a [u8],
}

impl Cursor<'_> {
    fn eats(&mut self, byte: u8) -> bool {
        let is_next = self.rest.first() == Some(&byte);
        if is_next {
            self.rest = &self.rest[1..];
        }
        is_next
    }

    fn skip_space(&mut self) {
        while matches!(self.rest.first(), Some(b' ' | b'\t')) {
            self.rest = &self.rest[1..];
        }
    }

    fn take(&mut self, belongs: impl Fn(u8) -> bool) -> &[u8] {
        let end = self.rest.iter().position(|byte| !belongs(*byte)).unwrap_or(self.rest.len());
        let (taken, rest) = self.rest.split_at(end);
        self.rest = rest;
        taken
    }

    fn key(&mut self) -> Option<String> {
        if !matches!(self.rest.first()?, b'a'..=b'z' | b'*') {
            return None;
        }
        let key =
            self.take(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' | b'.' | b'*'));
        Some(String::from_utf8_lossy(key).into_owned())
    }

    fn member(&mut self) -> Option<Item> {
        if !self.eats(b'(') {
            return self.item();
        }
        loop {
            self.take(|byte| byte == b' ');
            if self.eats(b')') {
                return Some(Item::Other);
            }
            self.item()?;
            self.parameters()?;
            if !matches!(self.rest.first()?, b' ' | b')') {
                return None;
            }
        }
    }

    fn item(&mut self) -> Option<Item> {
        match *self.rest.first()? {
            b'-' | b'0'..=b'9' => self.number(),
            b'?' => {
                self.rest = &self.rest[1..];
                let is_true = self.eats(b'1');
                (is_true || self.eats(b'0')).then_some(Item::Boolean(is_true))
            }
            b'"' => self.string(),
            b':' => {
                self.rest = &self.rest[1..];
                self.take(|byte| {
                    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=')
                });
                self.eats(b':').then_some(Item::Other)
            }
            b'*' | b'a'..=b'z' | b'A'..=b'Z' => {
                self.take(|byte| {
                    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~:/".contains(&byte)
                });
                Some(Item::Other)
            }
            _ => None,
        }
    }

    fn number(&mut self) -> Option<Item> {
        let sign = if self.eats(b'-') { -1 } else { 1 };
        let digits = self.take(|byte| byte.is_ascii_digit());
        if digits.is_empty() || digits.len() > 15 {
            return None;
        }
        let whole = digits.iter().fold(0_i64, |sum, digit| sum * 10 + i64::from(digit - b'0'));
        let is_long = digits.len() > 12;
        if !self.eats(b'.') {
            return Some(Item::Integer(sign * whole));
        }
        let places = self.take(|byte| byte.is_ascii_digit()).len();
        (!is_long && (1..=3).contains(&places)).then_some(Item::Other)
    }

    fn string(&mut self) -> Option<Item> {
        self.rest = &self.rest[1..];
        loop {
            let byte = *self.rest.first()?;
            self.rest = &self.rest[1..];
            match byte {
                b'"' => return Some(Item::Other),
                b'\\' if !self.eats(b'"') && !self.eats(b'\\') => return None,
                0x20..=0x7e => {}
                _ => return None,
            }
        }
    }

    fn parameters(&mut self) -> Option<()> {
        while self.eats(b';') {
            self.take(|byte| byte == b' ');
            self.key()?;
            if self.eats(b'=') {
                self.item()?;
            }
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dictionaries_parse_whole_or_not_at_all() {
        let integer = |name: &str, value| (name.to_owned(), Item::Integer(value));
        assert_eq!(dictionary("a=1, b=-2;x=y"), Some(vec![integer("a", 1), integer("b", -2)]));
        assert_eq!(dictionary("a=1,a=2"), Some(vec![integer("a", 2)]));
        assert_eq!(dictionary(""), Some(vec![]));
        for valid in ["a", "a=?0", "a=(1 \"x\");q", "a=tok/en", "a=1.5", "a=:YQ==:", "a=\"\\\"\""] {
            assert!(dictionary(valid).is_some(), "{valid}");
        }
        for broken in ["A=1", "a=", "a=1,", "a=1 b", "a=&", "a =1", "a= 1", "a=1.", "a=\"", "a=?2"]
        {
            assert_eq!(dictionary(broken), None, "{broken}");
        }
    }
}
