//! What lies between a socket and the state machine on connections that are not plain TCP: TLS. It does no I/O: the
//! driver brings what the socket has delivered, and takes away what is to be sent.
//!
//! A plain connection has no transport, and costs nothing for it.

mod certificates;
mod identity;
mod tls;

#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::server::UnbufferedServerConnection;

pub(crate) use self::certificates::{TlsError, load};
use self::tls::{Stream, Tls};

/// Plaintext sealed at a time. What the kernel does not take of it is all that waits beside the state machine's own
/// unsent bytes.
const SEAL_BYTES_MAX: usize = 64 * 1024;

/// What is spoken beneath MQTT on a listener.
#[derive(Clone, Default)]
pub(crate) struct Protocol {
    /// TLS, and with which certificates.
    tls: Option<Arc<ServerConfig>>,
    /// The name in a client's certificate is its user name.
    identity_as_username: bool,
}

/// The connection cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Broken;

/// What lies between one connection's socket and the state machine. Lives on the core that serves it, and moves with
/// its socket.
pub(crate) struct Transport {
    tls: Tls,
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
    /// What a new connection of the listener begins with; None: it is plain.
    ///
    /// # Errors
    /// The library cannot begin one.
    pub(crate) fn begin(&self) -> Result<Option<Box<Transport>>, rustls::Error> {
        let Some(config) = &self.tls else { return Ok(None) };
        let connection = UnbufferedServerConnection::new(Arc::clone(config))?;
        Ok(Some(Box::new(Transport {
            tls: Tls::new(connection),
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
        let stream = self.tls.receive(bytes, plain, &mut self.wire)?;
        self.ended = stream == Stream::Ended;
        Ok(())
    }

    /// The user that a certificate has just proved the client to be.
    ///
    /// # Errors
    /// Clients need a name here, and it has shown none.
    pub(crate) fn next_user(&mut self) -> Result<Option<String>, Broken> {
        if self.named || self.tls.is_handshaking() {
            return Ok(None);
        }
        self.named = true;
        if self.identity_as_username { self.tls.client_name().ok_or(Broken).map(Some) } else { Ok(None) }
    }

    /// The next bytes may be work for a millisecond.
    pub(crate) fn is_handshaking(&self) -> bool {
        self.tls.is_handshaking()
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
            if taken == SEAL_BYTES_MAX || !self.tls.seal(piece, &mut self.wire)? {
                break;
            }
            taken += piece.len();
        }
        Ok(taken)
    }

    /// Says that nothing follows; once.
    pub(crate) fn finish(&mut self) {
        if !self.finished {
            self.finished = true;
            self.tls.finish(&mut self.wire);
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
