//! What strangers can cost the administration: connections have a number, and each request a time.

#[path = "support/http.rs"]
mod http;
mod support;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use support::{Broker, DEADLINE};

fn start(settings: &str) -> (Broker, SocketAddr) {
    let mut broker = Broker::start_after(settings, &["--admin", "127.0.0.1:0"]);
    let address = http::address(&mut broker);
    (broker, address)
}

fn say(address: SocketAddr, text: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).expect("somebody listens");
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.write_all(text.as_bytes()).unwrap();
    stream
}

/// All that comes until the end.
fn rest(mut stream: TcpStream) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("an end in time");
    text
}

/// What a connection that is kept is answered.
fn ask(stream: &mut TcpStream) -> String {
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("an answer");
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).expect("text");
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).expect("a length");
    let mut body = vec![0; length.parse().expect("a number")];
    stream.read_exact(&mut body).expect("a body");
    head
}

/// A body that does not come is not waited for longer than its setting says, whose name the answer has: 3 000 such
/// requests held 2.2 GB and 3 000 descriptors, for good. A head is not, either, nor a client that says nothing.
#[test]
fn slow_requests_end() {
    let (broker, admin) = start("export HERMOD__ADMIN__REQUEST_TIMEOUT_MS=300");
    let head = "POST /api/v1/bans HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n";
    let body = say(admin, &format!("{head}Content-Length: 1000000\r\n\r\n{{"));
    let (begun, silent) = (say(admin, "GET /metr"), say(admin, ""));
    let answer = rest(body);
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert!(answer.contains("too_slow") && answer.contains("admin.request_timeout_ms"), "{answer}");
    assert_eq!((rest(begun), rest(silent)), (String::new(), String::new()));
    let metrics = http::get(admin, "/metrics").body;
    assert!(metrics.contains("hermod_admin_limited_total{setting=\"request_timeout_ms\"} 3\n"), "{metrics}");
    assert!(metrics.contains("hermod_admin_connections 1\n"), "{metrics}");
    broker.stop();
}

/// A connection on which nothing more is asked is closed, and has met no limit; until then it may ask again.
#[test]
fn idle_connections_end() {
    let (broker, admin) = start("export HERMOD__ADMIN__REQUEST_TIMEOUT_MS=300");
    let mut kept = say(admin, "");
    assert!(ask(&mut kept).starts_with("HTTP/1.1 200 "));
    assert_eq!(rest(kept), "");
    let metrics = http::get(admin, "/metrics").body;
    assert!(metrics.contains("hermod_admin_limited_total{setting=\"request_timeout_ms\"} 0\n"), "{metrics}");
    broker.stop();
}

/// One connection more than there may be waits until another has gone, and that is said by the setting's name.
#[test]
fn connections_are_bounded() {
    let (mut broker, admin) = start("export HERMOD__ADMIN__CONNECTIONS_MAX=2");
    let mut kept = [say(admin, ""), say(admin, "")];
    for stream in &mut kept {
        assert!(ask(stream).starts_with("HTTP/1.1 200 "));
    }
    let further = say(admin, "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    broker.wait_for_log("admin.connections_max");
    let [first, mut second] = kept;
    drop(first);
    let metrics = rest(further);
    assert!(metrics.contains("hermod_admin_limited_total{setting=\"connections_max\"} 1\n"), "{metrics}");
    assert!(metrics.contains("hermod_admin_connections 2\n"), "{metrics}");
    assert!(ask(&mut second).starts_with("HTTP/1.1 200 "));
    broker.stop();
}
