//! What a service manager hears of the broker (sd_notify(3)), over a socket as systemd has one.

#![expect(clippy::disallowed_methods, reason = "tests of a process need the clock")]

mod support;

use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::time::Instant;

use support::{Broker, DEADLINE};
use tempfile::TempDir;

/// Who listens to a broker.
struct Manager {
    socket: UnixDatagram,
    dir: TempDir,
}

impl Manager {
    fn new() -> Manager {
        let dir = tempfile::tempdir().unwrap();
        let socket = UnixDatagram::bind(dir.path().join("notify")).unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        Manager { socket, dir }
    }

    /// A command that begins with `program` and knows of the manager.
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hermod"));
        command.env("NOTIFY_SOCKET", self.dir.path().join("notify")).args(arguments);
        command
    }

    /// What it hears next.
    fn hear(&self) -> String {
        let mut buffer = [0; 4096];
        let bytes = self.socket.recv(&mut buffer).expect("the broker says something");
        String::from_utf8(buffer[..bytes].to_vec()).expect("it says it in UTF-8")
    }

    /// What it hears next but for signs of life; how many of those came before.
    fn hear_news(&self) -> (usize, String) {
        let (mut signs, begun) = (0, Instant::now());
        while begun.elapsed() < DEADLINE {
            match self.hear() {
                sign if sign == "WATCHDOG=1\n" => signs += 1,
                news => return (signs, news),
            }
        }
        panic!("nothing but signs of life");
    }
}

const ARGUMENTS: [&str; 4] = ["--listen", "tcp://127.0.0.1:0", "--cores", "0"];

/// The manager hears that the broker serves, and where, when it does; that it reloads, and is done with it; and that it
/// stops.
#[test]
fn the_manager_hears_of_start_reload_and_stop() {
    let manager = Manager::new();
    let mut broker = Broker::run(manager.command(&ARGUMENTS));
    let ready = manager.hear();
    assert_eq!(ready, format!("READY=1\nSTATUS=serving {}, cores: 1\n", broker.address()));
    broker.signal("HUP");
    let reloading = manager.hear();
    let begun = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").expect("it says so first");
    assert!(begun.lines().next().is_some_and(|begun| begun.parse::<u64>().is_ok()), "{begun}");
    assert!(manager.hear().starts_with("READY=1\n"));
    broker.signal("TERM");
    assert!(manager.hear().starts_with("STOPPING=1\n"));
    assert_eq!(broker.wait().code(), Some(0));
}

/// A configuration that has become wrong is told, and the broker serves on.
#[test]
fn the_manager_hears_that_a_reload_was_refused() {
    let manager = Manager::new();
    let file = manager.dir.path().join("hermod.toml");
    std::fs::write(&file, "").unwrap();
    let config = file.display().to_string();
    let broker = Broker::run(manager.command(&[&ARGUMENTS[..], &["--config", &config]].concat()));
    assert!(manager.hear().starts_with("READY=1\n"));
    std::fs::write(&file, "surprise = 1\n").unwrap();
    broker.signal("HUP");
    assert!(manager.hear().starts_with("RELOADING=1\n"));
    let ready = manager.hear();
    assert!(ready.starts_with("READY=1\n") && ready.contains("is wrong"), "{ready}");
    broker.stop();
}

/// Why a broker does not start is its last status.
#[test]
fn the_manager_hears_why_a_broker_does_not_start() {
    let manager = Manager::new();
    let output = manager.command(&["--data", "none", "--listen", "tcp://0.0.0.0:0"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = manager.hear();
    assert!(said.starts_with("STATUS=") && said.contains("0.0.0.0"), "{said}");
}

/// Signs of life come as long as all cores turn, though they have nothing to do; and not for another process.
#[test]
fn a_broker_with_nothing_to_do_gives_signs_of_life() {
    let manager = Manager::new();
    let mut command = manager.command(&["--listen", "tcp://127.0.0.1:0"]);
    command.env("WATCHDOG_USEC", "90000");
    let broker = Broker::run(command);
    assert!(manager.hear().starts_with("READY=1\n"));
    for _ in 0..10 {
        assert_eq!(manager.hear(), "WATCHDOG=1\n");
    }
    broker.signal("TERM");
    assert!(manager.hear_news().1.starts_with("STOPPING=1\n"));
    drop(broker);

    let mut command = manager.command(&ARGUMENTS);
    command.env("WATCHDOG_USEC", "1000").env("WATCHDOG_PID", "1");
    let broker = Broker::run(command);
    let news = manager.hear_news();
    assert!(news.1.starts_with("READY=1\n"));
    // In the time that this takes there would be many.
    broker.signal("HUP");
    assert!(manager.hear().starts_with("RELOADING=1\n"));
    broker.stop();
}
