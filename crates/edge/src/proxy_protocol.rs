//! The PROXY protocol, versions 1 and 2: a load balancer before this one says who the visitor is.
//!
//! Source: <https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt>. A listener has it on every
//! connection or on none; guessing would let visitors say who they are.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use tokio::io::{AsyncRead, AsyncReadExt};

/// Reads the header that begins a connection, and nothing after it. The visitor's address, or none
/// when the balancer speaks for itself (a health check) or does not know.
///
/// # Errors
/// `InvalidData` when there is no such header: the connection is worth nothing then.
pub(crate) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<IpAddr>> {
    let mut start = [0; SIGNATURE.len()];
    stream.read_exact(&mut start).await?;
    match start == *SIGNATURE {
        true => read_binary(stream).await,
        false => read_text(stream, &start).await,
    }
}

/// Version 1: `PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\n`.
async fn read_text(
    stream: &mut (impl AsyncRead + Unpin),
    start: &[u8],
) -> io::Result<Option<IpAddr>> {
    let mut line = start.to_vec();
    if !line.starts_with(b"PROXY ") {
        return Err(wrong("it does not begin with a PROXY header"));
    }
    while !line.ends_with(b"\r\n") {
        if line.len() == MAX_LINE {
            return Err(wrong("its PROXY header has no end"));
        }
        // What comes after the line is the visitor's, so no byte too many is taken.
        line.push(stream.read_u8().await?);
    }
    let line = std::str::from_utf8(&line).map_err(|_| wrong("its PROXY header is no text"))?;
    let mut words = line.trim_end().split(' ').skip(1);
    let family = words.next();
    let source = words.next().and_then(|word| word.parse::<IpAddr>().ok());
    match (family, source) {
        (Some("UNKNOWN"), _) => Ok(None),
        (Some("TCP4"), Some(source)) if source.is_ipv4() => Ok(Some(source)),
        (Some("TCP6"), Some(source)) if source.is_ipv6() => Ok(Some(source)),
        _ => Err(wrong("its PROXY header names no visitor")),
    }
}

/// Version 2, after its signature: version and command, family, length, addresses, more.
async fn read_binary(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<IpAddr>> {
    let mut head = [0; 4];
    stream.read_exact(&mut head).await?;
    let [version, family, high, low] = head;
    let length = usize::from(u16::from_be_bytes([high, low]));
    if version >> 4 != 2 || version & 0xf > 1 || length > MAX_REST {
        return Err(wrong("its PROXY header is of no known version"));
    }
    let mut rest = vec![0; length];
    stream.read_exact(&mut rest).await?;
    let is_local = version & 0xf == 0;
    match family >> 4 {
        _ if is_local => Ok(None),
        1 => source(&rest, |bytes: [u8; 4]| Ipv4Addr::from(bytes).into()).map(Some),
        2 => source(&rest, |bytes: [u8; 16]| Ipv6Addr::from(bytes).into()).map(Some),
        // A UNIX socket, or what it does not know.
        _ => Ok(None),
    }
}

/// The first of two addresses, which two ports follow.
fn source<const N: usize>(rest: &[u8], address: fn([u8; N]) -> IpAddr) -> io::Result<IpAddr> {
    let first = rest.first_chunk::<N>().filter(|_| rest.len() >= 2 * N + 4);
    first.map(|bytes| address(*bytes)).ok_or_else(|| wrong("its PROXY header ends too early"))
}

fn wrong(reason: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// The longest line of version 1, by its specification.
const MAX_LINE: usize = 107;
/// Addresses take 216 bytes at most; the rest is for extensions such as names of certificates.
const MAX_REST: usize = 4_096;

#[cfg(test)]
mod tests {
    use super::*;

    async fn said(bytes: &[u8]) -> (Result<Option<IpAddr>, io::ErrorKind>, Vec<u8>) {
        let mut stream = bytes;
        let read = read(&mut stream).await.map_err(|error| error.kind());
        (read, stream.to_vec())
    }

    fn binary(version: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
        [SIGNATURE.as_slice(), &[version, family], &length, rest].concat()
    }

    #[tokio::test]
    async fn both_versions_name_the_visitor_and_leave_the_request_alone() {
        let four: IpAddr = "192.0.2.1".parse().unwrap();
        let six: IpAddr = "2001:db8::1".parse().unwrap();
        let pair = |octets: &[u8]| [octets, octets, &[0, 80, 1, 187]].concat();
        let v6 = "2001:db8::1".parse::<Ipv6Addr>().unwrap().octets();
        for (header, wants) in [
            (b"PROXY TCP4 192.0.2.1 192.0.2.9 56324 443\r\n".to_vec(), Some(four)),
            (b"PROXY TCP6 2001:db8::1 ::1 56324 443\r\n".to_vec(), Some(six)),
            (b"PROXY UNKNOWN\r\n".to_vec(), None),
            (b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n".to_vec(), None),
            (binary(0x21, 0x11, &pair(&[192, 0, 2, 1])), Some(four)),
            (binary(0x21, 0x21, &pair(&v6)), Some(six)),
            (binary(0x21, 0x11, &[pair(&[192, 0, 2, 1]), vec![4, 0, 1, 9]].concat()), Some(four)),
            (binary(0x20, 0x00, &[]), None),
            (binary(0x21, 0x31, &[0; 216]), None),
        ] {
            let (read, rest) = said(&[header.as_slice(), b"GET / HTTP/1.1\r\n"].concat()).await;
            assert_eq!((read, rest.as_slice()), (Ok(wants), b"GET / HTTP/1.1\r\n".as_slice()));
        }
    }

    #[tokio::test]
    async fn anything_else_is_refused_before_much_of_it_is_read() {
        let endless = [b"PROXY TCP4 ".as_slice(), &[b'1'; 1_000]].concat();
        let longest = binary(0x21, 0x11, &[0; 5_000]);
        for bytes in [
            b"GET / HTTP/1.1\r\nhost: a\r\n\r\n".as_slice(),
            b"PROXY TCP4 visitor 192.0.2.9 1 2\r\n",
            b"PROXY TCP4 2001:db8::1 ::1 1 2\r\n",
            b"PROXY NONSENSE\r\n",
            &endless,
            &longest,
            &binary(0x31, 0x11, &[0; 12]),
            &binary(0x22, 0x11, &[0; 12]),
            &binary(0x21, 0x11, &[0; 11]),
        ] {
            assert_eq!(said(bytes).await.0, Err(io::ErrorKind::InvalidData), "{bytes:?}");
        }
        assert_eq!(said(b"PROXY TCP4 1").await.0, Err(io::ErrorKind::UnexpectedEof));
    }
}
