//! WebSockets over HTTP/2 (RFC 8441): a CONNECT that names them, which is an upgrade of HTTP/1.1 to the
//! back end.

use base64::{Engine, engine::general_purpose::STANDARD};
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::ext::Protocol;
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};

/// What the back end has to answer, so that it is known to speak of WebSockets and not by chance.
#[derive(Debug)]
pub(super) struct Asked {
    accept: String,
}

/// Makes an upgrade of a CONNECT for a WebSocket, with `nonce` as its key. Leaves other requests alone,
/// a CONNECT without a protocol among them, which nobody gets; another protocol is nothing that a back
/// end is known to speak.
pub(super) fn begin<B>(
    request: &mut Request<B>,
    nonce: impl FnOnce() -> [u8; 16],
) -> Result<Option<Asked>, StatusCode> {
    if request.method() != Method::CONNECT {
        return Ok(None);
    }
    let Some(protocol) = request.extensions_mut().remove::<Protocol>() else { return Ok(None) };
    if !protocol.as_str().eq_ignore_ascii_case(WEBSOCKET) {
        return Err(StatusCode::NOT_IMPLEMENTED);
    }
    let key = STANDARD.encode(nonce());
    let accept = digest(&SHA1_FOR_LEGACY_USE_ONLY, format!("{key}{GUID}").as_bytes());
    *request.method_mut() = Method::GET;
    let headers = request.headers_mut();
    // What it has to say comes after the answer.
    headers.remove(header::CONTENT_LENGTH);
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static(WEBSOCKET));
    if let Ok(key) = HeaderValue::try_from(key) {
        headers.insert(header::SEC_WEBSOCKET_KEY, key);
    }
    Ok(Some(Asked { accept: STANDARD.encode(accept) }))
}

impl Asked {
    /// Makes the answer to the CONNECT of the answer to the upgrade. An error is an answer that would be
    /// taken for a WebSocket and is none.
    pub(super) fn end<B>(&self, mut response: Response<B>) -> Result<Response<B>, StatusCode> {
        let status = response.status();
        if status != StatusCode::SWITCHING_PROTOCOLS {
            return if status.is_success() { Err(StatusCode::BAD_GATEWAY) } else { Ok(response) };
        }
        let says = |name: HeaderName| response.headers().get(name).map(HeaderValue::as_bytes);
        let is_websocket = says(header::UPGRADE)
            .is_some_and(|protocol| protocol.eq_ignore_ascii_case(WEBSOCKET.as_bytes()));
        if !is_websocket || says(header::SEC_WEBSOCKET_ACCEPT) != Some(self.accept.as_bytes()) {
            return Err(StatusCode::BAD_GATEWAY);
        }
        *response.status_mut() = StatusCode::OK;
        for name in [header::CONNECTION, header::UPGRADE, header::SEC_WEBSOCKET_ACCEPT] {
            response.headers_mut().remove(name);
        }
        Ok(response)
    }
}

const WEBSOCKET: &str = "websocket";
/// RFC 6455 1.3.
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_to_a_key_is_the_one_of_the_rfc() {
        let nonce = *b"the sample nonce";
        let mut request = Request::new(());
        *request.method_mut() = Method::CONNECT;
        request.extensions_mut().insert(Protocol::from_static("websocket"));
        let asked = begin(&mut request, || nonce).unwrap().unwrap();
        assert_eq!(request.method(), Method::GET);
        assert_eq!(request.headers()[header::SEC_WEBSOCKET_KEY], "dGhlIHNhbXBsZSBub25jZQ==");
        assert_eq!(asked.accept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }
}
