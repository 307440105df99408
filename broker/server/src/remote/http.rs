//! One request per connection to the administration of a node, over plain HTTP/1.1: it is on this machine, or behind
//! whoever ends its TLS.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

/// How long the node may take to take or give anything.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Bytes of an answer's head, and of its fields.
const HEAD_FIELDS_MAX: usize = 64;

/// Where a node is administered, and what is shown there.
pub(super) struct Client {
    address: String,
    token: Option<String>,
}

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum HttpError {
    /// The address is none.
    NoAddress,
    /// The connection.
    Io(io::Error),
    /// What came is not HTTP.
    NoHttp,
}

impl fmt::Display for HttpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HttpError::NoAddress => f.write_str("the name has no address"),
            HttpError::Io(error) => error.fmt(f),
            HttpError::NoHttp => f.write_str("what answers there does not speak HTTP"),
        }
    }
}

impl Client {
    pub(super) fn new(address: &str, token: Option<String>) -> Client {
        Client { address: address.trim_start_matches("http://").trim_end_matches('/').to_owned(), token }
    }

    pub(super) fn address(&self) -> &str {
        &self.address
    }

    /// The status and the body of an answer.
    pub(super) fn request(&self, method: &str, path: &str, body: &str) -> Result<(u16, String), HttpError> {
        let answer = self.exchange(method, path, body)?;
        let mut fields = [httparse::EMPTY_HEADER; HEAD_FIELDS_MAX];
        let mut head = httparse::Response::new(&mut fields);
        match head.parse(&answer) {
            Ok(httparse::Status::Complete(begin)) => {
                let body = String::from_utf8_lossy(&answer[begin..]).into_owned();
                Ok((head.code.ok_or(HttpError::NoHttp)?, body))
            }
            _ => Err(HttpError::NoHttp),
        }
    }

    fn exchange(&self, method: &str, path: &str, body: &str) -> Result<Vec<u8>, HttpError> {
        let mut addresses = self.address.to_socket_addrs().map_err(HttpError::Io)?;
        let address = addresses.next().ok_or(HttpError::NoAddress)?;
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n", self.address);
        if let Some(token) = &self.token {
            head += &format!("Authorization: Bearer {token}\r\n");
        }
        if !body.is_empty() {
            head += &format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len());
        }
        let mut answer = Vec::new();
        let exchange = |answer: &mut Vec<u8>| -> io::Result<()> {
            let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
            stream.set_read_timeout(Some(TIMEOUT))?;
            stream.set_write_timeout(Some(TIMEOUT))?;
            stream.write_all(format!("{head}\r\n{body}").as_bytes())?;
            // Every answer has its length and the connection its end.
            stream.read_to_end(answer).map(drop)
        };
        exchange(&mut answer).map_err(HttpError::Io)?;
        Ok(answer)
    }
}

/// A text as a part of a path or query [RFC 3986, section 2.3].
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::new();
    for byte in text.bytes() {
        match byte {
            byte if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) => escaped.push(char::from(byte)),
            byte => escaped += &format!("%{byte:02X}"),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What would end a part of a path or query is written as something else.
    #[test]
    fn parts_are_escaped() {
        assert_eq!(escape("a/b c&d=é#?+"), "a%2Fb%20c%26d%3D%C3%A9%23%3F%2B");
        assert_eq!(Client::new("http://a:1/", None).address(), "a:1");
    }
}
