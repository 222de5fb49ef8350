//! Reads what an origin and a client say about storing: Cache-Control, Surrogate-Control, and the
//! targeted CDN-Cache-Control of RFC 9213.

use http::{HeaderMap, HeaderName, HeaderValue, header};

use super::structured::{self, Item};

/// The directives of one message that matter to a shared cache. Times are in seconds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Control {
    pub(crate) max_age: Option<u64>,
    pub(crate) s_maxage: Option<u64>,
    pub(crate) stale_while_revalidate: Option<u64>,
    pub(crate) stale_if_error: Option<u64>,
    pub(crate) min_fresh: Option<u64>,
    /// `max-stale` without a value is `u64::MAX`.
    pub(crate) max_stale: Option<u64>,
    pub(crate) no_store: bool,
    pub(crate) no_cache: bool,
    pub(crate) private: bool,
    pub(crate) public: bool,
    pub(crate) must_revalidate: bool,
    pub(crate) proxy_revalidate: bool,
    pub(crate) must_understand: bool,
    pub(crate) only_if_cached: bool,
    /// Fields named by `no-cache="…"` or `private="…"`: never stored, the rest may be.
    pub(crate) withheld: Vec<HeaderName>,
    /// From a targeted field, beside which Cache-Control and Expires do not count.
    pub(crate) is_targeted: bool,
    /// Whether any directive was there at all.
    pub(crate) is_said: bool,
}

impl Control {
    /// What a response says to this cache: the targeted field if there is a valid one, else
    /// Surrogate-Control, else Cache-Control.
    pub(crate) fn of_response(headers: &HeaderMap) -> Self {
        if let Some(control) = Self::targeted(headers) {
            return control;
        }
        if let Some(control) = Self::surrogate(headers) {
            return control;
        }
        Self::of_request(headers)
    }

    /// What Cache-Control says, in a request or a response.
    pub(crate) fn of_request(headers: &HeaderMap) -> Self {
        let mut control = Self::default();
        for value in headers.get_all(header::CACHE_CONTROL) {
            for (name, argument) in directives(value.as_bytes()) {
                control.add(&name, argument.as_deref());
            }
        }
        control
    }

    /// CDN-Cache-Control is a structured field: one that does not parse is as if it were not there.
    fn targeted(headers: &HeaderMap) -> Option<Self> {
        let mut values = headers.get_all(&CDN_CACHE_CONTROL).iter().peekable();
        values.peek()?;
        let mut text = String::new();
        for value in values {
            if !text.is_empty() {
                text.push(',');
            }
            text.push_str(value.to_str().ok()?);
        }
        let dictionary = structured::dictionary(&text)?;
        if dictionary.is_empty() {
            return None;
        }
        let mut control = Self { is_targeted: true, ..Self::default() };
        for (name, item) in dictionary {
            match item {
                Item::Integer(seconds) => {
                    // A negative time is of the wrong kind, which RFC 9213 says to ignore.
                    if let Ok(seconds) = u64::try_from(seconds) {
                        control.add(&name, Some(seconds.to_string().as_bytes()));
                    }
                }
                Item::Boolean(true) if !TIMED.contains(&name.as_str()) => control.add(&name, None),
                Item::Boolean(_) | Item::Other => control.is_said = true,
            }
        }
        Some(control)
    }

    /// Surrogate-Control of the Edge Architecture note; `;target` after a directive names the
    /// device that it is for.
    fn surrogate(headers: &HeaderMap) -> Option<Self> {
        let mut control = Self { is_targeted: true, ..Self::default() };
        for value in headers.get_all(&SURROGATE_CONTROL) {
            for (name, argument) in directives(value.as_bytes()) {
                let argument = argument.unwrap_or_default();
                let mut parts = argument.splitn(2, |byte| *byte == b';');
                let argument = parts.next().unwrap_or_default();
                let (name, own_target) = name.split_once(';').unwrap_or((&name, ""));
                let target = parts.next().map_or(own_target.as_bytes(), <[u8]>::trim_ascii);
                if !target.is_empty() && target != SURROGATE.as_bytes() {
                    continue;
                }
                // `max-age=600+30`: what follows the plus is how long it may be served stale.
                let mut ages = argument.splitn(2, |byte| *byte == b'+');
                let age = ages.next().filter(|age| !age.is_empty());
                control.add(name, age);
                if let Some(stale) = ages.next() {
                    control.add("stale-while-revalidate", Some(stale));
                }
            }
        }
        let counts = control.max_age.is_some() || control.no_store;
        counts.then_some(control)
    }

    fn add(&mut self, name: &str, argument: Option<&[u8]>) {
        self.is_said = true;
        match name {
            "max-age" => shortest(&mut self.max_age, argument),
            "s-maxage" => shortest(&mut self.s_maxage, argument),
            "stale-while-revalidate" => shortest(&mut self.stale_while_revalidate, argument),
            "stale-if-error" => shortest(&mut self.stale_if_error, argument),
            "min-fresh" => self.min_fresh = argument.map(seconds),
            "max-stale" => self.max_stale = Some(argument.map_or(u64::MAX, seconds)),
            "no-store" => self.no_store = true,
            "no-cache" => match argument {
                Some(fields) => self.withhold(fields),
                None => self.no_cache = true,
            },
            "private" => match argument {
                Some(fields) => self.withhold(fields),
                None => self.private = true,
            },
            "public" => self.public = true,
            "must-revalidate" => self.must_revalidate = true,
            "proxy-revalidate" => self.proxy_revalidate = true,
            "must-understand" => self.must_understand = true,
            "only-if-cached" => self.only_if_cached = true,
            _ => {}
        }
    }

    fn withhold(&mut self, fields: &[u8]) {
        let names = fields.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
        self.withheld.extend(names.filter_map(|name| HeaderName::from_bytes(name).ok()));
    }
}

/// Times that contradict each other count as the shortest; one that is no number as zero.
fn shortest(slot: &mut Option<u64>, argument: Option<&[u8]>) {
    let said = argument.map_or(0, seconds);
    *slot = Some(slot.map_or(said, |before| before.min(said)));
}

fn seconds(text: &[u8]) -> u64 {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return 0;
    }
    text.iter()
        .fold(0_u64, |sum, digit| sum.saturating_mul(10).saturating_add(u64::from(digit - b'0')))
        .min(LONGEST_S)
}

/// Splits `a, b=1, c="d, e"` into names in lower case and arguments without their quotes.
fn directives(mut text: &[u8]) -> Vec<(String, Option<Vec<u8>>)> {
    let mut found = Vec::new();
    while !text.is_empty() {
        let end = text.iter().position(|byte| matches!(byte, b'=' | b',')).unwrap_or(text.len());
        let name = String::from_utf8_lossy(text[..end].trim_ascii_start()).to_ascii_lowercase();
        let has_argument = text.get(end) == Some(&b'=');
        text = text.get(end + 1..).unwrap_or_default();
        let mut argument = None;
        if has_argument {
            let (value, rest) = argument_of(text);
            argument = Some(value);
            text = rest;
        }
        // Only white space before a comma is layout; before `=` it makes another name.
        let name = if has_argument { name } else { name.trim_end().to_owned() };
        if !name.is_empty() {
            found.push((name, argument));
        }
    }
    found
}

/// Reads one argument, quoted or not, up to the comma that ends it.
fn argument_of(text: &[u8]) -> (Vec<u8>, &[u8]) {
    let mut value = Vec::new();
    let mut at = 0;
    if text.first() == Some(&b'"') {
        at = 1;
        while at < text.len() && text[at] != b'"' {
            if text[at] == b'\\' {
                at += 1;
            }
            value.extend(text.get(at));
            at += 1;
        }
        at += 1;
    }
    let rest = text.get(at..).unwrap_or_default();
    let end = rest.iter().position(|byte| *byte == b',').unwrap_or(rest.len());
    value.extend_from_slice(rest[..end].trim_ascii_end());
    (value, rest.get(end + 1..).unwrap_or_default())
}

/// What this cache calls itself in Surrogate-Capability and hears in Surrogate-Control.
pub(crate) const SURROGATE: &str = "throng";
pub(crate) const CAPABILITY: &str = "throng=\"Surrogate/1.0\"";
pub(super) const SURROGATE_CAPABILITY_NAME: HeaderName =
    HeaderName::from_static("surrogate-capability");
pub(super) const SURROGATE_CAPABILITY: HeaderValue = HeaderValue::from_static(CAPABILITY);
pub(crate) const SURROGATE_CONTROL: HeaderName = HeaderName::from_static("surrogate-control");
const CDN_CACHE_CONTROL: HeaderName = HeaderName::from_static("cdn-cache-control");
const TIMED: [&str; 4] = ["max-age", "s-maxage", "stale-while-revalidate", "stale-if-error"];
/// RFC 9111 1.2.2: 2^31 seconds stand for "greater than can be told", and keep sums in range.
const LONGEST_S: u64 = 1 << 31;

#[cfg(test)]
mod tests {
    use super::*;

    fn of(fields: &[(&'static str, &'static str)]) -> Control {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        Control::of_response(&headers)
    }

    #[test]
    fn a_directive_inside_a_quoted_string_is_text() {
        let control = of(&[("cache-control", "ext=\"max-age=3600, no-store\", max-age=\"7\"")]);
        assert_eq!((control.max_age, control.no_store), (Some(7), false));
        assert_eq!(of(&[("cache-control", "max-age='3600'")]).max_age, Some(0));
        assert_eq!(of(&[("cache-control", "max-age=99999999999999999999")]).max_age, Some(1 << 31));
        assert_eq!(of(&[("cache-control", "max-age=\"3600")]).max_age, Some(3600));
    }

    #[test]
    fn contradicting_times_count_as_the_shortest() {
        let control = of(&[("cache-control", "max-age=1800"), ("cache-control", "max-age=1")]);
        assert_eq!(control.max_age, Some(1));
    }

    #[test]
    fn qualified_directives_withhold_fields_and_not_the_response() {
        let control = of(&[("cache-control", "private=\"set-cookie, x-a\", no-cache=\"b\"")]);
        assert!(!control.private && !control.no_cache);
        assert_eq!(control.withheld, ["set-cookie", "x-a", "b"]);
    }

    #[test]
    fn a_targeted_field_replaces_cache_control_unless_it_does_not_parse() {
        let cdn = |value| of(&[("cdn-cache-control", value), ("cache-control", "no-store")]);
        assert_eq!(cdn("max-age=60").max_age, Some(60));
        assert!(!cdn("max-age=60").no_store);
        assert!(cdn("max-age=60, &&&").no_store);
        assert!(cdn("Max-Age=60").no_store);
        assert_eq!(cdn("max-age=\"60\"").max_age, None);
        assert!(cdn("").no_store);
        assert!(cdn("private;x=1, no-cache=?1").private);
    }

    #[test]
    fn surrogate_control_for_another_device_is_not_for_us() {
        let surrogate = |value| of(&[("surrogate-control", value), ("cache-control", "no-store")]);
        assert_eq!(surrogate("max-age=60;throng").max_age, Some(60));
        assert!(surrogate("max-age=60;other").no_store);
        assert_eq!(surrogate("max-age=60+30").stale_while_revalidate, Some(30));
    }
}
