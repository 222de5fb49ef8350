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

/// Whether a word in front of a parenthesis is a keyword or a function without side effects that
/// gives a replica's reader what the primary would give it.
pub(super) fn may_precede_paren(dialect: Dialect, word: &str) -> bool {
    match_word(word, KEYWORDS)
        || match_word(word, FUNCTIONS)
        || match dialect {
            Dialect::Sqlite => match_word(word, SQLITE_FUNCTIONS),
            Dialect::Postgres => match_word(word, POSTGRES_FUNCTIONS),
            Dialect::MySql => match_word(word, MYSQL_FUNCTIONS),
        }
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
fn match_word(word: &str, list: &[&str]) -> bool {
    list.iter().any(|known| known.len() == word.len() && known.eq_ignore_ascii_case(word))
}

const KEYWORDS: &[&str] = &[
    "ALL",
    "AND",
    "ANY",
    "ARRAY",
    "AS",
    "BETWEEN",
    "BY",
    "CASE",
    "CUBE",
    "DISTINCT",
    "ELSE",
    "EXCEPT",
    "EXISTS",
    "FILTER",
    "FROM",
    "GROUP",
    "GROUPING",
    "HAVING",
    "IN",
    "INTERSECT",
    "IS",
    "JOIN",
    "LATERAL",
    "LIKE",
    "LIMIT",
    "MATERIALIZED",
    "NOT",
    "NULL",
    "OFFSET",
    "ON",
    "OR",
    "ORDER",
    "OVER",
    "PARTITION",
    "ROLLUP",
    "ROW",
    "SELECT",
    "SETS",
    "SOME",
    "THEN",
    "UNION",
    "USING",
    "VALUES",
    "WHEN",
    "WHERE",
    "WITHIN",
    "GROUPS",
    "ILIKE",
    "REGEXP",
    "WINDOW",
    "EXPLAIN",
    "DECIMAL",
    "NUMERIC",
    "VARCHAR",
    "CHAR",
    "CHARACTER",
    "TIMESTAMP",
    "TIME",
    "BIT",
    "VARYING",
    "PRECISION",
    "FLOAT",
];

const FUNCTIONS: &[&str] = &[
    "ABS",
    "ACOS",
    "ASIN",
    "ATAN",
    "ATAN2",
    "AVG",
    "CAST",
    "CEIL",
    "CEILING",
    "CHAR_LENGTH",
    "CHARACTER_LENGTH",
    "COALESCE",
    "CONCAT",
    "CONCAT_WS",
    "COS",
    "COUNT",
    "CUME_DIST",
    "DATE",
    "DEGREES",
    "DENSE_RANK",
    "EXP",
    "EXTRACT",
    "FIRST_VALUE",
    "FLOOR",
    "GREATEST",
    "HEX",
    "IFNULL",
    "INSTR",
    "LAG",
    "LAST_VALUE",
    "LEAD",
    "LEAST",
    "LENGTH",
    "LN",
    "LOG",
    "LOG10",
    "LOG2",
    "LOWER",
    "LPAD",
    "LTRIM",
    "MAX",
    "MIN",
    "MOD",
    "NTH_VALUE",
    "NTILE",
    "NULLIF",
    "OCTET_LENGTH",
    "PERCENT_RANK",
    "PI",
    "POSITION",
    "POW",
    "POWER",
    "RADIANS",
    "RANK",
    "REPEAT",
    "REPLACE",
    "REVERSE",
    "ROUND",
    "ROW_NUMBER",
    "RPAD",
    "RTRIM",
    "SIGN",
    "SIN",
    "SQRT",
    "STDDEV",
    "SUBSTR",
    "SUBSTRING",
    "SUM",
    "TAN",
    "TRIM",
    "TRUNC",
    "UPPER",
    "VARIANCE",
];

const SQLITE_FUNCTIONS: &[&str] = &[
    "BM25",
    "CHAR",
    "DATETIME",
    "FORMAT",
    "GLOB",
    "GROUP_CONCAT",
    "HIGHLIGHT",
    "IIF",
    "JSON",
    "JSON_ARRAY",
    "JSON_ARRAY_LENGTH",
    "JSON_EACH",
    "JSON_EXTRACT",
    "JSON_GROUP_ARRAY",
    "JSON_GROUP_OBJECT",
    "JSON_OBJECT",
    "JSON_QUOTE",
    "JSON_TREE",
    "JSON_TYPE",
    "JSON_VALID",
    "JULIANDAY",
    "LIKELIHOOD",
    "LIKELY",
    "MATCH",
    "PRINTF",
    "QUOTE",
    "SNIPPET",
    "SQLITE_VERSION",
    "STRFTIME",
    "STRING_AGG",
    "TIMEDIFF",
    "TOTAL",
    "TYPEOF",
    "UNHEX",
    "UNICODE",
    "UNIXEPOCH",
    "UNLIKELY",
];

const POSTGRES_FUNCTIONS: &[&str] = &[
    "AGE",
    "ARRAY_AGG",
    "ARRAY_APPEND",
    "ARRAY_CAT",
    "ARRAY_LENGTH",
    "ARRAY_POSITION",
    "ARRAY_TO_STRING",
    "BIT_LENGTH",
    "BOOL_AND",
    "BOOL_OR",
    "BTRIM",
    "CARDINALITY",
    "CHR",
    "DATE_BIN",
    "DATE_PART",
    "DATE_TRUNC",
    "DECODE",
    "ENCODE",
    "EVERY",
    "FORMAT",
    "GENERATE_SERIES",
    "HASHINT8",
    "HASHTEXT",
    "INITCAP",
    "JSON_AGG",
    "JSON_BUILD_ARRAY",
    "JSON_BUILD_OBJECT",
    "JSON_OBJECT_AGG",
    "JSONB_AGG",
    "JSONB_ARRAY_ELEMENTS",
    "JSONB_ARRAY_ELEMENTS_TEXT",
    "JSONB_ARRAY_LENGTH",
    "JSONB_BUILD_ARRAY",
    "JSONB_BUILD_OBJECT",
    "JSONB_EACH",
    "JSONB_EACH_TEXT",
    "JSONB_EXTRACT_PATH_TEXT",
    "JSONB_OBJECT_AGG",
    "JSONB_OBJECT_KEYS",
    "JSONB_PATH_EXISTS",
    "JSONB_PATH_QUERY",
    "JSONB_TYPEOF",
    "LEFT",
    "MAKE_DATE",
    "MAKE_INTERVAL",
    "MAKE_TIMESTAMP",
    "MD5",
    "NOW",
    "PERCENTILE_CONT",
    "PERCENTILE_DISC",
    "PHRASETO_TSQUERY",
    "PLAINTO_TSQUERY",
    "REGEXP_MATCH",
    "REGEXP_MATCHES",
    "REGEXP_REPLACE",
    "REGEXP_SPLIT_TO_TABLE",
    "RIGHT",
    "ROW_TO_JSON",
    "SHA256",
    "SPLIT_PART",
    "STARTS_WITH",
    "STRING_AGG",
    "STRING_TO_ARRAY",
    "STRPOS",
    "TO_CHAR",
    "TO_DATE",
    "TO_JSON",
    "TO_JSONB",
    "TO_NUMBER",
    "TO_TIMESTAMP",
    "TO_TSQUERY",
    "TO_TSVECTOR",
    "TRANSLATE",
    "TS_HEADLINE",
    "TS_RANK",
    "TS_RANK_CD",
    "UNNEST",
    "WEBSEARCH_TO_TSQUERY",
    "WIDTH_BUCKET",
];

const MYSQL_FUNCTIONS: &[&str] = &[
    "ADDDATE",
    "AGAINST",
    "ASCII",
    "BIN",
    "BIT_COUNT",
    "CHARSET",
    "CONVERT",
    "CRC32",
    "CURDATE",
    "CURTIME",
    "DATE_ADD",
    "DATE_FORMAT",
    "DATE_SUB",
    "DATEDIFF",
    "DAY",
    "DAYNAME",
    "DAYOFMONTH",
    "DAYOFWEEK",
    "DAYOFYEAR",
    "ELT",
    "FIELD",
    "FIND_IN_SET",
    "FORMAT",
    "FROM_UNIXTIME",
    "GROUP_CONCAT",
    "HOUR",
    "IF",
    "INET_ATON",
    "INET_NTOA",
    "JSON_ARRAY",
    "JSON_ARRAYAGG",
    "JSON_CONTAINS",
    "JSON_EXTRACT",
    "JSON_KEYS",
    "JSON_LENGTH",
    "JSON_OBJECT",
    "JSON_OBJECTAGG",
    "JSON_UNQUOTE",
    "JSON_VALID",
    "JSON_VALUE",
    "LAST_DAY",
    "LCASE",
    "LEFT",
    "LOCATE",
    "MAKEDATE",
    "MATCH",
    "MD5",
    "MID",
    "MINUTE",
    "MONTH",
    "MONTHNAME",
    "NOW",
    "QUARTER",
    "QUOTE",
    "RIGHT",
    "SECOND",
    "SHA1",
    "SHA2",
    "STR_TO_DATE",
    "SUBDATE",
    "SUBSTRING_INDEX",
    "TIMESTAMPADD",
    "TIMESTAMPDIFF",
    "TRUNCATE",
    "UCASE",
    "UNHEX",
    "UNIX_TIMESTAMP",
    "UTC_TIMESTAMP",
    "WEEK",
    "WEEKDAY",
    "YEAR",
];
