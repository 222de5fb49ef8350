//! The words that decide: what starts a read, what writes, what locks, and what is safe to call.

use super::Dialect;

/// What the first word of a statement says about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Start {
    Reads,
    With,
    Pragma,
    Transaction,
    Session,
}

/// None for a word that is not known to read.
pub(super) fn start(dialect: Dialect, word: &str) -> Option<Start> {
    const TRANSACTION: &[&str] =
        &["ABORT", "BEGIN", "COMMIT", "END", "RELEASE", "ROLLBACK", "SAVEPOINT", "START", "XA"];
    const SESSION: &[&str] = &[
        "ATTACH",
        "CLOSE",
        "DEALLOCATE",
        "DECLARE",
        "DESC",
        "DESCRIBE",
        "DETACH",
        "DISCARD",
        "FETCH",
        "LISTEN",
        "LOAD",
        "PREPARE",
        "RESET",
        "SET",
        "SHOW",
        "UNLISTEN",
        "USE",
    ];
    match_word(word, &["SELECT", "VALUES", "EXPLAIN", "TABLE"])
        .then_some(Start::Reads)
        .or_else(|| match_word(word, &["WITH"]).then_some(Start::With))
        .or_else(|| {
            (dialect == Dialect::Sqlite && match_word(word, &["PRAGMA"])).then_some(Start::Pragma)
        })
        .or_else(|| match_word(word, TRANSACTION).then_some(Start::Transaction))
        .or_else(|| match_word(word, SESSION).then_some(Start::Session))
}

/// Words that start a statement about the session which changes nothing.
pub(super) fn tells(word: &str) -> bool {
    match_word(word, &["CLOSE", "DESC", "DESCRIBE", "FETCH", "SHOW"])
}

/// `SET LOCAL …` and the like, which end with the transaction on PostgreSQL.
pub(super) fn is_local_setting(dialect: Dialect, first: &str, second: &str) -> bool {
    dialect == Dialect::Postgres
        && match_word(first, &["SET"])
        && match_word(second, &["CONSTRAINTS", "LOCAL", "TRANSACTION"])
}

/// A function that does what SET does.
pub(super) fn sets_by_call(word: &str) -> bool {
    match_word(word, &["SET_CONFIG"])
}

/// Words that write wherever they stand unquoted. A column of such a name sends its statement to the
/// primary, which is harmless.
pub(super) fn writes(word: &str) -> bool {
    const WRITES: &[&str] = &[
        "ALTER",
        "CALL",
        "COPY",
        "CREATE",
        "DELETE",
        "DO",
        "DROP",
        "EXECUTE",
        "GRANT",
        "INSERT",
        "INTO",
        "MERGE",
        "REINDEX",
        "REPLACE",
        "RETURNING",
        "REVOKE",
        "TRUNCATE",
        "UPDATE",
        "VACUUM",
    ];
    match_word(word, WRITES)
}

/// `FOR UPDATE`, `FOR NO KEY UPDATE`, `FOR SHARE`, `FOR KEY SHARE`, `LOCK IN SHARE MODE`.
pub(super) fn locks(word: &str, after_for: bool) -> bool {
    match_word(word, &["LOCK"]) || after_for && match_word(word, &["UPDATE", "SHARE", "NO", "KEY"])
}

/// Functions that need no parentheses and must not run on a replica.
pub(super) fn has_effect_unquoted(dialect: Dialect, word: &str) -> bool {
    match_word(word, &["NEXTVAL", "CURRVAL", "LASTVAL"])
        // MariaDB's `NEXT VALUE FOR sequence`.
        || dialect == Dialect::MySql && match_word(word, &["NEXT", "PREVIOUS"])
}

pub(super) fn is_select(word: &str) -> bool {
    match_word(word, &["SELECT", "VALUES", "TABLE"])
}

pub(super) fn is_string_prefix(word: &str) -> bool {
    match_word(word, &["E", "N", "B", "X", "U", "_UTF8", "_UTF8MB4", "_LATIN1", "_BINARY"])
}

/// Pragmas that only tell: some always, some when they get no argument.
pub(super) fn is_telling_pragma(name: &str, has_argument: bool) -> bool {
    const ALWAYS: &[&str] = &[
        "COLLATION_LIST",
        "COMPILE_OPTIONS",
        "DATABASE_LIST",
        "DATA_VERSION",
        "FOREIGN_KEY_CHECK",
        "FOREIGN_KEY_LIST",
        "FREELIST_COUNT",
        "FUNCTION_LIST",
        "INDEX_INFO",
        "INDEX_LIST",
        "INDEX_XINFO",
        "INTEGRITY_CHECK",
        "MODULE_LIST",
        "PAGE_COUNT",
        "PRAGMA_LIST",
        "QUICK_CHECK",
        "TABLE_INFO",
        "TABLE_LIST",
        "TABLE_XINFO",
    ];
    const BARE: &[&str] = &[
        "APPLICATION_ID",
        "AUTO_VACUUM",
        "ENCODING",
        "FOREIGN_KEYS",
        "JOURNAL_MODE",
        "PAGE_SIZE",
        "SCHEMA_VERSION",
        "SYNCHRONOUS",
        "USER_VERSION",
    ];
    match_word(name, ALWAYS) || !has_argument && match_word(name, BARE)
}

/// Whether `word` is one of `list`, which is in upper case.
pub(super) fn match_word(word: &str, list: &[&str]) -> bool {
    list.iter().any(|known| known.len() == word.len() && known.eq_ignore_ascii_case(word))
}
