//! What is special about single listeners, for clients over plain sockets: paths, proxies, limits, and the tenant that
//! goes with a name.

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;

use tempfile::TempDir;

use self::support::{Broker, DEADLINE};

/// A CONNECT of MQTT 3.1.1 with a clean session under this id.
fn connect(id: &str) -> Vec<u8> {
    let id_bytes = u8::try_from(id.len()).expect("a short id");
    [&[0x10, 12 + id_bytes, 0, 4], b"MQTT".as_slice(), &[4, 2, 0, 0, 0, id_bytes], id.as_bytes()].concat()
}

const CONNACK: [u8; 4] = [0x20, 2, 0, 0];

const SUBSCRIBE: [u8; 8] = [0x82, 6, 0, 1, 0, 1, b'a', 0];

const SUBACK: [u8; 5] = [0x90, 3, 0, 1, 0];

const PUBLISH: [u8; 6] = [0x30, 4, 0, 1, b'a', b'x'];

/// Sends and expects exactly this answer.
fn exchange(stream: &mut (impl Read + Write), packet: &[u8], expected: &[u8]) {
    stream.write_all(packet).expect("it is open");
    let mut answer = vec![0; expected.len()];
    stream.read_exact(&mut answer).expect("it answers");
    assert_eq!(answer, expected);
}

/// Expects that the broker closes without a word.
fn expect_closed(mut stream: TcpStream) {
    match stream.read(&mut [0; 8]) {
        Ok(0) => {}
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {}
        other => panic!("closed without a word, not {other:?}"),
    }
}

/// A broker with these listeners behind one on a free port, and the folder of its files.
fn start(listeners: &str) -> (Broker, TempDir) {
    let folder = TempDir::new().expect("a folder");
    let file = folder.path().join("hermod.toml");
    let first = "[log]\nfilter = \"debug\"\n[auth]\nallow_anonymous = true\n[[listeners]]\nbind = \"tcp://127.0.0.1:0\"\n";
    let text = format!("{first}{}", listeners.replace("FOLDER", folder.path().to_str().expect("UTF-8")));
    std::fs::write(&file, text).expect("the folder can be written to");
    let broker = Broker::start_as_configured(file.to_str().expect("UTF-8"), &["--cores", "0"]);
    (broker, folder)
}

fn open(broker: &Broker) -> TcpStream {
    let stream = TcpStream::connect(broker.address()).expect("it listens");
    stream.set_read_timeout(Some(DEADLINE)).expect("a timeout");
    stream
}

/// A client at a path and one at an address meet; the path goes with the broker.
#[test]
fn sockets_in_the_file_system() {
    let (broker, folder) = start("[[listeners]]\nbind = \"unix://FOLDER/hermod.sock\"\n");
    let path = folder.path().join("hermod.sock");
    let mut near = UnixStream::connect(&path).expect("it listens");
    near.set_read_timeout(Some(DEADLINE)).expect("a timeout");
    exchange(&mut near, &connect("near"), &CONNACK);
    exchange(&mut near, &SUBSCRIBE, &SUBACK);
    let mut far = open(&broker);
    exchange(&mut far, &connect("far"), &CONNACK);
    far.write_all(&PUBLISH).expect("it is open");
    exchange(&mut near, &[], &PUBLISH);
    broker.stop();
    assert!(!path.exists(), "nothing is left behind");
}

/// A proxy that is trusted says where its client is, and has to; from another address nobody can say so.
#[test]
fn proxies_are_believed_if_they_are_known() {
    let header = b"PROXY TCP4 192.0.2.7 10.0.0.1 4660 1883\r\n";
    let (mut broker, _folder) = start("proxy_from = \"127.0.0.0/8\"\n");
    let mut relayed = open(&broker);
    exchange(&mut relayed, &[header.as_slice(), &connect("relayed")].concat(), &CONNACK);
    assert!(broker.wait_for_log("relayed").contains("192.0.2.7:4660"));
    exchange(&mut relayed, &[0xc0, 0], &[0xd0, 0]);
    let mut bare = open(&broker);
    bare.write_all(&connect("bare")).expect("it is open");
    expect_closed(bare);
    broker.signal("TERM");
    broker.wait();
    broker.wait_for_log("listeners.0.proxy_from: 1 times");

    let (broker, _folder) = start("proxy_from = \"192.0.2.0/24\"\n");
    let mut stranger = open(&broker);
    stranger.write_all(header).expect("it is open");
    expect_closed(stranger);
    exchange(&mut open(&broker), &connect("direct"), &CONNACK);
    broker.stop();
}

/// One connection too many is closed, and there is room again when another has gone.
#[test]
fn connections_of_a_listener() {
    let (broker, _folder) = start("connections_max = 2\n");
    let (mut first, mut second) = (open(&broker), open(&broker));
    exchange(&mut first, &connect("first"), &CONNACK);
    exchange(&mut second, &connect("second"), &CONNACK);
    expect_closed(open(&broker));
    first.write_all(&[0xe0, 0]).expect("it is open");
    expect_closed(first);
    // The broker learns in its own time that the first is gone.
    loop {
        let mut third = open(&broker);
        third.write_all(&connect("third")).expect("the kernel takes it");
        let mut answer = [0; 4];
        if third.read_exact(&mut answer).is_ok() {
            assert_eq!(answer, CONNACK);
            break;
        }
    }
    broker.stop();
}

/// While one client has not said who it is, the next one waits, until its time to CONNECT is over; that time is the
/// listener's own.
#[test]
fn handshakes_and_their_time() {
    let (mut broker, _folder) = start("handshakes_max = 1\nconnect_timeout_ms = 300\n");
    let silent = open(&broker);
    let mut next = open(&broker);
    exchange(&mut next, &connect("next"), &CONNACK);
    broker.wait_for_log("connect_timeout");
    expect_closed(silent);
    broker.signal("TERM");
    broker.wait();
    broker.wait_for_log("listeners.0.handshakes_max: ");
}

/// Who comes too fast waits, and is let in all the same.
#[test]
fn rate_of_a_listener() {
    let (mut broker, _folder) = start("connects_per_second_max = 4\n");
    let mut clients: Vec<_> = (0..8).map(|_| open(&broker)).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        client.set_read_timeout(Some(DEADLINE)).expect("a timeout");
        exchange(client, &connect(&format!("client-{number}")), &CONNACK);
    }
    broker.signal("TERM");
    broker.wait();
    broker.wait_for_log("listeners.0.connects_per_second_max: ");
}

/// A proxy that serves everybody is as good as a public address: strangers need a word.
#[test]
fn proxies_open_doors() {
    let folder = TempDir::new().expect("a folder");
    let file = folder.path().join("hermod.toml");
    std::fs::write(&file, "[[listeners]]\nbind = \"tcp://127.0.0.1:0\"\nproxy_from = \"127.0.0.1\"\n")
        .expect("the folder can be written to");
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_hermod"))
        .args(["--config", file.to_str().expect("UTF-8")])
        .output()
        .expect("the binary starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("allow_anonymous"), "{said}");
}

/// A listener that can learn nobody's name from a certificate does not promise to: it let everybody in without one.
#[test]
fn names_that_no_certificate_says() {
    let folder = TempDir::new().expect("a folder");
    let file = folder.path().join("hermod.toml");
    let listener = "[[listeners]]\nbind = \"tcp://127.0.0.1:0\"\nuse_identity_as_username = true\n";
    std::fs::write(&file, listener).expect("the folder can be written to");
    for flags in [&["--test-config"][..], &["--data", "none"]] {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_hermod"))
            .args(["--config", file.to_str().expect("UTF-8")])
            .args(flags)
            .output()
            .expect("the binary starts");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains("listeners.0.use_identity_as_username"), "{said}");
    }
}

/// The user name that a proxy has read in a client's certificate is the client's: what the access list lets that
/// user do, and nobody else.
#[test]
fn users_by_proxy() {
    let folder = TempDir::new().expect("a folder");
    let path = |name: &str| folder.path().join(name).to_str().expect("UTF-8").to_owned();
    std::fs::write(path("acl"), "user dev-7\ntopic readwrite a\n").expect("the folder can be written to");
    let text = format!(
        "[auth]\nallow_anonymous = true\nacl_file = '{}'\n[[listeners]]\nbind = \"tcp://127.0.0.1:0\"\n\
         proxy_from = \"127.0.0.1\"\nuse_identity_as_username = true\n",
        path("acl")
    );
    std::fs::write(path("hermod.toml"), text).expect("the folder can be written to");
    let broker = Broker::start_as_configured(&path("hermod.toml"), &["--cores", "0"]);
    let header = [
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x1c".as_slice(),
        &[192, 0, 2, 7, 10, 0, 0, 1, 0x12, 0x34, 0x07, 0x5b],
        b"\x20\0\x0d\x07\0\0\0\0\x22\0\x05dev-7",
    ];
    let mut named = open(&broker);
    exchange(&mut named, &[&header.concat(), connect("one").as_slice()].concat(), &CONNACK);
    exchange(&mut named, &SUBSCRIBE, &SUBACK);
    let mut nameless = open(&broker);
    nameless.write_all(b"PROXY TCP4 192.0.2.7 10.0.0.1 4660 1883\r\n").expect("it is open");
    expect_closed(nameless);
    broker.stop();
}

/// The name in a proxy's header says the tenant: what is published in one is not heard in another.
#[test]
fn tenants_by_name() {
    let (broker, _folder) = start("proxy_from = \"127.0.0.1\"\n[listeners.tenants]\n\"a.example\" = \"a\"\n");
    let named = |name: &str, id: &str| {
        let addresses = [192, 0, 2, 7, 10, 0, 0, 1, 0x12, 0x34, 0x07, 0x5b];
        let length = u8::try_from(12 + 3 + name.len()).expect("short");
        let name_bytes = u8::try_from(name.len()).expect("short");
        let signature = b"\r\n\r\n\0\r\nQUIT\n";
        let mut stream = open(&broker);
        let header =
            [signature, &[0x21, 0x11, 0, length][..], &addresses, &[2, 0, name_bytes], name.as_bytes()];
        exchange(&mut stream, &[header.concat(), connect(id)].concat(), &CONNACK);
        exchange(&mut stream, &SUBSCRIBE, &SUBACK);
        stream
    };
    // The same client id is another client in another tenant.
    let (mut ours, mut others) = (named("A.example", "one"), named("b.example", "one"));
    exchange(&mut ours, &PUBLISH, &PUBLISH);
    exchange(&mut others, &[0xc0, 0], &[0xd0, 0]);
    broker.stop();
}
