//! What happens to clients, as lines of JSON in a file: written while the broker runs, whole when it has ended.

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;

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
    let settings = "[tenants.default]\nmqtt_31 = false\ntotal_transient_subscriptions_max = 1\n";
    let text = format!("{settings}[events]\nfile = '{}'\ndebug = true\n", events.display());
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
