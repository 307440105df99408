//! The harness against its own fake broker, both as processes: every scenario's shape arrives whole,
//! and each fault the fake commits on purpose is found by the detector made for it.
//!
//! Runs are bounded by message counts; nothing here asserts on time.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

const PROGRAM: &str = env!("CARGO_BIN_EXE_hermod-bench");

/// A fake broker on a port of its own; ended when dropped.
struct Fake {
    child: Child,
    port: String,
}

impl Fake {
    fn start(options: &[&str]) -> Fake {
        let mut child = Command::new(PROGRAM)
            .args(["fake", "--port", "0"])
            .args(options)
            .stdout(Stdio::piped())
            .spawn()
            .expect("the fake starts");
        let mut line = String::new();
        let output = child.stdout.take().expect("its output is piped");
        BufReader::new(output).read_line(&mut line).expect("it says where it listens");
        let port = line.trim().rsplit(':').next().expect("a port").to_owned();
        Fake { child, port }
    }

    /// Runs a scenario against it and returns the outcome; whether it was clean is the exit code.
    fn run(&self, scenario: &str, options: &[&str]) -> (Value, bool) {
        let output = Command::new(PROGRAM)
            .args(["run", scenario, "--port", &self.port, "--json", "-", "--duration", "60"])
            .args(options)
            .output()
            .expect("the harness runs");
        let text = String::from_utf8_lossy(&output.stdout);
        let errors = String::from_utf8_lossy(&output.stderr);
        let outcome = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}{errors}"));
        (outcome, output.status.success())
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn count(outcome: &Value, path: &str) -> u64 {
    outcome.pointer(path).and_then(Value::as_u64).unwrap_or_else(|| panic!("{path} is missing in {outcome}"))
}

/// Every shape, at every QoS and in both versions: all that was sent arrives once and in order.
#[test]
fn clean_runs_are_clean() {
    let fake = Fake::start(&[]);
    let small = ["--messages", "300", "--payload", "16"];
    let runs: [(&str, &[&str], u64); 9] = [
        ("sat-p2p", &["--pairs", "5"], 1_500),
        ("sat-p2p-qos1", &["--pairs", "5", "--mqtt", "5"], 1_500),
        ("sat-p2p-qos2", &["--pairs", "5"], 1_500),
        ("sat-fanout", &["--subscribers", "20", "--window", "4"], 6_000),
        ("sat-shared-qos1", &["--publishers", "6", "--mqtt", "5"], 1_800),
        ("sat-wildcard", &["--pairs", "5", "--topics", "1000"], 1_500),
        ("sat-unique-topics", &["--pairs", "5"], 1_500),
        ("latency-20k-qos1", &["--pairs", "5", "--threads", "2"], 1_500),
        ("retained-set", &["--publishers", "4", "--topics", "40"], 0),
    ];
    for (scenario, options, delivered) in runs {
        let (outcome, clean) = fake.run(scenario, &[&small, options].concat());
        assert!(clean, "{scenario}: {outcome}");
        assert_eq!(count(&outcome, "/delivered"), delivered, "{scenario}: {outcome}");
        assert!(count(&outcome, "/sent") >= 300, "{scenario}: {outcome}");
    }
}

/// The same over TLS, WebSocket and both: all arrives, and a fault is still the fault it is.
#[test]
fn transports_carry_a_run() {
    for transport in ["tls", "ws", "wss"] {
        let small = ["--transport", transport, "--messages", "300", "--pairs", "5"];
        let fake = Fake::start(&["--transport", transport]);
        for (scenario, payload) in [("sat-p2p", "16"), ("sat-p2p-qos2", "200"), ("latency-20k-qos1", "70000")]
        {
            let (outcome, clean) = fake.run(scenario, &[&small[..], &["--payload", payload]].concat());
            assert!(clean, "{scenario}: {outcome}");
            assert_eq!(count(&outcome, "/delivered"), 1_500, "{scenario}: {outcome}");
        }
        let fake = Fake::start(&["--transport", transport, "--dup-every", "50"]);
        let (outcome, clean) = fake.run("sat-p2p-qos1", &small);
        assert!(!clean, "a duplicate is not clean");
        assert_eq!(count(&outcome, "/faults/duplicates"), 30, "{outcome}");
    }
}

/// A client of one transport gets nowhere on another.
#[test]
fn transports_do_not_mix() {
    let fake = Fake::start(&["--transport", "tls"]);
    let arguments = ["run", "sat-p2p", "--pairs", "2", "--transport", "ws", "--port", &fake.port];
    let output = Command::new(PROGRAM).args(arguments).output().expect("the harness runs");
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("no connection became ready"));
}

/// Two threads of the harness share one fan-out and one group: credit and detection cross threads.
#[test]
fn threads_share_a_run() {
    let fake = Fake::start(&[]);
    let options = ["--threads", "2", "--messages", "400", "--subscribers", "6"];
    let (outcome, clean) = fake.run("sat-fanout", &[&options[..], &["--publishers", "2"]].concat());
    assert!(clean, "{outcome}");
    assert_eq!(count(&outcome, "/delivered"), 2 * 400 * 6);
    let (outcome, clean) = fake.run("sat-shared", &[&options[..], &["--publishers", "10"]].concat());
    assert!(clean, "{outcome}");
    assert_eq!(count(&outcome, "/delivered"), 10 * 400);
}

/// Retained messages are fetched whole, and idle connections are counted.
#[test]
fn retained_messages_and_idle_connections() {
    let fake = Fake::start(&[]);
    let options = ["--publishers", "4", "--subscribers", "2", "--topics", "40", "--duration", "0.2"];
    let (outcome, clean) = fake.run("retained-get", &[&options[..], &["--warmup", "0"]].concat());
    assert!(clean, "{outcome}");
    assert!(count(&outcome, "/delivered") > 0, "{outcome}");
    let (outcome, clean) = fake.run("connect-storm", &["--connections", "300", "--duration", "0.1"]);
    assert!(clean, "{outcome}");
    assert_eq!(count(&outcome, "/connect/connected"), 300);
}

/// Dropped deliveries are counted as lost, exactly, and as nothing else; the closed loop goes on.
#[test]
fn drops_are_found() {
    let fake = Fake::start(&["--drop-every", "50"]);
    for scenario in ["sat-p2p-qos1", "sat-fanout", "sat-shared"] {
        let options = ["--publishers", "4", "--subscribers", "4", "--messages", "500"];
        let (outcome, clean) = fake.run(scenario, &options);
        assert!(!clean, "{scenario}: a loss is not clean");
        let owed = 4 * 500 * if scenario == "sat-fanout" { 4 } else { 1 };
        assert_eq!(count(&outcome, "/faults/lost"), owed / 50, "{scenario}: {outcome}");
        assert_eq!(count(&outcome, "/faults/duplicates"), 0, "{scenario}: {outcome}");
        assert_eq!(count(&outcome, "/faults/reordered"), 0, "{scenario}: {outcome}");
    }
}

/// What comes after a long silence was never lost: while all who are waited for may have been held up, harness or
/// broker, a message is under way, and when the time to wait is over, undelivered.
#[test]
fn silence_alone_is_no_loss() {
    let options = ["--pairs", "4", "--messages", "500", "--threads", "2"];
    let (outcome, clean) = Fake::start(&["--hold-after", "1900"]).run("sat-p2p-qos1", &options);
    assert!(clean, "{outcome}");
    assert_eq!(count(&outcome, "/delivered"), 2_000, "{outcome}");
    let options = [&options[..], &["--drain", "1"]].concat();
    let (outcome, clean) = Fake::start(&["--hold-after", "1900"]).run("sat-p2p-qos1", &options);
    assert!(!clean, "what is missing at the end is not clean");
    assert!(count(&outcome, "/faults/undelivered") >= 100, "{outcome}");
    assert_eq!(count(&outcome, "/faults/lost"), 0, "{outcome}");
}

/// Deliveries sent twice are counted as duplicates, exactly, and as nothing else.
#[test]
fn duplicates_are_found() {
    let fake = Fake::start(&["--dup-every", "50"]);
    for scenario in ["sat-p2p", "sat-p2p-qos2", "sat-shared"] {
        let options = ["--publishers", "4", "--subscribers", "4", "--messages", "500"];
        let (outcome, clean) = fake.run(scenario, &options);
        assert!(!clean, "{scenario}: a duplicate is not clean");
        assert_eq!(count(&outcome, "/faults/duplicates"), 4 * 500 / 50, "{scenario}: {outcome}");
        assert_eq!(count(&outcome, "/faults/lost"), 0, "{scenario}: {outcome}");
        assert_eq!(count(&outcome, "/faults/reordered"), 0, "{scenario}: {outcome}");
    }
}

/// Deliveries that change places are counted as reordered and as nothing else.
#[test]
fn swaps_are_found() {
    let fake = Fake::start(&["--swap-every", "50"]);
    let (outcome, clean) = fake.run("sat-p2p", &["--pairs", "1", "--messages", "2010"]);
    assert!(!clean, "a swap is not clean");
    assert_eq!(count(&outcome, "/faults/reordered"), 40, "{outcome}");
    assert_eq!(count(&outcome, "/faults/lost"), 0, "{outcome}");
    assert_eq!(count(&outcome, "/faults/duplicates"), 0, "{outcome}");
}

/// A broker that is not there is an error with a reason, and no outcome.
#[test]
fn nobody_listening_is_an_error() {
    let port = Fake::start(&[]).port.clone();
    let arguments = ["run", "sat-p2p", "--pairs", "2", "--port", &port];
    let output = Command::new(PROGRAM).args(arguments).output().expect("the harness runs");
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("no connection became ready"));
}
