//! The request with which a WebSocket begins (RFC 6455, section 4.2), and the answers to it: path `/mqtt`, subprotocol
//! `mqtt` or `mqttv3.1`. Where the page comes from that asks (Origin) is not judged.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use httparse::{EMPTY_HEADER, Request, Status};
use sha1::{Digest, Sha1};

/// Bytes of the longest request.
const REQUEST_BYTES_MAX: usize = 8 * 1024;

const HEADERS_MAX: usize = 64;

/// What the key is hashed with: section 1.3.
const KEY_SUFFIX: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// What a request is answered.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// There is more to come.
    Incomplete,
    /// This, and then nothing.
    Refused(String),
    Accepted {
        response: String,
        /// Bytes of the request.
        used: usize,
    },
}

pub(super) fn answer(bytes: &[u8]) -> Answer {
    let mut headers = [EMPTY_HEADER; HEADERS_MAX];
    let mut request = Request::new(&mut headers);
    match request.parse(bytes) {
        Ok(Status::Complete(used)) if used <= REQUEST_BYTES_MAX => match judge(&request) {
            Ok(response) => Answer::Accepted { response, used },
            Err(refusal) => Answer::Refused(refusal),
        },
        Ok(Status::Partial) if bytes.len() <= REQUEST_BYTES_MAX => Answer::Incomplete,
        _ => Answer::Refused(refuse("400 Bad Request", "")),
    }
}

fn judge(request: &Request<'_, '_>) -> Result<String, String> {
    let bad = || refuse("400 Bad Request", "");
    if request.method != Some("GET") || request.version != Some(1) {
        return Err(bad());
    }
    let path = request.path.unwrap_or_default();
    if path.split('?').next() != Some("/mqtt") {
        return Err(refuse("404 Not Found", ""));
    }
    if !lists(request, "upgrade", "websocket") || !lists(request, "connection", "upgrade") {
        return Err(refuse("426 Upgrade Required", "Upgrade: websocket\r\n"));
    }
    if values(request, "sec-websocket-version").next() != Some("13") {
        return Err(refuse("426 Upgrade Required", "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"));
    }
    let key = values(request, "sec-websocket-key").next().ok_or_else(bad)?;
    if BASE64_STANDARD.decode(key).map_or(0, |key| key.len()) != 16 {
        return Err(bad());
    }
    // [MQTT-6.0.0-3], [MQTT-6.0.0-4]
    let offered = values(request, "sec-websocket-protocol").flat_map(|value| value.split(',').map(str::trim));
    let protocol = offered.into_iter().find(|name| ["mqtt", "mqttv3.1"].contains(name)).ok_or_else(bad)?;
    let accept = BASE64_STANDARD.encode(Sha1::new().chain_update(key).chain_update(KEY_SUFFIX).finalize());
    Ok(format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\nSec-WebSocket-Protocol: {protocol}\r\n\r\n"
    ))
}

fn refuse(status: &str, headers: &str) -> String {
    format!("HTTP/1.1 {status}\r\n{headers}Connection: close\r\nContent-Length: 0\r\n\r\n")
}

/// The values of a header; names are in any case.
fn values<'a>(request: &'a Request<'_, '_>, name: &'a str) -> impl Iterator<Item = &'a str> {
    let of_name = move |header: &&httparse::Header<'_>| header.name.eq_ignore_ascii_case(name);
    request.headers.iter().filter(of_name).filter_map(|header| std::str::from_utf8(header.value).ok())
}

/// Whether a header lists a word.
fn lists(request: &Request<'_, '_>, name: &str, word: &str) -> bool {
    let mut words = values(request, name).flat_map(|value| value.split(','));
    words.any(|listed| listed.trim().eq_ignore_ascii_case(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The handshake of RFC 6455, section 1.3, with MQTT's path and names.
    const REQUEST: &str = "GET /mqtt HTTP/1.1\r\nHost: example\r\nUpgrade: websocket\r\n\
        Connection: keep-alive, Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
        Sec-WebSocket-Protocol: chat, mqtt\r\nSec-WebSocket-Version: 13\r\n\r\n";

    /// [MQTT-6.0.0-4] The key is answered as the RFC's example has it, with the first protocol that is ours.
    #[test]
    fn request_is_accepted() {
        let Answer::Accepted { response, used } = answer(REQUEST.as_bytes()) else { panic!("it is good") };
        assert_eq!(used, REQUEST.len());
        assert!(response.starts_with("HTTP/1.1 101 "));
        assert!(response.contains("Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"), "{response}");
        assert!(response.contains("Sec-WebSocket-Protocol: mqtt\r\n"));
        for end in 0..REQUEST.len() {
            assert_eq!(answer(&REQUEST.as_bytes()[..end]), Answer::Incomplete);
        }
        let old = REQUEST.replace("chat, mqtt", "mqttv3.1").replace("/mqtt ", "/mqtt?a=b ");
        assert!(matches!(answer(old.as_bytes()), Answer::Accepted { response, .. }
            if response.contains("Protocol: mqttv3.1\r\n")));
    }

    /// [MQTT-6.0.0-3] Each thing that is missing or wrong has its answer, and a request that does not end has one, too.
    #[test]
    fn other_requests_are_refused() {
        for (from, to, status) in [
            ("GET", "POST", 400),
            ("HTTP/1.1", "HTTP/1.0", 400),
            ("HTTP/1.1", "MQTT/1.1", 400),
            ("/mqtt ", "/ ", 404),
            ("/mqtt ", "/mqttx ", 404),
            ("Upgrade: websocket\r\n", "", 426),
            ("Upgrade\r\n", "close\r\n", 426),
            ("Version: 13", "Version: 8", 426),
            ("Sec-WebSocket-Version: 13\r\n", "", 426),
            ("dGhlIHNhbXBsZSBub25jZQ==", "dGhl", 400),
            ("chat, mqtt", "chat", 400),
            ("Sec-WebSocket-Protocol: chat, mqtt\r\n", "", 400),
        ] {
            assert!(REQUEST.contains(from));
            match answer(REQUEST.replace(from, to).as_bytes()) {
                Answer::Refused(text) => assert!(text.starts_with(&format!("HTTP/1.1 {status} ")), "{text}"),
                other => panic!("{from} as {to}: {other:?}"),
            }
        }
        let endless = format!("GET /mqtt HTTP/1.1\r\nX: {}", "x".repeat(REQUEST_BYTES_MAX));
        assert!(matches!(answer(endless.as_bytes()), Answer::Refused(_)));
        assert!(matches!(answer(&[0x10, 13, 0, 4, b'M', b'Q']), Answer::Refused(_)));
    }
}
