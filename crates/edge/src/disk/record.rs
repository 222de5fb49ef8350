//! Records of the store on disk: each with checksums of its own, so that what is cut off, or changed by
//! anybody, is noticed.

use std::{fs::File, io, os::unix::fs::FileExt};

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde::{Deserialize, Serialize};

use crate::cache::{Kept, Mark, Purge};

/// What stands before the bytes of a body, or alone for a purge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Meta {
    Page(Page),
    Address(String),
    Tag(String),
    Pattern(String),
    All,
}

/// A page without its body.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Page {
    pub(super) key: String,
    pub(super) selection: Vec<(String, Option<String>)>,
    status: u16,
    /// Bytes of values as characters of the same number.
    headers: Vec<(String, String)>,
    stored_unix_ms: i64,
    pub(super) fresh_until_unix_ms: i64,
}

/// Where the parts of a record are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) at: u64,
    meta: u32,
    body: u32,
    body_sum: u32,
}

impl Span {
    /// Bytes from the beginning of the record to the next.
    pub(super) fn length(&self) -> u64 {
        HEAD_BYTES as u64 + u64::from(self.meta) + u64::from(self.body)
    }

    /// The body, if it is what was written.
    pub(super) fn body(&self, file: &File) -> io::Result<Vec<u8>> {
        let mut body = vec![0; self.body as usize];
        file.read_exact_at(&mut body, self.at + HEAD_BYTES as u64 + u64::from(self.meta))?;
        match crc32fast::hash(&body) == self.body_sum {
            true => Ok(body),
            false => Err(wrong("the body of a page is not what was written")),
        }
    }

    /// The meta of the record at `at`; `None` at the end of the file.
    pub(super) fn read(file: &File, at: u64, end: u64) -> io::Result<Option<(Self, Meta)>> {
        if at == end {
            return Ok(None);
        }
        let mut head = [0; HEAD_BYTES];
        file.read_exact_at(&mut head, at)?;
        let number = |from: usize| {
            u32::from_le_bytes([head[from], head[from + 1], head[from + 2], head[from + 3]])
        };
        let span = Self { at, meta: number(8), body: number(12), body_sum: number(16) };
        if number(0) != MAGIC || at + span.length() > end {
            return Err(wrong("a record is cut off"));
        }
        let mut meta = vec![0; span.meta as usize];
        file.read_exact_at(&mut meta, at + HEAD_BYTES as u64)?;
        let mut sum = crc32fast::Hasher::new();
        sum.update(&head[8..]);
        sum.update(&meta);
        if sum.finalize() != number(4) {
            return Err(wrong("a record is not what was written"));
        }
        let meta = serde_json::from_slice(&meta).map_err(io::Error::other)?;
        Ok(Some((span, meta)))
    }

    /// Appends a record that will stand at `at`.
    pub(super) fn write(out: &mut Vec<u8>, at: u64, meta: &Meta, body: &[u8]) -> io::Result<Self> {
        let meta = serde_json::to_vec(meta).map_err(io::Error::other)?;
        let length = |bytes: &[u8]| u32::try_from(bytes.len()).map_err(io::Error::other);
        let (meta_length, body_length) = (length(&meta)?, length(body)?);
        let body_sum = crc32fast::hash(body);
        let mut sizes = Vec::with_capacity(12);
        for number in [meta_length, body_length, body_sum] {
            sizes.extend_from_slice(&number.to_le_bytes());
        }
        let mut sum = crc32fast::Hasher::new();
        sum.update(&sizes);
        sum.update(&meta);
        out.extend_from_slice(&MAGIC.to_le_bytes());
        out.extend_from_slice(&sum.finalize().to_le_bytes());
        out.extend_from_slice(&sizes);
        out.extend_from_slice(&meta);
        out.extend_from_slice(body);
        Ok(Self { at, meta: meta_length, body: body_length, body_sum })
    }
}

impl Page {
    pub(super) fn of(kept: &Kept) -> Self {
        let text =
            |value: &HeaderValue| value.as_bytes().iter().map(|byte| char::from(*byte)).collect();
        let headers = kept.headers.iter();
        Self {
            key: kept.key.clone(),
            selection: kept
                .selection
                .iter()
                .map(|(name, value)| (name.as_str().to_owned(), value.clone()))
                .collect(),
            status: kept.status.as_u16(),
            headers: headers.map(|(name, value)| (name.as_str().to_owned(), text(value))).collect(),
            stored_unix_ms: kept.stored_unix_ms,
            fresh_until_unix_ms: kept.fresh_until_unix_ms,
        }
    }

    /// The tags that it was stored with.
    pub(super) fn tags(&self) -> impl Iterator<Item = &str> {
        let of = |wanted: &'static str| {
            self.headers.iter().filter(move |(name, _)| name == wanted).map(|(_, value)| value)
        };
        let keys = of("surrogate-key").flat_map(|value| value.split_ascii_whitespace());
        let tags = of("cache-tag").flat_map(|value| value.split(',')).map(str::trim);
        keys.chain(tags).filter(|tag| !tag.is_empty())
    }

    pub(super) fn selection(&self) -> Option<Vec<(HeaderName, Option<String>)>> {
        let named = |(name, value): &(String, Option<String>)| {
            Some((HeaderName::from_bytes(name.as_bytes()).ok()?, value.clone()))
        };
        self.selection.iter().map(named).collect()
    }

    pub(super) fn kept(self, body: Vec<u8>, mark: Mark) -> Option<Kept> {
        let mut headers = HeaderMap::with_capacity(self.headers.len());
        for (name, value) in &self.headers {
            let value: Option<Vec<u8>> =
                value.chars().map(|letter| u8::try_from(u32::from(letter)).ok()).collect();
            let value = HeaderValue::from_bytes(&value?).ok()?;
            headers.append(HeaderName::from_bytes(name.as_bytes()).ok()?, value);
        }
        Some(Kept {
            selection: self.selection()?,
            key: self.key,
            status: StatusCode::from_u16(self.status).ok()?,
            headers,
            body: body.into(),
            stored_unix_ms: self.stored_unix_ms,
            fresh_until_unix_ms: self.fresh_until_unix_ms,
            mark,
        })
    }
}

impl From<Purge> for Meta {
    fn from(purge: Purge) -> Self {
        match purge {
            Purge::Address(address) => Self::Address(address),
            Purge::Tag(tag) => Self::Tag(tag),
            Purge::Pattern(pattern) => Self::Pattern(pattern),
            Purge::All => Self::All,
        }
    }
}

fn wrong(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

const MAGIC: u32 = 0x3150_4774;
/// Magic, checksum of what follows up to the body, lengths of meta and body, checksum of the body.
const HEAD_BYTES: usize = 20;
