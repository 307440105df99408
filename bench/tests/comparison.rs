//! `compare` as a user runs it, with two fakes in the place of brokers: every broker is started, run by
//! turns and ended again, and the rows come out.

use std::net::{TcpListener, TcpStream};
use std::process::Command;

use serde_json::Value;

const PROGRAM: &str = env!("CARGO_BIN_EXE_hermod-bench");

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port").port()
}

/// Two rounds of three brokers give three rows of two outcomes; the one that loses is named and makes
/// the exit code 2; nothing listens afterwards.
#[test]
fn brokers_are_compared_and_ended() {
    let (ours, theirs) = (free_port(), free_port());
    let json = std::env::temp_dir().join(format!("hermod-bench-comparison-{ours}.json"));
    let output = Command::new(PROGRAM)
        .args(["compare", "--scenario", "sat-p2p-qos1", "--rounds", "2"])
        .args(["--hermod", &format!("'{PROGRAM}' fake --port {ours}"), "--port", &ours.to_string()])
        .args(["--vs", &format!("'{PROGRAM}' fake --drop-every 10 --port {theirs}")])
        .args(["--vs-port", &theirs.to_string(), "--broker-cpus", "0", "--bench-cpus", "0"])
        .args(["--pairs", "2", "--messages", "100", "--drain", "2", "--json"])
        .arg(&json)
        .output()
        .expect("the comparison runs");
    let table = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{table}{errors}");
    let rows: Vec<&str> = table.lines().filter(|line| line.starts_with("| sat-p2p-qos1")).collect();
    assert_eq!(rows.len(), 3, "{table}");
    assert!(rows[0].contains("| none |") && rows[1].contains("| 40 lost |"), "{table}");
    let text = std::fs::read_to_string(&json).expect("the results are written");
    std::fs::remove_file(&json).expect("the results can be removed");
    let results: Value = serde_json::from_str(&text).expect("they are JSON");
    for row in results.as_array().expect("one element per row") {
        assert_eq!(row["outcomes"].as_array().map(Vec::len), Some(2), "{row}");
    }
    assert!([ours, theirs].iter().all(|port| TcpStream::connect(("127.0.0.1", *port)).is_err()));
}

/// A port that answers before the broker was started is refused: something else would be measured.
#[test]
fn a_taken_port_is_refused() {
    let other = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = other.local_addr().expect("its address").port().to_string();
    let output = Command::new(PROGRAM)
        .args(["compare", "--scenario", "sat-p2p", "--hermod", "true", "--port", &port])
        .output()
        .expect("the comparison runs");
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("is taken"));
}
