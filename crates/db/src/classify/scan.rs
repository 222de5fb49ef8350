//! The scan of one statement: words, quotes, comments and parentheses, nothing more.

use super::{
    Dialect, Reason, Verdict, calls,
    words::{self, Start},
};

pub(super) fn classify(dialect: Dialect, sql: &str) -> Verdict {
    match scan(dialect, sql) {
        Ok(()) => Verdict::Read,
        Err(reason) => Verdict::Primary(reason),
    }
}

/// Whether a statement about the session only tells something, or ends with its transaction.
pub(super) fn passes_with_the_transaction(dialect: Dialect, sql: &str) -> bool {
    let mut tokens = Tokens { dialect, text: sql.as_bytes(), sql, at: 0 };
    let mut words = std::iter::from_fn(|| match tokens.next() {
        Ok(Some(Token::Word(word))) => Some(word),
        _ => None,
    });
    match (words.next(), words.next()) {
        (Some(first), _) if words::tells(first) => true,
        (Some(first), Some(second)) => words::is_local_setting(dialect, first, second),
        _ => false,
    }
}

/// One token that matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token<'a> {
    /// A bare word: keyword, name or function.
    Word(&'a str),
    /// A quoted name.
    Name,
    /// A string or a number: anything that is only a value.
    Value,
    /// A single character.
    Sign(u8),
}

fn scan(dialect: Dialect, sql: &str) -> Result<(), Reason> {
    let mut tokens = Tokens { dialect, text: sql.as_bytes(), sql, at: 0 };
    let mut first = tokens.next()?;
    while first == Some(Token::Sign(b'(')) {
        first = tokens.next()?; // `(SELECT …) UNION (SELECT …)`
    }
    let Some(Token::Word(first)) = first else { return Err(Reason::Unclear) };
    let start = words::start(dialect, first).ok_or(Reason::Writes)?;
    match start {
        Start::Reads | Start::With => {}
        Start::Pragma => return pragma(&mut tokens),
        Start::Transaction => return Err(Reason::Transaction),
        Start::Session => return Err(Reason::Session),
    }
    // Between WITH and the statement proper, `name (columns) AS (…)` is no call.
    let mut in_names = start == Start::With;
    let mut depth = 0_u32;
    let mut last = Token::Word(first);
    while let Some(token) = tokens.next()? {
        match token {
            Token::Sign(b'(') => {
                let is_name = in_names && depth == 0;
                match last {
                    Token::Word(word) if words::sets_by_call(word) => return Err(Reason::Session),
                    Token::Word(word) if !is_name && !calls::may_precede_paren(dialect, word) => {
                        return Err(Reason::Calls);
                    }
                    Token::Name if !is_name => return Err(Reason::Calls),
                    _ => {}
                }
                depth += 1;
            }
            Token::Sign(b')') => depth = depth.saturating_sub(1),
            Token::Sign(b';') => {
                return match tokens.next()? {
                    None => Ok(()),
                    Some(_) => Err(Reason::Several),
                };
            }
            Token::Word(word) if words::has_effect_unquoted(dialect, word) => {
                return Err(Reason::Calls);
            }
            Token::Word(word) if !matches!(last, Token::Sign(b'.')) => {
                if depth == 0 && in_names && words::is_select(word) {
                    in_names = false;
                }
                let after_for = matches!(last, Token::Word(w) if w.eq_ignore_ascii_case("for"));
                if words::locks(word, after_for) {
                    return Err(Reason::Locks);
                }
                if words::writes(word) && !tokens.is_call_of_replace(word) {
                    return Err(Reason::WritesInside);
                }
            }
            Token::Sign(b'@') if dialect == Dialect::MySql => return Err(Reason::Session),
            Token::Sign(b':') if dialect == Dialect::MySql => return Err(Reason::Session),
            Token::Sign(0) => return Err(Reason::Unclear),
            _ => {}
        }
        last = token;
    }
    Ok(())
}

/// `PRAGMA name` and `PRAGMA name(argument)` of the ones that only tell.
fn pragma(tokens: &mut Tokens<'_>) -> Result<(), Reason> {
    let mut name = tokens.next()?;
    let mut after = tokens.next()?;
    if after == Some(Token::Sign(b'.')) {
        name = tokens.next()?; // `PRAGMA main.table_info(x)`
        after = tokens.next()?;
    }
    let Some(Token::Word(name)) = name else { return Err(Reason::Unclear) };
    let has_argument = match after {
        None => false,
        Some(Token::Sign(b'(')) => true,
        Some(Token::Sign(b';')) if tokens.next()?.is_none() => false,
        Some(_) => return Err(Reason::Session),
    };
    if !words::is_telling_pragma(name, has_argument) {
        return Err(Reason::Session);
    }
    while let Some(token) = tokens.next()? {
        if token == Token::Sign(b';') && tokens.next()?.is_some() {
            return Err(Reason::Several);
        }
    }
    Ok(())
}

struct Tokens<'a> {
    dialect: Dialect,
    text: &'a [u8],
    sql: &'a str,
    at: usize,
}

impl<'a> Tokens<'a> {
    fn next(&mut self) -> Result<Option<Token<'a>>, Reason> {
        self.skip_blank()?;
        let Some(&byte) = self.text.get(self.at) else { return Ok(None) };
        let start = self.at;
        if is_word_start(byte) {
            self.at = self.end_of_word();
            let word = &self.sql[start..self.at];
            // `E'…'`, `N'…'`, `X'…'`, `_utf8'…'`: a string with a prefix.
            if self.peek() == Some(b'\'') && word.len() <= 8 {
                let escapes = word.eq_ignore_ascii_case("e") || self.dialect == Dialect::MySql;
                if words::is_string_prefix(word) {
                    self.quoted(b'\'', escapes)?;
                    return Ok(Some(Token::Value));
                }
            }
            return Ok(Some(Token::Word(word)));
        }
        let has_backslash = self.dialect == Dialect::MySql;
        match byte {
            b'0'..=b'9' => self.number().map(Some),
            b'\'' => self.quoted(b'\'', has_backslash).map(|()| Some(Token::Value)),
            b'"' if has_backslash => self.quoted(b'"', true).map(|()| Some(Token::Value)),
            b'"' => self.quoted(b'"', false).map(|()| Some(Token::Name)),
            b'`' => self.quoted(b'`', false).map(|()| Some(Token::Name)),
            b'[' if self.dialect == Dialect::Sqlite => {
                self.quoted(b']', false).map(|()| Some(Token::Name))
            }
            b'$' if self.dialect == Dialect::Postgres => self.dollar().map(Some),
            _ => {
                self.at += 1;
                Ok(Some(Token::Sign(byte)))
            }
        }
    }

    /// White space and comments.
    fn skip_blank(&mut self) -> Result<(), Reason> {
        loop {
            match (self.peek(), self.peek_at(1)) {
                (Some(byte), _) if byte.is_ascii_whitespace() || byte == 0x0b => self.at += 1,
                (Some(b'-'), Some(b'-')) => {
                    // MySQL wants a blank after the dashes; without one they are two minus signs.
                    let is_comment = self.dialect != Dialect::MySql
                        || self.peek_at(2).is_none_or(|byte| byte <= b' ');
                    if !is_comment {
                        return Ok(());
                    }
                    self.skip_line();
                }
                (Some(b'#'), _) if self.dialect == Dialect::MySql => self.skip_line(),
                (Some(b'/'), Some(b'*')) => {
                    // `/*! … */` runs in MySQL, and `/*+ … */` may change settings.
                    if matches!(self.peek_at(2), Some(b'!' | b'+' | b'M')) {
                        return Err(Reason::Unclear);
                    }
                    self.skip_block()?;
                }
                _ => return Ok(()),
            }
        }
    }

    fn skip_line(&mut self) {
        let rest = &self.text[self.at..];
        self.at += rest.iter().position(|&byte| byte == b'\n').unwrap_or(rest.len());
    }

    /// Block comments nest in PostgreSQL alone; a comment inside a comment is unclear elsewhere.
    fn skip_block(&mut self) -> Result<(), Reason> {
        let mut depth = 0_u32;
        loop {
            match (self.peek(), self.peek_at(1)) {
                (Some(b'/'), Some(b'*')) => {
                    depth += 1;
                    if depth > 1 && self.dialect != Dialect::Postgres {
                        return Err(Reason::Unclear);
                    }
                    self.at += 2;
                }
                (Some(b'*'), Some(b'/')) => {
                    depth -= 1;
                    self.at += 2;
                    if depth == 0 {
                        return Ok(());
                    }
                }
                (Some(_), _) => self.at += 1,
                (None, _) => return Err(Reason::Unclear),
            }
        }
    }

    /// From an opening quote to its end; a doubled quote stands for itself.
    fn quoted(&mut self, end: u8, has_backslash: bool) -> Result<(), Reason> {
        self.at += 1;
        loop {
            match self.peek() {
                None => return Err(Reason::Unclear),
                Some(b'\\') if has_backslash => self.at += 2,
                Some(byte) if byte == end => {
                    self.at += 1;
                    if self.peek() != Some(end) {
                        return Ok(());
                    }
                    self.at += 1;
                }
                Some(_) => self.at += 1,
            }
        }
    }

    /// `$1`, or `$tag$ … $tag$`.
    fn dollar(&mut self) -> Result<Token<'a>, Reason> {
        let start = self.at;
        self.at += 1;
        if self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            return self.number();
        }
        let is_tag = |byte: &u8| *byte != b'$' && is_word_part(*byte);
        self.at += self.text[self.at..].iter().take_while(|byte| is_tag(byte)).count();
        if self.peek() != Some(b'$') {
            return Err(Reason::Unclear);
        }
        self.at += 1;
        let tag = &self.sql[start..self.at];
        let length = self.sql[self.at..].find(tag).ok_or(Reason::Unclear)?;
        self.at += length + tag.len();
        Ok(Token::Value)
    }

    /// `replace(…)` is a function, `REPLACE INTO` a write.
    fn is_call_of_replace(&self, word: &str) -> bool {
        word.eq_ignore_ascii_case("replace") && self.peek() == Some(b'(')
    }

    fn end_of_word(&self) -> usize {
        let rest = &self.text[self.at..];
        let length = rest.iter().position(|&byte| !is_word_part(byte)).unwrap_or(rest.len());
        self.at + length
    }

    /// `17`, `1.5`, `2e-3`, `0x1f`. A word that clings to a number (`1INTO`) is a word to some
    /// servers, so it is unclear.
    fn number(&mut self) -> Result<Token<'a>, Reason> {
        let is_hex = self.peek() == Some(b'0') && matches!(self.peek_at(1), Some(b'x' | b'X'));
        if is_hex {
            self.at += 2;
            self.skip_while(|byte| byte.is_ascii_hexdigit());
        } else {
            self.skip_while(|byte| byte.is_ascii_digit());
            if self.peek() == Some(b'.') {
                self.at += 1;
                self.skip_while(|byte| byte.is_ascii_digit());
            }
            let has_sign = matches!(self.peek_at(1), Some(b'+' | b'-'));
            let digit = self.peek_at(1 + usize::from(has_sign));
            if matches!(self.peek(), Some(b'e' | b'E')) && digit.is_some_and(|d| d.is_ascii_digit())
            {
                self.at += 1 + usize::from(has_sign);
                self.skip_while(|byte| byte.is_ascii_digit());
            }
        }
        match self.peek() {
            Some(byte) if is_word_part(byte) || byte == b'.' => Err(Reason::Unclear),
            _ => Ok(Token::Value),
        }
    }

    fn skip_while(&mut self, is_part: impl Fn(u8) -> bool) {
        self.at += self.text[self.at..].iter().take_while(|&&byte| is_part(byte)).count();
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn peek_at(&self, ahead: usize) -> Option<u8> {
        self.text.get(self.at + ahead).copied()
    }
}

fn is_word_start(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_' || byte >= 0x80
}

fn is_word_part(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'$' || byte >= 0x80
}
