//! What the process says to the service manager that has started it, by sd_notify(3): that it serves, that it reads its
//! configuration again, that it stops; and, as long as every core turns, that it lives. Without a manager it says
//! nothing. Lives on the main thread.

use std::env;
use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use broker_core::time::Mono;

use crate::clock::Clock;

/// How long a manager may take to take a datagram. Then the process goes on without having told it.
const PATIENCE: Duration = Duration::from_secs(1);

/// The manager wants to hear in this share of its patience that the process lives, which leaves time for two turns
/// that are far too long.
const SHARE: u32 = 3;

/// What the manager is told.
#[derive(Clone, Copy, Debug)]
pub(crate) enum State {
    /// Clients are served; also after each reading of the configuration.
    Ready,
    /// The configuration is read again.
    Reloading,
    /// The process ends.
    Stopping,
}

/// The service manager, if there is one.
pub(crate) struct Manager {
    socket: Option<UnixDatagram>,
    watchdog: Option<Watchdog>,
}

/// When the manager wants a sign of life.
struct Watchdog {
    interval: Duration,
    next: Mono,
    /// How many turns each core had made then. Empty before the first time.
    turns: Vec<u64>,
    /// Some core had made none: said once.
    is_stuck: bool,
}

impl Manager {
    /// The one that `NOTIFY_SOCKET` names; it wants signs of life if `WATCHDOG_USEC` says how many.
    pub(crate) fn from_environment(now: Mono) -> Manager {
        let socket = env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty()).and_then(|name| {
            let connected = connect(name.as_bytes());
            if let Err(error) = &connected {
                tracing::warn!("NOTIFY_SOCKET {}: {error}", name.display());
            }
            connected.ok()
        });
        let number = |name| env::var(name).ok()?.parse::<u64>().ok();
        let is_ours = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
        let patience =
            number("WATCHDOG_USEC").filter(|patience| *patience > 0 && is_ours && socket.is_some());
        let watchdog = |patience| {
            let interval = Duration::from_micros(patience) / SHARE;
            Watchdog { interval, next: now.after(interval), turns: Vec::new(), is_stuck: false }
        };
        Manager { socket, watchdog: patience.map(watchdog) }
    }

    /// Says how the process stands, and a line for who asks for its status.
    pub(crate) fn tell(&self, state: State, status: fmt::Arguments<'_>) {
        let state = match state {
            State::Ready => "READY=1".to_owned(),
            // The manager orders it by its own clock, which is the kernel's.
            State::Reloading => format!("RELOADING=1\nMONOTONIC_USEC={}", Clock::since_boot().as_micros()),
            State::Stopping => "STOPPING=1".to_owned(),
        };
        self.send(&format!("{state}\nSTATUS={status}\n"));
    }

    /// Says why the process does not serve.
    pub(crate) fn fail(&self, why: &dyn fmt::Display) {
        let why = why.to_string();
        self.send(&format!("STATUS={}\n", why.lines().next().unwrap_or_default()));
    }

    /// When [`Manager::on_time`] wants to be called.
    pub(crate) fn next_timeout(&self) -> Option<Mono> {
        self.watchdog.as_ref().map(|watchdog| watchdog.next)
    }

    /// Says that the process lives, if every core has made a turn since the last time. `turns` are those that each has
    /// made so far. True if it is time to have them make one: a core that has nothing to do sleeps.
    pub(crate) fn on_time(&mut self, now: Mono, turns: impl Iterator<Item = u64>) -> bool {
        let Some(watchdog) = self.watchdog.as_mut().filter(|watchdog| watchdog.next <= now) else {
            return false;
        };
        if watchdog.is_alive(now, turns.collect()) {
            self.send("WATCHDOG=1\n");
        }
        true
    }

    fn send(&self, message: &str) {
        if let Some(socket) = &self.socket
            && let Err(error) = socket.send(message.as_bytes())
        {
            tracing::warn!("the service manager does not hear {:?}: {error}", message.trim_end());
        }
    }
}

impl Watchdog {
    fn is_alive(&mut self, now: Mono, turns: Vec<u64>) -> bool {
        self.next = now.after(self.interval);
        let stuck = turns.iter().zip(&self.turns).position(|(now, before)| now == before);
        match stuck {
            Some(core) if !self.is_stuck => {
                tracing::error!("core {core} has made no turn for {:?}", self.interval);
            }
            None if self.is_stuck => tracing::warn!("all cores turn again"),
            _ => {}
        }
        self.is_stuck = stuck.is_some();
        self.turns = turns;
        stuck.is_none()
    }
}

/// To a socket's path, or its name with an @ in front.
fn connect(name: &[u8]) -> io::Result<UnixDatagram> {
    let address = match name {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        path => SocketAddr::from_pathname(OsStr::from_bytes(path))?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.connect_addr(&address)?;
    socket.set_write_timeout(Some(PATIENCE))?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One core that makes no turn is enough for silence, for as long as it makes none; the first time there is nothing
    /// to compare with.
    #[test]
    fn every_core_has_to_turn() {
        let second = Duration::from_secs(1);
        let at = |seconds: u64| Mono(seconds * 1_000_000_000);
        let mut watchdog = Watchdog { interval: second, next: at(1), turns: Vec::new(), is_stuck: false };
        let mut lives = |seconds, turns: [u64; 2]| watchdog.is_alive(at(seconds), turns.to_vec());
        assert!(lives(1, [0, 0]));
        assert!(lives(2, [1, 5]));
        assert!(!lives(3, [1, 6]), "the first");
        assert!(!lives(4, [2, 6]), "the second");
        assert!(lives(5, [3, 7]));
        assert_eq!(watchdog.next, at(6));
    }

    /// Names are paths, or those of sockets without a file.
    #[test]
    fn sockets_have_paths_or_names() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let name = format!("hermod-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let sockets = [UnixDatagram::bind(&path).unwrap(), UnixDatagram::bind_addr(&address).unwrap()];
        let names = [path.into_os_string().into_encoded_bytes(), format!("@{name}").into_bytes()];
        for (socket, name) in sockets.iter().zip(&names) {
            let manager = Manager { socket: Some(connect(name).unwrap()), watchdog: None };
            manager.tell(State::Ready, format_args!("serving"));
            let mut buffer = [0; 64];
            let bytes = socket.recv(&mut buffer).unwrap();
            assert_eq!(&buffer[..bytes], b"READY=1\nSTATUS=serving\n");
        }
        assert!(connect(b"/no/such/socket").is_err());
    }
}
