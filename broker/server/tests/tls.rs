//! TLS for real clients: certificates by name, clients with certificates, revoked ones, another certificate after
//! SIGHUP, handshakes that never end. On all cores, so that some clients move to another one with their TLS state.

#[path = "support/client.rs"]
mod client;
#[path = "support/http.rs"]
mod http;
mod support;

/// The library's client for MQTT 3.1.1.
mod library {
    pub use rumqttc::mqttbytes::QoS;
    pub use rumqttc::{AsyncClient, ConnAck, ConnectionError, Event, MqttOptions, Packet, Publish};
}

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, IsCa, Issuer, KeyIdMethod,
    KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber, date_time_ymd,
};
use rumqttc::{TlsConfiguration, Transport};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, HandshakeKind, RootCertStore, Stream};
use tempfile::TempDir;

use self::client::Client;
use self::library::{MqttOptions, QoS};
use self::support::{Broker, DEADLINE, without_rings};

/// An authority and what it has signed, in a folder that goes with the test.
struct Authority {
    folder: TempDir,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Authority {
        let folder = TempDir::new().expect("a folder");
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name.push(DnType::CommonName, "authority");
        let certificate = params.self_signed(&key).expect("a certificate");
        std::fs::write(folder.path().join("ca.pem"), certificate.pem()).expect("a folder to write to");
        Authority { folder, issuer: Issuer::new(params, key) }
    }

    fn path(&self, file: &str) -> String {
        self.folder.path().join(file).to_str().expect("UTF-8").to_owned()
    }

    /// Signs a certificate for `localhost` and other names; `NAME.pem` and `NAME.key`, and both in `NAME.both`.
    fn sign(&self, name: &str, also: &[&str], serial: u64) {
        let key = KeyPair::generate().expect("a key");
        let names = also.iter().map(|name| (*name).to_owned());
        let names: Vec<_> = ["localhost".to_owned()].into_iter().chain(names).collect();
        let mut params = CertificateParams::new(names).expect("good names");
        params.serial_number = Some(SerialNumber::from(serial));
        params.distinguished_name.push(DnType::CommonName, name);
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate").pem();
        let key = key.serialize_pem();
        std::fs::write(self.path(&format!("{name}.both")), certificate.clone() + &key).expect("written");
        std::fs::write(self.path(&format!("{name}.pem")), certificate).expect("written");
        std::fs::write(self.path(&format!("{name}.key")), key).expect("written");
    }

    /// A list of revoked certificates.
    fn revoke(&self, serial: u64) {
        let revoked = RevokedCertParams {
            serial_number: SerialNumber::from(serial),
            revocation_time: date_time_ymd(2024, 1, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(2024, 1, 1),
            next_update: date_time_ymd(2099, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: vec![revoked],
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let list = list.signed_by(&self.issuer).expect("a list").pem().expect("PEM");
        std::fs::write(self.path("revoked.pem"), list).expect("written");
    }

    /// A client's configuration, with a certificate if it has one.
    fn trust(&self, certificate: Option<&str>) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(self.path("ca.pem")).expect("PEM")).expect("a root");
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("there are some")
            .with_root_certificates(roots);
        let mut config = match certificate {
            None => builder.with_no_client_auth(),
            Some(name) => {
                let file = self.path(&format!("{name}.both"));
                let certificate = CertificateDer::from_pem_file(&file).expect("PEM");
                let key = PrivateKeyDer::from_pem_file(&file).expect("PEM");
                builder.with_client_auth_cert(vec![certificate], key).expect("they fit")
            }
        };
        config.alpn_protocols = vec![b"mqtt".to_vec()];
        Arc::new(config)
    }

    /// A broker with a listener of TLS, its certificate `server`, and `more` in its section of the configuration.
    fn serve(&self, more: &str, arguments: &[&str]) -> Broker {
        let config = format!(
            "[[listeners]]\nbind = 'tls://127.0.0.1:0'\ntls_cert = '{}'\ntls_key = '{}'\n{more}\n",
            self.path("server.pem"),
            self.path("server.key"),
        );
        std::fs::write(self.path("hermod.toml"), config).expect("written");
        Broker::start_as_configured(&self.path("hermod.toml"), arguments)
    }
}

fn options(broker: &Broker, id: &str, config: &Arc<ClientConfig>) -> MqttOptions {
    let mut options = MqttOptions::new(id, "localhost", broker.address().port());
    options.set_transport(Transport::Tls(TlsConfiguration::Rustls(Arc::clone(config))));
    options.set_max_packet_size(4 << 20, 4 << 20);
    options
}

/// A handshake, and a CONNECT behind it.
fn shake(broker: &Broker, config: &Arc<ClientConfig>, name: &str) -> std::io::Result<ClientConnection> {
    let mut connection =
        ClientConnection::new(Arc::clone(config), ServerName::try_from(name.to_owned()).expect("a name"))
            .expect("a configuration that works");
    let mut socket = TcpStream::connect(broker.address())?;
    socket.set_read_timeout(Some(DEADLINE))?;
    let mut stream = Stream::new(&mut connection, &mut socket);
    stream.write_all(&[0x10, 13, 0, 4, b'M', b'Q', b'T', b'T', 4, 2, 0, 0, 0, 1, b'c'])?;
    let mut connack = [0; 4];
    stream.read_exact(&mut connack)?;
    assert_eq!(connack, [0x20, 2, 0, 0]);
    stream.write_all(&[0xe0, 0])?;
    stream.conn.send_close_notify();
    stream.flush()?;
    // A clean end of the stream, which is an error without the other end's close_notify.
    assert_eq!(stream.read(&mut [0; 1])?, 0);
    Ok(connection)
}

async fn talk(options: impl Fn(&str) -> MqttOptions) {
    let mut subscriber = Client::connect(options("subscriber")).await;
    subscriber.subscribe("t/#", QoS::ExactlyOnce).await;
    for (index, qos) in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce].into_iter().enumerate() {
        let publisher = Client::connect(options(&format!("publisher-{index}"))).await;
        for length in [0, 10, 20_000, 2_000_000] {
            let payload = vec![b'a' + u8::try_from(index).expect("3"); length];
            publisher.requests.publish("t/x", qos, false, payload.clone()).await.expect("it runs");
            let message = subscriber.message().await;
            assert!(message.payload == payload, "{length} bytes");
        }
    }
}

/// Messages of all sizes, from clients at home on all cores, with io_uring and without.
#[tokio::test]
async fn messages_over_tls() {
    let authority = Authority::new();
    authority.sign("server", &[], 1);
    let trust = authority.trust(None);
    for broker in [authority.serve("", &[]), without_rings(|| authority.serve("", &[]))] {
        talk(|id| options(&broker, id, &trust)).await;
        broker.stop();
    }
}

/// [MQTT-4.2-1] The same in WebSockets, without TLS and with it.
#[tokio::test]
async fn messages_in_websockets() {
    let authority = Authority::new();
    authority.sign("server", &[], 1);
    let mut trust = ClientConfig::clone(&authority.trust(None));
    trust.alpn_protocols.clear();
    let trust = Arc::new(trust);
    for scheme in ["ws", "wss"] {
        let tls = [("--tls-cert", "server.pem"), ("--tls-key", "server.key")];
        let tls = tls.map(|(flag, file)| format!("{flag}={}", authority.path(file)));
        std::fs::write(
            authority.path("hermod.toml"),
            format!("[[listeners]]\nbind = '{scheme}://127.0.0.1:0'\n"),
        )
        .expect("written");
        let start = || {
            let arguments = tls.each_ref().map(String::as_str);
            Broker::start_as_configured(&authority.path("hermod.toml"), &arguments)
        };
        for broker in [start(), without_rings(start)] {
            let port = broker.address().port();
            let options = |id: &str| {
                let mut options = MqttOptions::new(id, format!("{scheme}://localhost:{port}/mqtt"), port);
                options.set_transport(match scheme {
                    "ws" => Transport::Ws,
                    _ => Transport::Wss(TlsConfiguration::Rustls(Arc::clone(&trust))),
                });
                options.set_max_packet_size(4 << 20, 4 << 20);
                options
            };
            talk(options).await;
            broker.stop();
        }
    }
}

/// Who needs a certificate is not let in without one, nor with one of a stranger or a revoked one, and the log says
/// which it was; the name in it is the user name, which the access list goes by.
#[tokio::test]
async fn clients_with_certificates() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    for (name, serial) in [("server", 1), ("ann", 2), ("bob", 3)] {
        authority.sign(name, &[], serial);
    }
    stranger.sign("ann", &[], 2);
    std::fs::copy(authority.path("ca.pem"), stranger.path("ca.pem")).expect("it knows whom to trust");
    authority.revoke(3);
    std::fs::write(authority.path("access"), "user ann\ntopic readwrite of/ann\n").expect("written");
    let more = format!(
        "tls_ca = '{}'\ntls_crl = '{}'\nuse_identity_as_username = true\n[auth]\nacl_file = '{}'",
        authority.path("ca.pem"),
        authority.path("revoked.pem"),
        authority.path("access"),
    );
    let mut broker = authority.serve(&more, &["--log=debug", "--admin=127.0.0.1:0"]);
    for config in [authority.trust(None), authority.trust(Some("bob")), stranger.trust(Some("ann"))] {
        assert!(shake(&broker, &config, "localhost").is_err());
    }
    broker.wait_for_log("doubt=\"certificate_revoked\"");
    broker.wait_for_log("doubt=\"certificate\"");
    let page = http::get(http::address(&mut broker), "/metrics").body;
    let of = |reason: &str| {
        let is_it = |line: &&str| {
            line.starts_with("hermod_clients_refused_total") && line.contains(&format!("reason=\"{reason}\""))
        };
        let counts = page
            .lines()
            .filter(is_it)
            .map(|line| line.rsplit(' ').next().and_then(|it| it.parse::<u64>().ok()));
        counts.sum::<Option<u64>>().expect("numbers")
    };
    assert_eq!([of("certificate"), of("certificate_revoked"), of("tls")], [2, 1, 0]);
    let mut ann = options(&broker, "a", &authority.trust(Some("ann")));
    ann.set_credentials("somebody else", "");
    let mut ann = Client::connect(ann).await;
    ann.subscribe("of/ann", QoS::AtLeastOnce).await;
    ann.requests.publish("of/else", QoS::AtLeastOnce, false, "no").await.expect("it runs");
    ann.requests.publish("of/ann", QoS::AtLeastOnce, false, "yes").await.expect("it runs");
    assert_eq!(ann.payload().await, "yes");
    broker.stop();
}

/// Each name has its certificate; who asks for none that there is gets the listener's own. Another one is shown after
/// SIGHUP, and who is connected stays. A session is resumed, but not across that.
#[tokio::test]
async fn certificates_by_name_and_reloaded() {
    let authority = Authority::new();
    for (name, also) in [("server", "a.example"), ("other", "b.example"), ("wild", "*.c.example")] {
        authority.sign(name, &[also], 1);
    }
    let more = format!(
        "[listeners.certificates]\n'B.example' = '{}'\n'*.c.example' = '{}'",
        authority.path("other.both"),
        authority.path("wild.both"),
    );
    let mut broker = authority.serve(&more, &[]);
    let trust = authority.trust(None);
    let mut stays = Client::connect(options(&broker, "stays", &trust)).await;
    stays.subscribe("t", QoS::AtLeastOnce).await;
    for name in ["localhost", "a.example", "b.example", "x.c.example"] {
        let connection = shake(&broker, &authority.trust(None), name).expect(name);
        assert_eq!(connection.alpn_protocol(), Some(b"mqtt".as_slice()));
        assert_eq!(connection.handshake_kind(), Some(HandshakeKind::Full));
    }
    assert!(shake(&broker, &trust, "y.x.c.example").is_err(), "no certificate is for it");
    assert_eq!(
        shake(&broker, &trust, "localhost").expect("let in").handshake_kind(),
        Some(HandshakeKind::Resumed)
    );
    authority.sign("server", &["new.example"], 2);
    assert!(shake(&broker, &authority.trust(None), "new.example").is_err());
    broker.signal("HUP");
    broker.wait_for_log("SIGHUP");
    shake(&broker, &authority.trust(None), "new.example").expect("the new certificate is shown");
    assert_eq!(
        shake(&broker, &trust, "localhost").expect("let in").handshake_kind(),
        Some(HandshakeKind::Full)
    );
    stays.requests.publish("t", QoS::AtLeastOnce, false, "still here").await.expect("it runs");
    assert_eq!(stays.payload().await, "still here");
    std::fs::write(authority.path("server.key"), "no key").expect("written");
    broker.signal("HUP");
    broker.wait_for_log("tls_key");
    shake(&broker, &authority.trust(None), "new.example").expect("a wrong file changes nothing");
    broker.stop();
}

/// A handshake that does not end is ended by the time to CONNECT, and so is one that has ended without a CONNECT; what
/// is no TLS is told so and closed.
#[test]
fn slow_and_foreign_handshakes() {
    let authority = Authority::new();
    authority.sign("server", &[], 1);
    let broker = authority.serve("", &["--connect-timeout-seconds=1"]);
    let until_closed = |bytes: &[u8]| {
        let mut socket = TcpStream::connect(broker.address()).expect("somebody listens");
        socket.set_read_timeout(Some(DEADLINE)).expect("a socket");
        socket.write_all(bytes).expect("it has room");
        let mut answer = Vec::new();
        match socket.read_to_end(&mut answer) {
            Ok(_) => {}
            Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
        }
        answer
    };
    until_closed(b"");
    until_closed(&[0x16, 3, 1]);
    let alert = until_closed(&[0x10, 13, 0, 4, b'M', b'Q', b'T', b'T', 4, 2, 0, 0, 0, 1, b'c']);
    assert!(alert.is_empty() || alert[0] == 0x15, "{alert:?}");

    let name = ServerName::try_from("localhost").expect("a name");
    let mut connection = ClientConnection::new(authority.trust(None), name).expect("a client");
    let mut socket = TcpStream::connect(broker.address()).expect("somebody listens");
    socket.set_read_timeout(Some(DEADLINE)).expect("a socket");
    while connection.is_handshaking() {
        connection.complete_io(&mut socket).expect("a handshake");
    }
    assert!(matches!(Stream::new(&mut connection, &mut socket).read(&mut [0; 1]), Ok(0) | Err(_)));
    shake(&broker, &authority.trust(None), "localhost").expect("others are served");
    broker.stop();
}

/// A listener without a certificate, and one that is to name clients by certificates it cannot check, do not start.
#[test]
fn files_that_are_missing() {
    let authority = Authority::new();
    authority.sign("server", &[], 1);
    let fails = |arguments: &[&str]| {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_hermod"))
            .args(arguments)
            .output()
            .expect("it starts");
        assert!(!output.status.success());
        String::from_utf8(output.stderr).expect("UTF-8")
    };
    let listen = "--listen=tls://127.0.0.1:0";
    assert!(fails(&[listen]).contains("listeners.0.tls_cert"));
    let missing = PathBuf::from(authority.path("missing"));
    let certificate = format!("--tls-cert={}", missing.display());
    assert!(fails(&[listen, &certificate, &certificate.replace("cert", "key")]).contains("missing"));
    let (certificate, key) = (authority.path("server.pem"), authority.path("server.key"));
    let arguments = [listen, &format!("--tls-cert={certificate}"), &format!("--tls-key={certificate}")];
    assert!(fails(&arguments).contains("listeners.0.tls_key"));
    std::fs::write(
        authority.path("hermod.toml"),
        format!(
            "[[listeners]]\nbind = 'tls://127.0.0.1:0'\ntls_cert = '{certificate}'\ntls_key = '{key}'\n\
             use_identity_as_username = true\n"
        ),
    )
    .expect("written");
    assert!(fails(&["--config", &authority.path("hermod.toml")]).contains("listeners.0.tls_ca"));
}
