//! The process: how it starts, what it refuses, how it stops, on both of the kernel's ways to wait. What
//! it says to clients is tested elsewhere; here a client is a CONNECT and a PINGREQ in bytes.

#![expect(clippy::disallowed_methods, reason = "tests of a process need the clock")]

mod support;

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use support::{Broker, DEADLINE};

const DRIVERS: [&str; 2] = ["uring", "epoll"];

/// The program, run to its end.
fn run(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hermod"));
    command.env("HERMOD__NODE__DATA", "none").args(arguments).output().expect("the binary starts")
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("it writes UTF-8")
}

/// Connects, and says CONNECT [MQTT 3.1.1, section 3.1] with a clean session.
fn connect(address: SocketAddr, client_id: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).expect("somebody listens");
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let length = u8::try_from(12 + client_id.len()).unwrap();
    let id_length = u8::try_from(client_id.len()).unwrap();
    let mut packet = vec![0x10, length, 0, 4, b'M', b'Q', b'T', b'T', 4, 2, 0, 0, 0, id_length];
    packet.extend_from_slice(client_id.as_bytes());
    stream.write_all(&packet).unwrap();
    stream
}

/// Expects CONNACK with return code 0.
fn expect_connack(stream: &mut TcpStream) {
    let mut packet = [0; 4];
    stream.read_exact(&mut packet).expect("CONNACK");
    assert_eq!(packet, [0x20, 2, 0, 0]);
}

/// PINGREQ and PINGRESP.
fn ping(stream: &mut TcpStream) {
    stream.write_all(&[0xC0, 0]).unwrap();
    let mut packet = [0; 2];
    stream.read_exact(&mut packet).expect("PINGRESP");
    assert_eq!(packet, [0xD0, 0]);
}

/// CPU time that a process has used, in ticks of 10 ms: fields 14 and 15 of proc_pid_stat(5).
fn cpu_ticks(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let (_, fields) = stat.rsplit_once(") ").unwrap();
    fields.split(' ').skip(11).take(2).map(|ticks| ticks.parse::<u64>().unwrap()).sum()
}

/// The kernel's table of descriptors is large before anybody comes: a core that accepts a crowd does not stand still for
/// it to grow.
#[test]
fn a_crowd_does_not_wait_for_the_table_of_descriptors() {
    let broker = Broker::start(&["--cores", "0"]);
    let of = |file: &str, line: &str, field: usize| -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/{file}", broker.pid())).unwrap();
        let line = text.lines().find_map(|text| text.strip_prefix(line)).expect("it is there");
        line.split_ascii_whitespace().nth(field).unwrap().parse().unwrap()
    };
    let (table, limit) = (of("status", "FDSize:", 0), of("limits", "Max open files", 1));
    assert!(table >= limit.min(65_536), "{table} places, {limit} descriptors");
    broker.stop();
}

/// A start is told: version, cores, data, limits, how each core waits, where clients are accepted. And a
/// stop ends with 0.
#[test]
fn start_is_logged_and_sigterm_stops() {
    for io in DRIVERS {
        let mut broker = Broker::start(&["--io", io, "--cores", "0"]);
        broker.wait_for_log(concat!("hermod ", env!("CARGO_PKG_VERSION")));
        broker.wait_for_log("cores: 1, on CPUs 0");
        broker.wait_for_log("data: none, memory only");
        broker.wait_for_log("open files");
        broker.wait_for_log(if io == "uring" { "core 0: io_uring" } else { "core 0: epoll" });
        let mut client = connect(broker.address(), "a");
        expect_connack(&mut client);
        broker.signal("TERM");
        // Told or not, as its protocol has it: the connection is closed.
        let closed = client.read_to_end(&mut Vec::new());
        assert!(closed.is_ok() || closed.is_err_and(|error| error.kind() == ErrorKind::ConnectionReset));
        drop(client);
        assert_eq!(broker.wait().code(), Some(0));
    }
}

/// SIGINT stops like SIGTERM, and SIGHUP stops nothing.
#[test]
fn sigint_stops_and_sighup_does_not() {
    let mut broker = Broker::start(&[]);
    broker.signal("HUP");
    broker.wait_for_log("loaded again, with 0 changes");
    let mut client = connect(broker.address(), "a");
    expect_connack(&mut client);
    drop(client);
    broker.signal("INT");
    assert_eq!(broker.wait().code(), Some(0));
}

/// Who cannot wait for the orderly stop sends a second signal: the process ends at once, with the exit code
/// that shells give to that signal. A client that stays keeps the orderly stop from ending before.
#[test]
fn second_signal_ends_at_once() {
    let mut broker = Broker::start(&[]);
    let mut client = connect(broker.address(), "a");
    expect_connack(&mut client);
    // Both are there when the process goes on; which of them is taken first is the kernel's affair.
    ["STOP", "TERM", "INT", "CONT"].iter().for_each(|name| broker.signal(name));
    let code = broker.wait().code();
    let first = broker.wait_for_log("stopping: signal");
    broker.wait_for_log("second signal: ending at once");
    assert_eq!(code, Some(128 + if first.contains("signal 2") { 15 } else { 2 }), "{first}");
}

/// Where io_uring is forbidden a core runs on epoll, says why and serves; unless it was told to use a ring.
#[test]
fn forbidden_ring_means_epoll() {
    let mut broker = support::without_rings(|| Broker::start(&["--cores", "0"]));
    broker.wait_for_log("core 0: epoll, because io_uring is not to be had: Operation not permitted");
    let mut client = connect(broker.address(), "a");
    expect_connack(&mut client);
    ping(&mut client);
    drop(client);
    broker.stop();
    let arguments = ["--cores", "0", "--io", "uring", "--listen", "tcp://127.0.0.1:0"];
    let output = support::without_rings(|| run(&arguments));
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("core 0 cannot run: Operation not permitted"), "{output:?}");
}

/// What all cores have counted is told at the end, in one line, and nothing that never happened.
#[test]
fn counters_are_logged_at_the_end() {
    let mut broker = Broker::start(&[]);
    let mut clients: Vec<_> = (0..16).map(|number| connect(broker.address(), &number.to_string())).collect();
    clients.iter_mut().for_each(expect_connack);
    drop(clients);
    broker.signal("TERM");
    assert_eq!(broker.wait().code(), Some(0));
    let line = broker.wait_for_log("counters: connections_accepted=16 clients_greeted=16 ");
    assert!(line.contains(&format!("bytes_sent={}", 16 * 4)) && !line.contains("=0"), "{line}");
}

/// Clients whose home is another core than the one that accepted them are served all the same: many ids,
/// on as many cores as there are, each talking again after the move.
#[test]
fn clients_reach_their_home_core() {
    for io in DRIVERS {
        let broker = Broker::start(&["--io", io]);
        let mut clients: Vec<_> =
            (0..64).map(|number| connect(broker.address(), &format!("client-{number}"))).collect();
        for client in &mut clients {
            expect_connack(client);
        }
        for _ in 0..3 {
            clients.iter_mut().for_each(ping);
        }
        broker.stop();
    }
}

/// A broker with clients that say nothing uses no CPU: with both drivers it sleeps for as long as nothing
/// is due.
#[test]
fn idle_broker_sleeps() {
    for io in DRIVERS {
        let broker = Broker::start(&["--io", io]);
        let mut clients: Vec<_> =
            (0..32).map(|number| connect(broker.address(), &number.to_string())).collect();
        clients.iter_mut().for_each(expect_connack);
        // The shortest of several intervals: what the start still had to do may fall into the first.
        let (mut least, begun) = (u64::MAX, Instant::now());
        while least > 1 && begun.elapsed() < DEADLINE {
            let before = cpu_ticks(broker.pid());
            std::thread::park_timeout(Duration::from_millis(300));
            least = least.min(cpu_ticks(broker.pid()) - before);
        }
        assert!(least <= 1, "{io}: {least} ticks in 300 ms");
        broker.stop();
    }
}

/// Memory that clients needed goes back to the system when they have left and nothing else happens: at once after
/// very many, after a quiet second otherwise. Not all of it: what else the broker needs lies between.
#[test]
fn memory_of_clients_that_left_is_given_back() {
    for clients in [1500, 600] {
        // What the broker begins to say of itself meanwhile takes memory, too.
        let quiet = "export HERMOD__ADMIN__SYS_INTERVAL_SECONDS=0";
        let broker = Broker::start_after(quiet, &["--cores", "0"]);
        let empty = anonymous_kib(broker.pid());
        let mut streams: Vec<_> = (0..clients).map(|n| connect(broker.address(), &format!("c{n}"))).collect();
        streams.iter_mut().for_each(expect_connack);
        let full = anonymous_kib(broker.pid());
        drop(streams);
        let deadline = Instant::now() + DEADLINE;
        while anonymous_kib(broker.pid()) > full - (full - empty) / 8 {
            assert!(Instant::now() < deadline, "{full} KiB with them, {} after", anonymous_kib(broker.pid()));
            std::thread::park_timeout(Duration::from_millis(50));
        }
    }
}

/// Anonymous memory of a process that is resident, in KiB.
fn anonymous_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the process runs");
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).expect("a line for each kind");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("a number of KiB")
}

/// When descriptors run out, those who are connected are served, nobody is lost, and those who wait get
/// their turn when others leave.
#[test]
fn descriptors_running_out_delays_clients() {
    for io in DRIVERS {
        let mut broker = Broker::start_after("ulimit -n 64", &["--io", io, "--cores", "0"]);
        broker.wait_for_log("64 open files");
        let mut first: Vec<_> =
            (0..32).map(|number| connect(broker.address(), &format!("a{number}"))).collect();
        first.iter_mut().for_each(expect_connack);
        let mut then: Vec<_> =
            (0..32).map(|number| connect(broker.address(), &format!("b{number}"))).collect();
        broker.wait_for_log("cannot accept");
        first.iter_mut().for_each(ping);
        drop(first);
        then.iter_mut().for_each(expect_connack);
        broker.stop();
    }
}

/// Cores that this process may not use are refused by name; so is what is no list of cores.
#[test]
fn unusable_core_is_named() {
    let output = run(&["--cores", "0,1023", "--listen", "tcp://127.0.0.1:0"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("CPU 1023 is outside"), "{}", text(&output.stderr));
    let output = run(&["--cores", "0-x"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("'0-x' is not a CPU"), "{}", text(&output.stderr));
}

/// An address that is taken is refused by name, although cores share theirs among each other.
#[test]
fn taken_address_is_named() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("tcp://{}", listener.local_addr().unwrap());
    let output = run(&["--listen", &url]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains(&url), "{}", text(&output.stderr));
    let broker = Broker::start(&[]);
    let output = run(&["--listen", &format!("tcp://{}", broker.address())]);
    assert_eq!(output.status.code(), Some(1), "a second broker on the port of the first");
    broker.stop();
}

/// Help and version go to stdout, and the doctor's report too, with an exit code that is its verdict.
#[test]
fn help_version_and_doctor() {
    let output = run(&["--version"]);
    assert_eq!(text(&output.stdout).trim(), concat!("hermod ", env!("CARGO_PKG_VERSION")));
    let output = run(&["--help"]);
    for flag in ["--listen", "--cores", "--data", "--log", "--max-connections", "doctor"] {
        assert!(text(&output.stdout).contains(flag), "{flag}");
    }
    let output = run(&["doctor", "--connections", "10", "--cores", "0"]);
    assert!(output.status.code().is_some_and(|code| code <= 2), "{}", output.status);
    assert!(text(&output.stdout).lines().count() > 3, "{}", text(&output.stdout));
}
