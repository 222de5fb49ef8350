//! Who sent a request: whom to believe, and what to say about them to the back end.

use std::net::IpAddr;

use http::{HeaderMap, HeaderName, HeaderValue, header};

/// Addresses with the same first bits, such as `10.0.0.0/8` or `::1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    bits: u8,
}

/// What is wrong with a network.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no network; write `10.0.0.0/8`, `fd00::/8` or one address")]
pub struct NetworkError(String);

impl Network {
    /// Whether `address` is one of it. An IPv4 address that came through IPv6 is the same address.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.bits)).unwrap_or(0);
                (u32::from(own) ^ u32::from(other)) & mask == 0
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.bits)).unwrap_or(0);
                (u128::from(own) ^ u128::from(other)) & mask == 0
            }
            _ => false,
        }
    }
}

impl std::str::FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let error = || NetworkError(text.to_owned());
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits.parse::<u8>().map_err(|_| error())?)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| error())?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.unwrap_or(most);
        (bits <= most).then_some(Self { address, bits }).ok_or_else(error)
    }
}

/// The visitor whom a request comes from, as far as trusted peers are to be believed: an extension of
/// each request, for services in this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Client(pub IpAddr);

/// How a request came.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrival<'a> {
    pub(crate) peer: IpAddr,
    pub(crate) is_trusted: bool,
    pub(crate) scheme: &'static str,
    pub(crate) host: &'a str,
}

/// Writes who the visitor is into the request for the back end. What an untrusted peer says about
/// itself does not reach it.
pub(crate) fn forward(headers: &mut HeaderMap, arrival: Arrival<'_>) {
    let peer = arrival.peer.to_canonical();
    if !arrival.is_trusted {
        for name in CLAIMS {
            headers.remove(name);
        }
    }
    let mut chain = joined(headers, &X_FORWARDED_FOR);
    if !chain.is_empty() {
        chain.push_str(", ");
    }
    chain.push_str(&peer.to_string());
    set(headers, X_FORWARDED_FOR, &chain);

    if !headers.contains_key(&X_FORWARDED_PROTO) {
        headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static(arrival.scheme));
    }
    if !headers.contains_key(&X_FORWARDED_HOST) {
        set(headers, X_FORWARDED_HOST, arrival.host);
    }
    let mut elements = joined(headers, &header::FORWARDED);
    if !elements.is_empty() {
        elements.push_str(", ");
    }
    let node = node(peer);
    let host = arrival.host.replace(['"', '\\'], "");
    elements.push_str(&format!("for={node};host=\"{host}\";proto={}", arrival.scheme));
    set(headers, header::FORWARDED, &elements);
}

/// An address as Forwarded has it (RFC 7239 6).
pub(crate) fn node(address: IpAddr) -> String {
    match address.to_canonical() {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("\"[{address}]\""),
    }
}

/// Whether a client could pretend to be another by a field of this name.
pub(crate) fn is_claim(name: &str) -> bool {
    let may = |first: u8| matches!(first.to_ascii_lowercase(), b'x' | b'f');
    name.bytes().next().is_some_and(may)
        && CLAIMS.iter().any(|claim| name.eq_ignore_ascii_case(claim.as_str()))
}

/// The visitor that a trusted peer speaks for, else the peer: the last address in X-Forwarded-For
/// that is not trusted itself.
pub(crate) fn visitor(headers: &HeaderMap, peer: IpAddr, trusted: &[Network]) -> IpAddr {
    let is_trusted = |address: IpAddr| trusted.iter().any(|network| network.contains(address));
    if !is_trusted(peer) {
        return peer;
    }
    let chain = joined(headers, &X_FORWARDED_FOR);
    let mut visitor = peer;
    for hop in chain.rsplit(',').map(str::trim) {
        let Ok(address) = hop.parse() else { break };
        visitor = address;
        if !is_trusted(address) {
            break;
        }
    }
    visitor
}

fn joined(headers: &HeaderMap, name: &HeaderName) -> String {
    let texts: Vec<&str> =
        headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).collect();
    texts.join(", ")
}

fn set(headers: &mut HeaderMap, name: HeaderName, text: &str) {
    if let Ok(value) = HeaderValue::from_str(text) {
        headers.insert(name, value);
    }
}

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// Everything by which a client could pretend to be another.
const CLAIMS: [HeaderName; 12] = [
    header::FORWARDED,
    X_FORWARDED_FOR,
    X_FORWARDED_PROTO,
    X_FORWARDED_HOST,
    HeaderName::from_static("x-forwarded-port"),
    HeaderName::from_static("x-forwarded-server"),
    HeaderName::from_static("x-forwarded-scheme"),
    HeaderName::from_static("x-forwarded-ssl"),
    HeaderName::from_static("x-forwarded-prefix"),
    HeaderName::from_static("x-real-ip"),
    HeaderName::from_static("x-original-url"),
    HeaderName::from_static("x-rewrite-url"),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn network(text: &str) -> Network {
        text.parse().unwrap()
    }

    #[test]
    fn a_network_holds_the_addresses_with_its_first_bits() {
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        assert!(network("10.0.0.0/8").contains(address("10.255.0.1")));
        assert!(network("10.0.0.0/8").contains(address("::ffff:10.1.1.1")));
        assert!(!network("10.0.0.0/8").contains(address("11.0.0.1")));
        assert!(network("0.0.0.0/0").contains(address("1.2.3.4")));
        assert!(!network("0.0.0.0/0").contains(address("::1")));
        assert!(network("fd00::/8").contains(address("fd12::1")));
        assert!(network("::1").contains(address("::1")));
        for wrong in ["", "10.0.0.0/33", "10.0.0/8", "::/129", "x", "10.0.0.0/-1"] {
            assert!(wrong.parse::<Network>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_an_untrusted_peer_claims_does_not_reach_the_back_end() {
        let claims = || {
            let mut headers = HeaderMap::new();
            headers.insert(X_FORWARDED_FOR, HeaderValue::from_static("1.1.1.1"));
            headers.insert("x-real-ip", HeaderValue::from_static("1.1.1.1"));
            headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static("https"));
            headers
        };
        let peer = "10.0.0.9".parse().unwrap();
        let arrival = Arrival { peer, is_trusted: false, scheme: "http", host: "a.org" };
        let mut headers = claims();
        forward(&mut headers, arrival);
        assert_eq!(headers[X_FORWARDED_FOR], "10.0.0.9");
        assert_eq!(headers[X_FORWARDED_PROTO], "http");
        assert_eq!(headers["forwarded"], "for=10.0.0.9;host=\"a.org\";proto=http");
        assert!(!headers.contains_key("x-real-ip"));

        let mut headers = claims();
        forward(&mut headers, Arrival { is_trusted: true, ..arrival });
        assert_eq!(headers[X_FORWARDED_FOR], "1.1.1.1, 10.0.0.9");
        assert_eq!(headers[X_FORWARDED_PROTO], "https");
    }

    #[test]
    fn the_visitor_is_the_last_address_that_is_not_one_of_our_own() {
        let trusted = [network("10.0.0.0/8")];
        let mut headers = HeaderMap::new();
        headers.insert(X_FORWARDED_FOR, HeaderValue::from_static("6.6.6.6, 9.9.9.9, 10.0.0.2"));
        let own = "10.0.0.1".parse().unwrap();
        let other: IpAddr = "8.8.8.8".parse().unwrap();
        assert_eq!(visitor(&headers, own, &trusted), "9.9.9.9".parse::<IpAddr>().unwrap());
        assert_eq!(visitor(&headers, other, &trusted), other);
    }
}
