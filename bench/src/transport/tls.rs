//! TLS over memory: records in, plaintext out, and the other way round.

use std::io::{self, Read as _, Write as _};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{self, CryptoProvider};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, ClientConnection, Connection, DigitallySignedStruct, Error, ServerConfig, ServerConnection,
    SignatureScheme,
};

/// One end of one connection.
#[derive(Debug)]
pub(super) struct Tls {
    connection: Connection,
}

impl Tls {
    /// The end that begins.
    pub(super) fn client(config: &Arc<ClientConfig>) -> Tls {
        let name = ServerName::try_from("localhost").expect("a name");
        let connection = ClientConnection::new(Arc::clone(config), name).expect("a usable configuration");
        Tls::new(connection.into())
    }

    /// The end that is called.
    pub(super) fn server(config: &Arc<ServerConfig>) -> Tls {
        let connection = ServerConnection::new(Arc::clone(config)).expect("a usable configuration");
        Tls::new(connection.into())
    }

    fn new(mut connection: Connection) -> Tls {
        // What is written is taken away at once, or waits for the handshake: the sender bounds it.
        connection.set_buffer_limit(None);
        Tls { connection }
    }

    /// Takes what has come, and appends what it says.
    pub(super) fn receive(&mut self, mut bytes: &[u8], plain: &mut Vec<u8>) -> io::Result<()> {
        while !bytes.is_empty() {
            self.connection.read_tls(&mut bytes)?;
            let state = self.connection.process_new_packets().map_err(broken)?;
            let (from, more) = (plain.len(), state.plaintext_bytes_to_read());
            plain.resize(from + more, 0);
            self.connection.reader().read_exact(&mut plain[from..])?;
            if state.peer_has_closed() {
                return Err(io::ErrorKind::ConnectionAborted.into());
            }
        }
        Ok(())
    }

    /// Seals bytes, now or when the keys are agreed on.
    pub(super) fn write(&mut self, bytes: &[u8]) {
        self.connection.writer().write_all(bytes).expect("there is no limit");
    }

    /// Appends the records that are to be sent.
    pub(super) fn take(&mut self, wire: &mut Vec<u8>) {
        while self.connection.wants_write() {
            self.connection.write_tls(wire).expect("memory takes it");
        }
    }
}

fn broken(error: Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

/// For all connections of a run. Sessions are not resumed: each handshake costs the broker the same.
pub(super) fn client_config() -> Arc<ClientConfig> {
    let provider = Arc::new(crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider));
    let mut config = builder
        .with_safe_default_protocol_versions()
        .expect("the provider has them")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody(provider)))
        .with_no_client_auth();
    config.resumption = rustls::client::Resumption::disabled();
    Arc::new(config)
}

/// With a certificate that nobody has signed.
pub(super) fn server_config() -> Arc<ServerConfig> {
    let made =
        rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate can be made");
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()).into();
    let builder = ServerConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()));
    let config = builder
        .with_safe_default_protocol_versions()
        .expect("the provider has them")
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .expect("key and certificate belong together");
    Arc::new(config)
}

/// Takes any certificate: the broker under test is on this machine, and was started by whoever measures it. The
/// signatures of the handshake are checked, as a client's work.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        crypto::verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        crypto::verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
