//! Percent-encoding for URL parts (RFC 3986, section 2.1).

/// Decodes `%41` to `A`. Everything else stays.
pub(super) fn decode(text: &str) -> Result<String, String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        if first != b'%' {
            bytes.push(first);
            rest = after;
            continue;
        }
        let pair = after.get(..2).and_then(|pair| Some(hex(pair[0])? << 4 | hex(pair[1])?));
        bytes.push(pair.ok_or_else(|| format!("`{text}` has a `%` without two hex digits"))?);
        rest = &after[2..];
    }
    String::from_utf8(bytes).map_err(|_| format!("`{text}` does not decode to UTF-8"))
}

/// Encodes everything but RFC 3986's unreserved characters.
pub(super) fn encode(text: &str) -> String {
    encode_all_but(text, "-._~")
}

/// Like [`encode`], but leaves the colons of IPv6 addresses.
pub(super) fn encode_host(text: &str) -> String {
    encode_all_but(text, "-._~:")
}

/// Like [`encode`], but leaves what a path may hold as it is.
pub(super) fn encode_path(text: &str) -> String {
    encode_all_but(text, "-._~/:@!$&'()*+,;=")
}

fn encode_all_but(text: &str, plain: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || plain.contains(char::from(byte)) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}
