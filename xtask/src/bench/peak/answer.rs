//! Where an answer ends: by its length, or with its last chunk.

use anyhow::{Context, Result, ensure};

/// How long the answer that begins here is, once as much of it is there as tells. An error when it is
/// no 200.
pub(super) fn length(bytes: &[u8]) -> Result<Option<usize>> {
    let Some(end) = find(bytes, b"\r\n\r\n") else { return Ok(None) };
    let head = std::str::from_utf8(&bytes[..end])?;
    ensure!(head.starts_with("HTTP/1.1 200"), "{}", head.lines().next().unwrap_or(""));
    let field = |wanted: &str| {
        let fields = head.lines().filter_map(|line| line.split_once(':'));
        let mut named = fields.filter(|(name, _)| name.eq_ignore_ascii_case(wanted));
        named.next().map(|(_, value)| value.trim())
    };
    if let Some(length) = field("content-length") {
        return Ok(Some(end + 4 + length.parse::<usize>()?));
    }
    let coding = field("transfer-encoding").context("an answer says how long it is")?;
    ensure!(coding.eq_ignore_ascii_case("chunked"), "an answer is coded as `{coding}`");
    Ok(chunks(&bytes[end + 4..])?.map(|length| end + 4 + length))
}

/// How long the chunks that begin here are, with the last one and no trailer.
fn chunks(bytes: &[u8]) -> Result<Option<usize>> {
    let mut at = 0;
    loop {
        let Some(line) = find(&bytes[at..], b"\r\n") else { return Ok(None) };
        let size = std::str::from_utf8(&bytes[at..at + line])?;
        let size = usize::from_str_radix(size.split(';').next().unwrap_or(size).trim(), 16)
            .with_context(|| format!("a chunk is `{size}` long"))?;
        at += line + 2 + size + 2;
        if at > bytes.len() {
            return Ok(None);
        }
        if size == 0 {
            return Ok(Some(at));
        }
    }
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|some| some == what)
}

#[cfg(test)]
mod tests {
    use super::length;

    #[test]
    fn an_answer_ends_by_its_length_or_with_its_last_chunk() {
        let plain = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello".as_slice();
        let chunked = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n\
            5\r\nhello\r\nb;x=y\r\n 0\r\n\r\n world\r\n0\r\n\r\n";
        for whole in [plain, chunked] {
            assert_eq!(length(whole).unwrap(), Some(whole.len()));
            assert!((0..whole.len()).all(|cut| {
                length(&whole[..cut]).unwrap().is_none_or(|length| length == whole.len())
            }));
        }
        assert!(length(b"HTTP/1.1 503 Service Unavailable\r\n\r\n").is_err());
        assert!(length(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
    }
}
