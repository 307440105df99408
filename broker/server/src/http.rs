//! A client of one HTTP server, for threads that may wait: one connection that is kept, one request at a time, a
//! deadline over all of it. It knows no redirections: what it is pointed at has to answer.

use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use broker_core::time::Mono;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

use crate::clock::Clock;

/// Bytes of an answer, its head included.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

const HEADERS_MAX: usize = 64;

/// Whom to ask: `http://HOST[:PORT]/PATH`, or https.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Url {
    secure: bool,
    host: String,
    port: u16,
    path: String,
}

impl Url {
    /// Whether it is asked over TLS.
    pub(crate) fn is_secure(&self) -> bool {
        self.secure
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Url { secure, host, port, path } = self;
        let scheme = if *secure { "https" } else { "http" };
        match host.contains(':') {
            true => write!(f, "{scheme}://[{host}]:{port}{path}"),
            false => write!(f, "{scheme}://{host}:{port}{path}"),
        }
    }
}

/// A text is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NoUrl;

impl fmt::Display for NoUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("must be http://HOST:PORT/PATH or https://HOST:PORT/PATH")
    }
}

impl std::str::FromStr for Url {
    type Err = NoUrl;

    fn from_str(text: &str) -> Result<Url, NoUrl> {
        let (secure, rest) = match (text.strip_prefix("http://"), text.strip_prefix("https://")) {
            (Some(rest), _) => (false, rest),
            (_, Some(rest)) => (true, rest),
            _ => return Err(NoUrl),
        };
        let (place, path) =
            rest.split_once('/').map_or((rest, "/".to_owned()), |(place, path)| (place, format!("/{path}")));
        // An IPv6 address stands in brackets.
        let (host, port) = match place.strip_prefix('[').and_then(|place| place.split_once(']')) {
            Some((host, "")) => (host, None),
            Some((host, port)) => (host, Some(port.strip_prefix(':').ok_or(NoUrl)?)),
            None => place.split_once(':').map_or((place, None), |(host, port)| (host, Some(port))),
        };
        let port = port.map_or(Ok(if secure { 443 } else { 80 }), |port| port.parse().map_err(|_| NoUrl))?;
        let printable = text.bytes().all(|byte| byte.is_ascii_graphic());
        if host.is_empty() || !printable || place.contains('@') {
            return Err(NoUrl);
        }
        Ok(Url { secure, host: host.to_owned(), port, path })
    }
}

/// One connection to a server, if there is one.
#[derive(Default)]
pub(crate) struct Connection(Option<Stream>);

enum Stream {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

/// Where the deadline of a request comes from.
#[derive(Clone, Copy)]
pub(crate) struct Patience {
    pub(crate) clock: Clock,
    pub(crate) until: Mono,
}

impl Patience {
    fn left(self) -> io::Result<Duration> {
        let left = self.until.since(self.clock.monotonic());
        if left.is_zero() { Err(ErrorKind::TimedOut.into()) } else { Ok(left) }
    }
}

impl Connection {
    /// Asks, and answers with the status and the body.
    pub(crate) fn post(
        &mut self,
        url: &Url,
        tls: Option<&Arc<ClientConfig>>,
        body: &[u8],
        patience: Patience,
    ) -> io::Result<(u16, Vec<u8>)> {
        let mut request = Vec::with_capacity(256 + body.len());
        let host = if url.host.contains(':') { format!("[{}]", url.host) } else { url.host.clone() };
        write!(
            request,
            "POST {} HTTP/1.1\r\nHost: {host}:{}\r\nContent-Type: application/json\r\nAccept: application/json\r\n\
             Content-Length: {}\r\n\r\n",
            url.path,
            url.port,
            body.len()
        )?;
        request.extend_from_slice(body);
        if let Some(mut kept) = self.0.take() {
            // The server may have closed it meanwhile: then it has not taken the request either.
            match exchange(&mut kept, &request, patience) {
                Ok(answer) => return Ok(self.keep(kept, answer)),
                Err(error) if error.kind() == ErrorKind::TimedOut => return Err(error),
                Err(_) => {}
            }
        }
        let mut stream = open(url, tls, patience)?;
        let answer = exchange(&mut stream, &request, patience)?;
        Ok(self.keep(stream, answer))
    }

    fn keep(&mut self, stream: Stream, answer: Answer) -> (u16, Vec<u8>) {
        self.0 = answer.keeps.then_some(stream);
        (answer.status, answer.body)
    }
}

fn open(url: &Url, tls: Option<&Arc<ClientConfig>>, patience: Patience) -> io::Result<Stream> {
    let mut last = io::Error::from(ErrorKind::NotFound);
    for address in (url.host.as_str(), url.port).to_socket_addrs()? {
        let socket = match TcpStream::connect_timeout(&address, patience.left()?) {
            Ok(socket) => socket,
            Err(error) => {
                last = error;
                continue;
            }
        };
        socket.set_nodelay(true)?;
        if !url.secure {
            return Ok(Stream::Plain(socket));
        }
        let config = tls.ok_or(ErrorKind::Unsupported)?;
        let name = ServerName::try_from(url.host.clone()).map_err(|_| ErrorKind::InvalidInput)?;
        let connection = ClientConnection::new(Arc::clone(config), name).map_err(io::Error::other)?;
        return Ok(Stream::Tls(Box::new(StreamOwned::new(connection, socket))));
    }
    Err(last)
}

struct Answer {
    status: u16,
    body: Vec<u8>,
    keeps: bool,
}

fn exchange(stream: &mut Stream, request: &[u8], patience: Patience) -> io::Result<Answer> {
    stream.wait_at_most(patience.left()?)?;
    stream.write_all(request)?;
    stream.flush()?;
    let mut bytes = Vec::new();
    let mut ended = false;
    loop {
        if let Some(answer) = parse(&bytes, ended)? {
            return Ok(answer);
        }
        if ended {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        stream.wait_at_most(patience.left()?)?;
        let mut piece = [0; 4096];
        match stream.read(&mut piece) {
            Ok(0) => ended = true,
            Ok(count) => bytes.extend_from_slice(&piece[..count]),
            // What a socket's own timeout looks like.
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Err(ErrorKind::TimedOut.into()),
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => ended = true,
            Err(error) => return Err(error),
        }
        if bytes.len() > ANSWER_BYTES_MAX {
            return Err(io::Error::new(ErrorKind::InvalidData, "the answer is too large"));
        }
    }
}

/// The answer, once it is whole.
fn parse(bytes: &[u8], ended: bool) -> io::Result<Option<Answer>> {
    let invalid = |_| io::Error::from(ErrorKind::InvalidData);
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut response = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(head) = response.parse(bytes).map_err(invalid)? else { return Ok(None) };
    let value = |name: &str| {
        let header = response.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
        header.map(|header| String::from_utf8_lossy(header.value).to_ascii_lowercase())
    };
    let rest = &bytes[head..];
    let status = response.code.unwrap_or_default();
    let keeps = response.version == Some(1) && value("connection").is_none_or(|value| value != "close");
    let chunked = value("transfer-encoding").is_some_and(|value| value.contains("chunked"));
    let length = value("content-length").map(|length| length.trim().parse::<usize>()).transpose();
    let length = length.map_err(|_| ErrorKind::InvalidData)?;
    let (body, keeps) = if chunked {
        (unchunk(rest).map_err(|()| ErrorKind::InvalidData)?, keeps)
    } else if let Some(length) = length {
        (rest.get(..length).map(<[u8]>::to_vec), keeps)
    } else if status == 204 {
        (Some(Vec::new()), keeps)
    } else {
        (ended.then(|| rest.to_vec()), false)
    };
    Ok(body.map(|body| Answer { status, body, keeps }))
}

/// A body that came in chunks; None: there is more to come.
fn unchunk(mut bytes: &[u8]) -> Result<Option<Vec<u8>>, ()> {
    let mut body = Vec::new();
    loop {
        match httparse::parse_chunk_size(bytes).map_err(|_| ())? {
            httparse::Status::Partial => return Ok(None),
            httparse::Status::Complete((at, size)) => {
                let size = usize::try_from(size).map_err(|_| ())?;
                let Some(rest) = at.checked_add(size).and_then(|end| bytes.get(end..)) else {
                    return if size > ANSWER_BYTES_MAX { Err(()) } else { Ok(None) };
                };
                body.extend_from_slice(&bytes[at..at + size]);
                match rest {
                    [b'\r', b'\n', rest @ ..] if size > 0 => bytes = rest,
                    // Trailers are not looked at; what follows them belongs to nobody.
                    [b'\r', b'\n', ..] => return Ok(Some(body)),
                    [] | [b'\r'] => return Ok(None),
                    _ if size == 0 => return Ok(rest.ends_with(b"\r\n\r\n").then_some(body)),
                    _ => return Err(()),
                }
            }
        }
    }
}

impl Stream {
    fn wait_at_most(&self, timeout: Duration) -> io::Result<()> {
        let socket = match self {
            Stream::Plain(socket) => socket,
            Stream::Tls(stream) => &stream.sock,
        };
        socket.set_read_timeout(Some(timeout))?;
        socket.set_write_timeout(Some(timeout))
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Plain(socket) => socket.read(buffer),
            Stream::Tls(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Plain(socket) => socket.write(bytes),
            Stream::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Stream::Plain(socket) => socket.flush(),
            Stream::Tls(stream) => stream.flush(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Addresses are read with and without port and path, and nothing that hides something.
    #[test]
    fn urls() {
        let url = |secure, host: &str, port, path: &str| {
            Ok(Url { secure, host: host.to_owned(), port, path: path.to_owned() })
        };
        for (text, expected) in [
            ("http://a", url(false, "a", 80, "/")),
            ("https://a.example/b/c?d=e", url(true, "a.example", 443, "/b/c?d=e")),
            ("http://127.0.0.1:8080/auth", url(false, "127.0.0.1", 8080, "/auth")),
            ("http://[::1]:8080/", url(false, "::1", 8080, "/")),
            ("ftp://a", Err(NoUrl)),
            ("http://", Err(NoUrl)),
            ("http://user:secret@a/", Err(NoUrl)),
            ("http://a:x/", Err(NoUrl)),
            ("http://a/b c", Err(NoUrl)),
            ("http://a/\r\nX: y", Err(NoUrl)),
        ] {
            assert_eq!(text.parse(), expected, "{text}");
        }
    }

    fn parsed(text: &str, ended: bool) -> Option<(u16, String, bool)> {
        let answer = parse(text.as_bytes(), ended).unwrap()?;
        Some((answer.status, String::from_utf8(answer.body).unwrap(), answer.keeps))
    }

    /// A body has its length, chunks, or the end of the connection for its end; until then there is no answer.
    #[test]
    fn answers() {
        for (text, body, keeps) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", "hello", true),
            ("HTTP/1.1 200 OK\r\nconnection: Close\r\ncontent-length: 0\r\n\r\n", "", false),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\n\r\n",
                "hello",
                true,
            ),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nA: b\r\n\r\n", "", true),
        ] {
            assert_eq!(parsed(text, false), Some((200, body.to_owned(), keeps)), "{text}");
            for end in 0..text.len() {
                // A chunked body without trailers is whole before its last line's end.
                let early = text.contains("chunked") && end + 2 >= text.len();
                assert!(early || parsed(&text[..end], false).is_none(), "{end} of {text}");
            }
        }
        let endless = "HTTP/1.0 500 X\r\n\r\nabc";
        assert_eq!(parsed(endless, false), None);
        assert_eq!(parsed(endless, true), Some((500, "abc".to_owned(), false)));
        for broken in [
            "hello",
            "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffff\r\n",
        ] {
            assert!(parse(broken.as_bytes(), false).is_err(), "{broken}");
        }
    }
}
