//! What lies between a socket and the state machine on connections that are not plain TCP: TLS, WebSocket, or
//! WebSocket over TLS. It does no I/O: the driver brings what the socket has delivered, and takes away what is to be
//! sent.
//!
//! A plain connection has no transport, and costs nothing for it.

mod certificates;
mod identity;
mod proxy;
mod tls;
mod upgrade;
mod websocket;

#[cfg(test)]
mod tests;

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use broker_core::access::Doubt;
use broker_core::network::Network;

use rustls::ServerConfig;
use rustls::server::UnbufferedServerConnection;

pub(crate) use self::certificates::{TlsError, load};
use self::proxy::Origin;
use self::tls::{Stream, Tls};
use self::websocket::WebSocket;
use crate::admission::Limits;

/// Plaintext sealed at a time. What the kernel does not take of it is all that waits beside the state machine's own
/// unsent bytes.
const SEAL_BYTES_MAX: usize = 64 * 1024;

/// What is spoken beneath MQTT on a listener.
#[derive(Clone, Default)]
pub(crate) struct Protocol {
    /// TLS, and with which certificates.
    tls: Option<Arc<ServerConfig>>,
    /// WebSocket, over that.
    websocket: bool,
    /// The name in a client's certificate is its user name.
    identity_as_username: bool,
    /// Proxies that say whose connection they hand on; without an address, as on a path, whoever comes is one.
    proxies: Arc<[Network]>,
    /// How many may come, and how fast.
    pub(crate) limits: Limits,
}

/// The connection cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Broken;

/// What lies between one connection's socket and the state machine. Lives on the core that serves it, and moves with
/// its socket.
pub(crate) struct Transport {
    /// What has come of the header that a proxy owes.
    proxy: Option<Vec<u8>>,
    /// What it says, until somebody asks.
    origin: Option<Origin>,
    tls: Option<Box<Tls>>,
    websocket: Option<WebSocket>,
    identity_as_username: bool,
    /// The client has been named to the state machine, or need not be.
    named: bool,
    ended: bool,
    finished: bool,
    /// Bytes for the socket; a buffer only while there are any.
    wire: Vec<u8>,
    /// So many of them are sent.
    sent: usize,
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transport").field("wire", &self.wire.len()).finish_non_exhaustive()
    }
}

impl Protocol {
    /// What a new connection of the listener from this address begins with; None: it is plain.
    ///
    /// # Errors
    /// The library cannot begin one.
    pub(crate) fn begin(&self, peer: Option<SocketAddr>) -> Result<Option<Box<Transport>>, rustls::Error> {
        let is_proxy = !self.proxies.is_empty()
            && peer.is_none_or(|peer| self.proxies.iter().any(|network| network.contains(peer.ip())));
        if self.tls.is_none() && !self.websocket && !is_proxy && !self.identity_as_username {
            return Ok(None);
        }
        let connect = |config| UnbufferedServerConnection::new(Arc::clone(config));
        let connection = self.tls.as_ref().map(connect).transpose()?;
        Ok(Some(Box::new(Transport {
            proxy: is_proxy.then(Vec::new),
            origin: None,
            tls: connection.map(|connection| Box::new(Tls::new(connection))),
            websocket: self.websocket.then(WebSocket::new),
            identity_as_username: self.identity_as_username,
            named: false,
            ended: false,
            finished: false,
            wire: Vec::new(),
            sent: 0,
        })))
    }
}

impl Transport {
    /// Takes what the socket has delivered, and appends what it says to `plain`; that holds also for what came before
    /// an error. There may be something to send afterwards.
    ///
    /// # Errors
    /// It is no such transport, or a broken one.
    pub(crate) fn receive(&mut self, bytes: &mut [u8], plain: &mut Vec<u8>) -> Result<(), Broken> {
        if self.ended {
            return Ok(());
        }
        if let Some(header) = &mut self.proxy {
            header.extend_from_slice(bytes);
            let Some((origin, used)) = proxy::parse(header)? else { return Ok(()) };
            let mut bytes = header.split_off(used);
            self.proxy = None;
            self.origin = Some(origin);
            return self.receive(&mut bytes, plain);
        }
        let from = plain.len();
        let received = match &mut self.tls {
            None => {
                plain.extend_from_slice(bytes);
                Ok(Stream::Open)
            }
            Some(tls) => tls.receive(bytes, plain, &mut self.wire),
        };
        let framed = self.receive_frames(plain, from);
        self.ended = [received?, framed?].contains(&Stream::Ended);
        Ok(())
    }

    /// What came out of TLS, or out of the socket, may still be in frames.
    fn receive_frames(&mut self, plain: &mut Vec<u8>, from: usize) -> Result<Stream, Broken> {
        let Some(websocket) = &mut self.websocket else { return Ok(Stream::Open) };
        let Some(tls) = &mut self.tls else { return websocket.receive(plain, from, &mut self.wire) };
        let mut answer = Vec::new();
        let stream = websocket.receive(plain, from, &mut answer);
        if !answer.is_empty() {
            tls.seal(&answer, &mut self.wire)?;
        }
        stream
    }

    /// Where a proxy has just said that the client is.
    pub(crate) fn next_origin(&mut self) -> Option<Origin> {
        self.origin.take()
    }

    /// Why the client is not to be let in, now that what it sent is refused.
    pub(crate) fn doubt(&self) -> Doubt {
        match (&self.proxy, &self.tls) {
            (Some(_), _) => Doubt::Proxy,
            (None, Some(tls)) => match tls.doubt() {
                Some(doubt) => doubt,
                // It has shown a certificate, or need not.
                None if self.identity_as_username && tls.client_name().is_none() => Doubt::CertificateName,
                None if self.websocket.is_some() && !tls.is_handshaking() => Doubt::WebSocket,
                None => Doubt::Tls,
            },
            (None, None) => Doubt::WebSocket,
        }
    }

    /// A proxy owes a header.
    pub(crate) fn awaits_proxy(&self) -> bool {
        self.proxy.is_some()
    }

    /// The name, in lower case, under which the client has just asked for us.
    pub(crate) fn next_name(&mut self) -> Option<String> {
        self.tls.as_mut()?.next_name()
    }

    /// Nothing lies between socket and state machine any more.
    pub(crate) fn is_through(&self) -> bool {
        self.proxy.is_none() && self.tls.is_none() && self.websocket.is_none()
    }

    /// The user that a certificate has just proved the client to be, to us or to the proxy that ends its TLS.
    ///
    /// # Errors
    /// Clients need a name here, and it has shown none.
    pub(crate) fn next_user(&mut self) -> Result<Option<String>, Broken> {
        if self.named || self.awaits_proxy() || self.is_handshaking() {
            return Ok(None);
        }
        self.named = true;
        if !self.identity_as_username {
            return Ok(None);
        }
        let user = match &self.tls {
            Some(tls) => tls.client_name(),
            None => self.origin.as_mut().and_then(|origin| origin.user.take()),
        };
        user.ok_or(Broken).map(Some)
    }

    /// The next bytes may be work for a millisecond.
    pub(crate) fn is_handshaking(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.is_handshaking())
    }

    /// The other end sends nothing more.
    pub(crate) fn has_ended(&self) -> bool {
        self.ended
    }

    /// Makes the first of the state machine's unsent bytes ready for the socket; returns how many.
    ///
    /// # Errors
    /// There are no keys left to encrypt with.
    pub(crate) fn send<'a>(&mut self, unsent: impl Iterator<Item = &'a [u8]>) -> Result<usize, Broken> {
        let mut taken = 0;
        for piece in unsent {
            let piece = &piece[..piece.len().min(SEAL_BYTES_MAX - taken)];
            if taken == SEAL_BYTES_MAX || !self.send_piece(piece)? {
                break;
            }
            taken += piece.len();
        }
        Ok(taken)
    }

    /// False if nothing can be sent yet.
    fn send_piece(&mut self, piece: &[u8]) -> Result<bool, Broken> {
        match (&mut self.websocket, &mut self.tls) {
            (Some(websocket), _) if !websocket.is_open() => Ok(false),
            (Some(_), None) => {
                WebSocket::send(piece, &mut self.wire);
                Ok(true)
            }
            (Some(_), Some(tls)) => {
                // Header and payload in one record.
                let mut frame = Vec::with_capacity(piece.len() + websocket::HEADER_BYTES_MAX);
                WebSocket::send(piece, &mut frame);
                tls.seal(&frame, &mut self.wire)
            }
            (None, Some(tls)) => tls.seal(piece, &mut self.wire),
            // The proxy's header is to come.
            (None, None) => Ok(false),
        }
    }

    /// Says that nothing follows; once.
    pub(crate) fn finish(&mut self) {
        if std::mem::replace(&mut self.finished, true) {
            return;
        }
        let mut frame = Vec::new();
        if let Some(websocket) = &mut self.websocket {
            websocket.finish(&mut frame);
        }
        match &mut self.tls {
            None => self.wire.append(&mut frame),
            Some(tls) => {
                // Without keys there is nobody to tell.
                let _ = tls.seal(&frame, &mut self.wire);
                tls.finish(&mut self.wire);
            }
        }
    }

    /// What is ready for the socket.
    pub(crate) fn wire(&self) -> &[u8] {
        &self.wire[self.sent..]
    }

    /// The socket took so many of them.
    pub(crate) fn advance(&mut self, bytes: usize) {
        self.sent += bytes;
        assert!(self.sent <= self.wire.len(), "more sent than there was");
    }

    /// Borrows a buffer, if it has none.
    pub(crate) fn borrow(&mut self, spare: &mut Vec<u8>) {
        if self.wire.capacity() == 0 {
            std::mem::swap(&mut self.wire, spare);
        }
    }

    /// Gives its buffer away, if there is nothing in it.
    pub(crate) fn give_back(&mut self, spare: &mut Vec<u8>) {
        if self.wire().is_empty() {
            self.sent = 0;
            let mut wire = std::mem::take(&mut self.wire);
            wire.clear();
            if wire.capacity() > spare.capacity() {
                *spare = wire;
            }
        }
    }
}
