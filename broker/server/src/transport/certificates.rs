//! What listeners with TLS show and ask for: certificates and keys, read from files at the start and again on SIGHUP.
//! Connections keep those that they began with.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig};

use super::Protocol;
use crate::admission::Limits;
use crate::configuration::{ClientCertificates, Listener};

/// Why a listener has no certificates.
#[derive(Debug)]
pub(crate) struct TlsError {
    /// Which listener, by index.
    listener: usize,
    key: &'static str,
    path: PathBuf,
    problem: Problem,
}

#[derive(Debug)]
enum Problem {
    Missing,
    /// Clients are to have the names of certificates that nobody could check.
    Nameless,
    /// Clients are to have the names of certificates that nobody sees.
    Unknowable,
    Read(pem::Error),
    /// The file holds none of what it should.
    Empty,
    Refused(String),
}

impl std::error::Error for TlsError {}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let TlsError { listener, key, path, problem } = self;
        write!(f, "listeners.{listener}.{key}: ")?;
        match problem {
            Problem::Missing => f.write_str("a listener with TLS needs this file (--tls-cert, --tls-key)"),
            Problem::Nameless => f.write_str("use_identity_as_username needs this file"),
            Problem::Unknowable => f.write_str("needs TLS, or a proxy_from that says who its clients are"),
            Problem::Read(error) => write!(f, "{}: {error}", path.display()),
            Problem::Empty => write!(f, "{}: there is none in it, in PEM", path.display()),
            Problem::Refused(why) => write!(f, "{}: {why}", path.display()),
        }
    }
}

/// What is spoken on each listener, by index.
pub(crate) fn load(listeners: &[Listener]) -> Result<Arc<[Protocol]>, TlsError> {
    listeners.iter().enumerate().map(|(index, listener)| protocol(index, listener)).collect()
}

fn protocol(index: usize, listener: &Listener) -> Result<Protocol, TlsError> {
    let tls = if listener.bind.scheme.is_encrypted() {
        server(listener).map(|config| Some(Arc::new(config)))
    } else {
        known_without_tls(listener).map(|()| None)
    };
    let tls = tls.map_err(|(key, path, problem)| TlsError { listener: index, key, path, problem })?;
    let websocket = listener.bind.scheme.is_websocket();
    Ok(Protocol {
        tls,
        websocket,
        identity_as_username: listener.use_identity_as_username,
        proxies: listener.proxy_from.0.as_slice().into(),
        limits: Limits {
            connections_max: listener.connections_max,
            connects_per_second_max: listener.connects_per_second_max,
            handshakes_max: listener.handshakes_max,
        },
    })
}

/// The key, the file, and what is wrong.
type Fault = (&'static str, PathBuf, Problem);

/// Without TLS of its own, a listener knows what certificates say only from the proxies that end it.
fn known_without_tls(listener: &Listener) -> Result<(), Fault> {
    if listener.use_identity_as_username && listener.proxy_from.0.is_empty() {
        return Err(("use_identity_as_username", PathBuf::new(), Problem::Unknowable));
    }
    Ok(())
}

fn server(listener: &Listener) -> Result<ServerConfig, Fault> {
    let provider = Arc::new(ring::default_provider());
    let certificate = named(listener.tls_cert.path(), "tls_cert")?;
    let names = Names {
        default: certified(certificate, named(listener.tls_key.path(), "tls_key")?, "tls_cert", &provider)?,
        by_name: listener
            .certificates
            .iter()
            .map(|(name, path)| {
                Ok((name.to_ascii_lowercase(), certified(path, path, "certificates", &provider)?))
            })
            .collect::<Result<_, Fault>>()?,
    };
    let refused = |key, path: &Path| {
        let path = path.to_owned();
        move |error: String| (key, path, Problem::Refused(error))
    };
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| refused("tls_cert", certificate)(error.to_string()))?;
    let builder = match listener.tls_ca.path() {
        None if listener.use_identity_as_username => {
            return Err(("tls_ca", PathBuf::new(), Problem::Nameless));
        }
        None => builder.with_no_client_auth(),
        Some(authority) => builder.with_client_cert_verifier(verifier(listener, authority, &provider)?),
    };
    let mut config = builder.with_cert_resolver(Arc::new(names));
    let protocol = if listener.bind.scheme.is_websocket() { "http/1.1" } else { "mqtt" };
    config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
    // Sessions are resumed from what the client keeps, sealed under a key that changes with each reading of the
    // files: so that one that was begun under others is begun anew.
    config.ticketer =
        ring::Ticketer::new().map_err(|error| refused("tls_cert", certificate)(error.to_string()))?;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 1;
    Ok(config)
}

fn verifier(
    listener: &Listener,
    authority: &Path,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, Fault> {
    let refused = |error: String| ("tls_ca", authority.to_owned(), Problem::Refused(error));
    let mut roots = RootCertStore::empty();
    for certificate in read::<CertificateDer<'static>>(authority, "tls_ca")? {
        roots.add(certificate).map_err(|error| refused(error.to_string()))?;
    }
    let mut builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
    if let Some(path) = listener.tls_crl.path() {
        // As OpenSSL's CRL_CHECK: of the client's certificate, by a list that has to be there.
        let lists = read::<CertificateRevocationListDer<'static>>(path, "tls_crl")?;
        builder = builder.with_crls(lists).only_check_end_entity_revocation();
    }
    if listener.tls_client_certificates == ClientCertificates::Optional {
        builder = builder.allow_unauthenticated();
    }
    builder.build().map_err(|error| refused(error.to_string()))
}

fn named<'a>(path: Option<&'a Path>, key: &'static str) -> Result<&'a Path, Fault> {
    path.ok_or_else(|| (key, PathBuf::new(), Problem::Missing))
}

fn read<T: PemObject>(path: &Path, key: &'static str) -> Result<Vec<T>, Fault> {
    let fault = |problem| (key, path.to_owned(), problem);
    let items = T::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let items = items.map_err(|error| fault(Problem::Read(error)))?;
    if items.is_empty() { Err(fault(Problem::Empty)) } else { Ok(items) }
}

/// A chain of certificates, leaf first, with the leaf's key.
fn certified(
    chain: &Path,
    key_path: &Path,
    key: &'static str,
    provider: &CryptoProvider,
) -> Result<Arc<CertifiedKey>, Fault> {
    let certificates = read::<CertificateDer<'static>>(chain, key)?;
    let key_name = if key == "tls_cert" { "tls_key" } else { key };
    let private = PrivateKeyDer::from_pem_file(key_path)
        .map_err(|error| (key_name, key_path.to_owned(), Problem::Read(error)))?;
    let certified = CertifiedKey::from_der(certificates, private, provider);
    let certified =
        certified.map_err(|error| (key_name, key_path.to_owned(), Problem::Refused(error.to_string())))?;
    Ok(Arc::new(certified))
}

/// Which certificate is shown to whom: by the name that the client asks for.
#[derive(Debug)]
struct Names {
    default: Arc<CertifiedKey>,
    /// In lower case; `*.` for one level of any name.
    by_name: BTreeMap<String, Arc<CertifiedKey>>,
}

impl Names {
    fn find(&self, name: Option<&str>) -> &Arc<CertifiedKey> {
        let found = name.filter(|_| !self.by_name.is_empty()).and_then(|name| {
            let name = name.to_ascii_lowercase();
            let any = || format!("*.{}", name.split_once('.').map_or("", |(_, parent)| parent));
            self.by_name.get(&name).or_else(|| self.by_name.get(&any()))
        });
        found.unwrap_or(&self.default)
    }
}

thread_local! {
    /// The name in the last greeting that this thread has read. The library shows it to who resolves certificates and,
    /// of connections without buffers, to nobody else.
    static NAME: Cell<Option<String>> = const { Cell::new(None) };
}

/// The name that a client has asked for in the handshake message that this thread has just read.
pub(super) fn name_asked_for() -> Option<String> {
    NAME.take()
}

impl ResolvesServerCert for Names {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        NAME.set(hello.server_name().map(str::to_ascii_lowercase));
        Some(Arc::clone(self.find(hello.server_name())))
    }
}
