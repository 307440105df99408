//! What happens to clients: as lines of JSON in a file, whole when the broker has ended; to a service, and to the
//! tenant's own subscribers.

mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};

use serde_json::Value;
use tempfile::TempDir;

use self::support::{Broker, DEADLINE};

/// Sends a packet and expects exactly this answer.
fn exchange(stream: &mut TcpStream, packet: &[u8], expected: &[u8]) {
    stream.write_all(packet).expect("it is open");
    let mut answer = vec![0; expected.len()];
    stream.read_exact(&mut answer).expect("it answers");
    assert_eq!(answer, expected);
}

fn connect(broker: &Broker, version: u8, code: u8) -> TcpStream {
    let mut stream = TcpStream::connect(broker.address()).expect("it listens");
    stream.set_read_timeout(Some(DEADLINE)).expect("a timeout");
    let connect = [0x10, 13, 0, 4, b'M', b'Q', b'T', b'T', version, 2, 0, 0, 0, 1, b'a'];
    exchange(&mut stream, &connect, &[0x20, 2, 0, code]);
    stream
}

/// A client that comes, subscribes to what it may and to what is too much, and goes; another that is refused.
#[test]
fn a_client_and_its_events() {
    let folder = TempDir::new().expect("a folder");
    let (file, events) = (folder.path().join("hermod.toml"), folder.path().join("events.jsonl"));
    let settings =
        "[tenants.default]\nevents = 'debug'\nmqtt_31 = false\ntotal_transient_subscriptions_max = 1\n";
    let text = format!("{settings}[events]\nfile = '{}'\n", events.display());
    std::fs::write(&file, text).expect("the folder can be written to");
    let broker = Broker::start(&["--config", file.to_str().expect("UTF-8")]);
    let mut client = connect(&broker, 4, 0);
    exchange(&mut client, &[0x82, 6, 0, 1, 0, 1, b'a', 0], &[0x90, 3, 0, 1, 0]);
    exchange(&mut client, &[0x82, 6, 0, 2, 0, 1, b'b', 0], &[0x90, 3, 0, 2, 0x80]);
    client.write_all(&[0xe0, 0]).expect("it is open");
    assert_eq!(client.read(&mut [0]).expect("an orderly end"), 0);
    let old = [&[0x10, 15, 0, 6], b"MQIsdp".as_slice(), &[3, 2, 0, 0, 0, 1, b'b']].concat();
    let mut refused = TcpStream::connect(broker.address()).expect("it listens");
    exchange(&mut refused, &old, &[0x20, 2, 0, 1]);
    broker.stop();

    let text = std::fs::read_to_string(&events).expect("it was written");
    let lines: Vec<Value> =
        text.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect();
    let mut types: Vec<_> = lines.iter().map(|line| line["type"].as_str().expect("a type")).collect();
    // Two clients may be on two cores.
    let at = types.iter().position(|kind| *kind == "UNACCEPTED_PROTOCOL_VER").expect("it was refused");
    types.remove(at);
    types.retain(|kind| *kind != "OUT_OF_TENANT_RESOURCE");
    let expected = [
        "CLIENT_CONNECTED",
        "MQTT_SESSION_START",
        "SUB_ACKED",
        "SUB_ACTION_DISALLOW",
        "SUB_ACKED",
        "BY_CLIENT",
        "MQTT_SESSION_STOP",
    ];
    assert_eq!(types, expected);
    let denied = lines.iter().find(|line| line["type"] == "SUB_ACTION_DISALLOW").expect("it is there");
    assert_eq!((&denied["client_id"], &denied["tenant"]), (&"a".into(), &"default".into()));
    assert_eq!(denied["reason_code"], 0x97);
    let limits: Vec<_> = lines.iter().filter(|line| line["type"] == "OUT_OF_TENANT_RESOURCE").collect();
    let names: Vec<_> = limits.iter().map(|line| line["event"].as_str().expect("a setting")).collect();
    assert!(names.contains(&"tenant.total_transient_subscriptions_max"), "{names:?}");
    assert!(names.contains(&"tenant.mqtt_31"), "{names:?}");
}

/// One request to a service: its body, which is answered with this status.
fn take_request(listener: &TcpListener, status: u16) -> Value {
    let (stream, _) = listener.accept().expect("somebody comes");
    stream.set_read_timeout(Some(DEADLINE)).expect("a timeout");
    let mut reader = BufReader::new(stream);
    let (mut line, mut length) = (String::new(), 0);
    while line != "\r\n" {
        line.clear();
        reader.read_line(&mut line).expect("a head");
        if let Some(value) = line.strip_prefix("Content-Length:") {
            length = value.trim().parse().expect("a length");
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).expect("a body");
    let answer = format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    reader.get_mut().write_all(answer.as_bytes()).expect("it listens");
    serde_json::from_slice(&body).expect("JSON")
}

/// A broker that tells this service, with these settings of its only tenant.
fn telling(folder: &TempDir, listener: &TcpListener, tenant: &str) -> Broker {
    let (file, address) = (folder.path().join("hermod.toml"), listener.local_addr().expect("it is bound"));
    let events = format!("[events]\nwebhook_url = 'http://{address}/events'\nwebhook_batch_max = 1\n");
    std::fs::write(&file, format!("[tenants.default]\n{tenant}\n{events}")).expect("it can be written to");
    Broker::start(&["--config", file.to_str().expect("UTF-8")])
}

/// A service is told what happens, and told again what it has not taken.
#[test]
fn a_service_is_told() {
    let folder = TempDir::new().expect("a folder");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let broker = telling(&folder, &listener, "events_types = 'CLIENT_CONNECTED'");
    let _client = connect(&broker, 4, 0);
    let refused = take_request(&listener, 503);
    let taken = take_request(&listener, 204);
    assert_eq!(refused, taken);
    let events = taken.as_array().expect("a list");
    assert_eq!(events.len(), 1);
    assert_eq!((&events[0]["type"], &events[0]["client_id"]), (&"CLIENT_CONNECTED".into(), &"a".into()));
    broker.stop();
}

/// A tenant's subscriber is told what happens to its tenant's clients, once, and nothing of what it is told.
#[test]
fn subscribers_are_told() {
    let folder = TempDir::new().expect("a folder");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let tenant = "events = 'debug'\nevents_sinks = 'topics'";
    let broker = telling(&folder, &listener, tenant);
    let mut client = connect(&broker, 4, 0);
    let filter = b"$SYS/events/PING_REQ";
    let subscribe = [&[0x82, 25, 0, 1, 0, 20], filter.as_slice(), &[0]].concat();
    exchange(&mut client, &subscribe, &[0x90, 3, 0, 1, 0]);
    exchange(&mut client, &[0xc0, 0], &[0xd0, 0]);
    let mut head = [0; 25];
    client.read_exact(&mut head).expect("a message");
    assert_eq!((head[0], &head[5..]), (0x30, filter.as_slice()));
    // Two bytes say how long it is.
    let length = usize::from(head[1] & 0x7f) + 128 * usize::from(head[2]);
    let mut payload = vec![0; length - 2 - filter.len()];
    client.read_exact(&mut payload).expect("all of it");
    let event: Value = serde_json::from_slice(&payload).expect("JSON");
    assert_eq!((&event["type"], &event["client_id"]), (&"PING_REQ".into(), &"a".into()));
    // Nothing stands between that and the next answer.
    exchange(&mut client, &[0x82, 6, 0, 2, 0, 1, b'b', 0], &[0x90, 3, 0, 2, 0]);
    broker.stop();
}
