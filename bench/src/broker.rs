//! A broker started for one run, on its CPUs, and ended by its process id.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::clock;
use crate::system;

/// Time a broker has to listen.
const START_NS_MAX: u64 = 20_000_000_000;
/// Time it has to end after SIGTERM before it is killed.
const STOP_NS_MAX: u64 = 10_000_000_000;
/// How often is looked.
const LOOK: Duration = Duration::from_millis(5);

/// A running broker; dropping it ends it.
#[derive(Debug)]
pub(crate) struct Broker {
    child: Child,
}

impl Broker {
    /// Starts `command` (a line for `sh`, which replaces itself by it) on `cpus` and waits until
    /// `port` answers.
    pub(crate) fn start(command: &str, port: u16, cpus: &[usize]) -> Result<Broker, String> {
        if answers(port) {
            return Err(format!("port {port} is taken: something else would be measured"));
        }
        let before = system::allowed_cpus().map_err(|error| error.to_string())?;
        system::pin(cpus).map_err(|error| format!("--broker-cpus: {error}"))?;
        let child = Command::new("sh")
            .args(["-c", &format!("exec {command}")])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        system::pin(&before).map_err(|error| error.to_string())?;
        let mut broker = Broker { child: child.map_err(|error| format!("{command}: {error}"))? };
        let deadline = clock::now() + START_NS_MAX;
        while !answers(port) {
            if let Ok(Some(status)) = broker.child.try_wait() {
                return Err(format!("{command}: ended with {status} before it listened"));
            }
            if clock::now() > deadline {
                return Err(format!("{command}: nothing listens on port {port} after 20 s"));
            }
            clock::sleep(LOOK);
        }
        Ok(broker)
    }

    /// Ends it as a crash does, without a word (SIGKILL). The kernel may take a while longer to close what a ring
    /// of the process still refers to.
    pub(crate) fn kill(mut self, port: u16) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let deadline = clock::now() + STOP_NS_MAX;
        while answers(port) && clock::now() < deadline {
            clock::sleep(LOOK);
        }
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let deadline = clock::now() + STOP_NS_MAX;
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = system::terminate(self.child.id());
        }
        while matches!(self.child.try_wait(), Ok(None)) {
            if clock::now() > deadline {
                let _ = self.child.kill();
                let _ = self.child.wait();
                return;
            }
            clock::sleep(LOOK);
        }
    }
}

fn answers(port: u16) -> bool {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok()
}
