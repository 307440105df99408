//! The broker as a process: started on a free port, stopped at the end of a test, its log shown when the
//! test fails. Knows nothing of MQTT.

#![expect(clippy::disallowed_methods, reason = "tests of a process need the clock")]
#![allow(dead_code, reason = "each test binary uses its own part")]

pub mod data;
pub mod load;
pub mod packets;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};

/// How long anything may take before a test gives up. Nothing waits this long unless it has failed.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// A running broker, killed when it is dropped.
pub struct Broker {
    process: Child,
    log: Receiver<String>,
    /// What of the log has been read.
    seen: Vec<String>,
    address: SocketAddr,
}

impl Broker {
    /// Starts a broker on a free port of 127.0.0.1, on all CPUs there are unless `arguments` say otherwise.
    pub fn start(arguments: &[&str]) -> Broker {
        Broker::start_on(0, arguments)
    }

    /// The same on a given port, or a free one if it is 0.
    pub fn start_on(port: u16, arguments: &[&str]) -> Broker {
        Broker::spawn(Command::new(env!("CARGO_BIN_EXE_hermod")), port, arguments)
    }

    /// The same on a free port, by a shell that runs `setup` first, as in `ulimit -n 64`.
    pub fn start_after(setup: &str, arguments: &[&str]) -> Broker {
        let script = format!("{setup} && exec '{}' \"$@\"", env!("CARGO_BIN_EXE_hermod"));
        let mut shell = Command::new("sh");
        shell.args(["-c", &script, "sh"]);
        Broker::spawn(shell, 0, arguments)
    }

    /// Starts a broker where its environment says, which `setup` makes, as in `export HERMOD__…=…`.
    pub fn start_after_as_configured(setup: &str, arguments: &[&str]) -> Broker {
        let script = format!("{setup} && exec '{}' \"$@\"", env!("CARGO_BIN_EXE_hermod"));
        let mut shell = Command::new("sh");
        shell.args(["-c", &script, "sh"]).args(arguments);
        Broker::run(shell)
    }

    /// Starts a broker where a file says, which is to name one listener on a free port of 127.0.0.1.
    pub fn start_as_configured(file: &str, arguments: &[&str]) -> Broker {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hermod"));
        command.args(["--config", file]).args(arguments);
        Broker::run(command)
    }

    fn spawn(mut command: Command, port: u16, arguments: &[&str]) -> Broker {
        command.args(["--listen", &format!("tcp://127.0.0.1:{port}")]).args(arguments);
        Broker::run(command)
    }

    /// Starts a broker by a command that is complete but for where its log goes.
    pub fn run(mut command: Command) -> Broker {
        // Unless its arguments say otherwise.
        command.env("HERMOD__NODE__DATA", "none");
        let mut process =
            command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().expect("the binary starts");
        let stderr = BufReader::new(process.stderr.take().expect("it is piped"));
        let (lines, log) = channel();
        std::thread::Builder::new()
            .spawn(move || stderr.lines().map_while(Result::ok).try_for_each(|line| lines.send(line)))
            .expect("a thread for the log");
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut broker = Broker { process, log, seen: Vec::new(), address };
        let line = broker.wait_for_log("listening on ");
        let (_, address) = line.rsplit_once("://").expect("it was looked for");
        broker.address = address.trim().parse().expect("the log names an address");
        broker
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Waits until a line of the log contains `text`, from the first line on, and returns the line.
    pub fn wait_for_log(&mut self, text: &str) -> String {
        if let Some(line) = self.seen.iter().find(|line| line.contains(text)) {
            return line.clone();
        }
        let deadline = Instant::now() + DEADLINE;
        loop {
            match self.log.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    self.seen.push(line.clone());
                    if line.contains(text) {
                        return line;
                    }
                }
                Err(error) => panic!("no {text:?} in the log: {error}"),
            }
        }
    }

    /// Sends a signal by its name, as in `TERM`.
    pub fn signal(&self, name: &str) {
        // The shell's own `kill`: not every machine has the program.
        let kill = format!("kill -{name} {}", self.pid());
        let status = Command::new("sh").args(["-c", &kill]).status().expect("a shell");
        assert!(status.success(), "{kill}: {status}");
    }

    /// Waits until the process has ended.
    pub fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + DEADLINE;
        // Its end of the pipe is closed when it ends; what it still logs is kept.
        while let Ok(line) = self.log.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            self.seen.push(line);
        }
        assert!(Instant::now() < deadline, "the broker does not end");
        self.process.wait().expect("it is our child")
    }

    /// Ends it as a power failure would, but for what the kernel keeps.
    pub fn kill(mut self) {
        self.process.kill().expect("it runs");
        self.process.wait().expect("it is our child");
    }

    /// Stops it in order, and checks that it says so.
    pub fn stop(mut self) {
        self.signal("TERM");
        let status = self.wait();
        assert_eq!(status.code(), Some(0), "an orderly stop");
        assert!(self.seen.iter().any(|line| line.contains("stopped")), "{:?}", self.seen);
    }
}

impl Drop for Broker {
    #[expect(clippy::print_stderr, reason = "shown with the failed test")]
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        if std::thread::panicking() {
            self.seen.extend(self.log.try_iter());
            for line in &self.seen {
                eprintln!("broker: {line}");
            }
        }
    }
}

/// Starts processes to which the kernel refuses io_uring, as default containers do.
pub fn without_rings<T: Send>(start: impl FnOnce() -> T + Send) -> T {
    without(libc::SYS_io_uring_setup, libc::EPERM, start)
}

/// Starts processes for which a system call always fails.
pub fn without<T: Send>(call: libc::c_long, errno: i32, start: impl FnOnce() -> T + Send) -> T {
    let filter = SeccompFilter::new(
        BTreeMap::from([(call, Vec::new())]),
        SeccompAction::Allow,
        SeccompAction::Errno(errno.cast_unsigned()),
        std::env::consts::ARCH.try_into().expect("an architecture that has system call filters"),
    );
    let filter = BpfProgram::try_from(filter.expect("a valid filter")).expect("a filter that compiles");
    // A filter is for ever, but only for its thread and for what that starts.
    std::thread::scope(|scope| {
        let filtered = || {
            seccompiler::apply_filter(&filter).expect("anybody may give up system calls");
            start()
        };
        scope.spawn(filtered).join().expect("it starts")
    })
}

/// Lets this process open enough descriptors for thousands of clients.
pub fn raise_open_files() {
    let pid = std::process::id().to_string();
    // Part of Debian's essential util-linux.
    let status = Command::new("prlimit").args(["--pid", &pid, "--nofile=4096:"]).status();
    assert!(status.is_ok_and(|status| status.success()), "prlimit raises the limit to 4096 open files");
}
