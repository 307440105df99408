//! TLS on one connection, as a state machine over memory: records in, plaintext out, and the other way round. It
//! keeps no buffer but for a record that has come in part.

use broker_core::access::Doubt;
use rustls::pki_types::CertificateDer;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, EncryptError, UnbufferedStatus, WriteTraffic};
use rustls::{CertificateError, Error};

use super::identity::common_name;
use super::{Broken, certificates};

/// Room for what encryption adds to up to 16 KiB: header, content type, tag and nonce.
const RECORD_OVERHEAD: usize = 64;

/// Bytes of plaintext in the largest record.
const RECORD_BYTES_MAX: usize = 16 * 1024;

/// The state of one connection. Lives on the core that serves it, and moves with its socket.
pub(super) struct Tls {
    connection: UnbufferedServerConnection,
    /// A record, or a handshake message of several, that has not come whole. No longer than the library allows for
    /// either, 64 KiB at most: what claims to be longer is an error.
    kept: Vec<u8>,
    handshaking: bool,
    /// Under which name the client has asked for us, in lower case, until somebody wants to know.
    name: Option<String>,
    /// The library has refused what came, and why.
    broken: Option<Doubt>,
}

/// What of the stream there will be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stream {
    /// More.
    Open,
    /// The other end has said that it is through.
    Ended,
}

impl Tls {
    pub(super) fn new(connection: UnbufferedServerConnection) -> Tls {
        Tls { connection, kept: Vec::new(), handshaking: true, name: None, broken: None }
    }

    /// The keys are not agreed on yet.
    pub(super) fn is_handshaking(&self) -> bool {
        self.handshaking
    }

    /// Why what came was refused.
    pub(super) fn doubt(&self) -> Option<Doubt> {
        self.broken
    }

    /// The name under which the client has just asked for us.
    pub(super) fn next_name(&mut self) -> Option<String> {
        self.name.take()
    }

    /// Bytes kept of what has come in part.
    #[cfg(test)]
    pub(super) fn kept_bytes(&self) -> usize {
        self.kept.capacity()
    }

    /// The common name of the certificate that the client has proved to be its own.
    pub(super) fn client_name(&self) -> Option<String> {
        self.connection.peer_certificates()?.first().and_then(|leaf: &CertificateDer<'_>| common_name(leaf))
    }

    /// Takes what has come; appends what it says to `plain`, and what TLS itself has to answer to `wire`, an alert
    /// if it is broken.
    pub(super) fn receive(
        &mut self,
        bytes: &mut [u8],
        plain: &mut Vec<u8>,
        wire: &mut Vec<u8>,
    ) -> Result<Stream, Broken> {
        let stream = if self.kept.is_empty() {
            let (used, stream) = self.process(bytes, plain, wire)?;
            self.kept = bytes[used..].to_vec();
            stream
        } else {
            let mut kept = std::mem::take(&mut self.kept);
            kept.extend_from_slice(bytes);
            let (used, stream) = self.process(&mut kept, plain, wire)?;
            self.kept = kept[used..].to_vec(); // no larger than what it holds
            stream
        };
        self.handshaking = self.connection.is_handshaking();
        Ok(stream)
    }

    /// Works through the records in `bytes`; returns how many of them are done with.
    fn process(
        &mut self,
        bytes: &mut [u8],
        plain: &mut Vec<u8>,
        wire: &mut Vec<u8>,
    ) -> Result<(usize, Stream), Broken> {
        let mut at = 0;
        loop {
            let UnbufferedStatus { mut discard, state } =
                self.connection.process_tls_records(&mut bytes[at..]);
            if self.handshaking {
                self.name = certificates::name_asked_for().or(self.name.take());
            }
            let mut stream = None;
            match state {
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    while let Some(record) = traffic.next_record() {
                        let record = record.map_err(|_| Broken)?;
                        discard += record.discard;
                        plain.extend_from_slice(record.payload);
                    }
                }
                Ok(ConnectionState::EncodeTlsData(mut data)) => {
                    append(wire, 0, |room| data.encode(room).map_err(Shortage::from));
                }
                Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
                Ok(ConnectionState::BlockedHandshake | ConnectionState::WriteTraffic(_)) => {
                    stream = Some(Stream::Open);
                }
                Ok(ConnectionState::PeerClosed | ConnectionState::Closed) => stream = Some(Stream::Ended),
                // There is no early data unless it is asked for.
                Ok(_) => return Err(Broken),
                Err(error) => {
                    self.broken = Some(doubt_of(&error));
                    self.alert(&mut bytes[at + discard..], wire);
                    return Err(Broken);
                }
            }
            at += discard;
            if let Some(stream) = stream {
                return Ok((at, stream));
            }
        }
    }

    /// Appends what the library has to say about an error.
    fn alert(&mut self, bytes: &mut [u8], wire: &mut Vec<u8>) {
        // No call more than there is to be said: the library panics when it is to go on with what it has refused.
        while self.connection.wants_write() {
            match self.connection.process_tls_records(bytes).state {
                Ok(ConnectionState::EncodeTlsData(mut data)) => {
                    append(wire, 0, |room| data.encode(room).map_err(Shortage::from));
                }
                _ => break,
            }
        }
    }

    /// Appends `plain` to `wire` as records. False if there are no keys for it yet.
    pub(super) fn seal(&mut self, plain: &[u8], wire: &mut Vec<u8>) -> Result<bool, Broken> {
        let records = plain.len().div_ceil(RECORD_BYTES_MAX);
        let guess = plain.len() + records * RECORD_OVERHEAD;
        self.write(wire, guess, |traffic, room| traffic.encrypt(plain, room))
    }

    /// Appends the end of our side of the stream to `wire`, if there are keys for it.
    #[expect(clippy::redundant_closure_for_method_calls, reason = "the method is of one lifetime only")]
    pub(super) fn finish(&mut self, wire: &mut Vec<u8>) {
        // Without it nothing is lost but the word that nothing is.
        let _ = self.write(wire, RECORD_OVERHEAD, |traffic, room| traffic.queue_close_notify(room));
    }

    fn write(
        &mut self,
        wire: &mut Vec<u8>,
        guess: usize,
        mut write: impl FnMut(&mut Traffic<'_>, &mut [u8]) -> Result<usize, EncryptError>,
    ) -> Result<bool, Broken> {
        if self.broken.is_some() {
            return Err(Broken);
        }
        loop {
            let UnbufferedStatus { discard, state } = self.connection.process_tls_records(&mut self.kept);
            let written = match state {
                Ok(ConnectionState::WriteTraffic(mut traffic)) => {
                    Some(append(wire, guess, |room| write(&mut traffic, room).map_err(Shortage::from)))
                }
                Ok(ConnectionState::EncodeTlsData(mut data)) => {
                    append(wire, 0, |room| data.encode(room).map_err(Shortage::from));
                    None
                }
                Ok(ConnectionState::TransmitTlsData(data)) => {
                    data.done();
                    None
                }
                Ok(ConnectionState::PeerClosed) => None,
                Ok(ConnectionState::BlockedHandshake) => return Ok(false),
                Ok(_) | Err(_) => return Err(Broken),
            };
            self.kept.drain(..discard);
            match written {
                Some(true) => return Ok(true),
                Some(false) => return Err(Broken),
                None => {}
            }
        }
    }
}

/// What is wrong with a client's handshake.
fn doubt_of(error: &Error) -> Doubt {
    match error {
        Error::InvalidCertificate(CertificateError::Revoked) => Doubt::CertificateRevoked,
        Error::InvalidCertificate(_) | Error::NoCertificatesPresented => Doubt::Certificate,
        Error::AlertReceived(_) => Doubt::TlsAlert,
        _ => Doubt::Tls,
    }
}

type Traffic<'c> = WriteTraffic<'c, rustls::server::ServerConnectionData>;

/// Why nothing was written.
enum Shortage {
    /// So many bytes are needed.
    Room(usize),
    /// It will never work again.
    Keys,
}

impl From<EncodeError> for Shortage {
    fn from(error: EncodeError) -> Shortage {
        match error {
            EncodeError::InsufficientSize(size) => Shortage::Room(size.required_size),
            EncodeError::AlreadyEncoded => Shortage::Keys,
        }
    }
}

impl From<EncryptError> for Shortage {
    fn from(error: EncryptError) -> Shortage {
        match error {
            EncryptError::InsufficientSize(size) => Shortage::Room(size.required_size),
            EncryptError::EncryptExhausted => Shortage::Keys,
        }
    }
}

/// Appends what `write` writes into the room it is given, first `guess` bytes and then as many as it says it needs.
/// False if it cannot.
fn append(
    wire: &mut Vec<u8>,
    guess: usize,
    mut write: impl FnMut(&mut [u8]) -> Result<usize, Shortage>,
) -> bool {
    let begin = wire.len();
    let mut room = guess;
    loop {
        wire.resize(begin + room, 0);
        match write(&mut wire[begin..]) {
            Ok(written) => {
                wire.truncate(begin + written);
                return true;
            }
            Err(Shortage::Room(needed)) if needed > room => room = needed,
            Err(_) => {
                wire.truncate(begin);
                return false;
            }
        }
    }
}
