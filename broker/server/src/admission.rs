//! The doors: how many clients may be behind each listener, how many may be on their way in, and how fast they may
//! come. Who comes too fast waits in the kernel's queue; who is one too many is closed.
//!
//! A view of the node: all cores accept on a listener, and count at one place. That costs a connection two
//! operations on a shared number, and a message none.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use broker_core::time::Mono;

/// How soon it is looked again whether others have come in.
pub(crate) const HANDSHAKES_RETRY: Duration = Duration::from_millis(5);

/// What one listener lets in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Connections.
    pub(crate) connections_max: u32,
    /// New connections in a second, and a second's worth at once; 0: any number.
    pub(crate) connects_per_second_max: u32,
    /// Connections whose client has not been let in yet.
    pub(crate) handshakes_max: u32,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { connections_max: u32::MAX, connects_per_second_max: 0, handshakes_max: u32::MAX }
    }
}

/// One listener's counts.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    connections: AtomicU32,
    handshakes: AtomicU32,
    /// When, on the monotonic clock, the rate would have let in all that have come, one after the other.
    rate_even_at: AtomicU64,
    counted: [AtomicU64; Bite::ALL.len()],
}

/// A limit of a listener that keeps clients waiting, or out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Bite {
    Connections,
    ConnectRate,
    Handshakes,
    /// A proxy sent no header, or somebody else did.
    Proxy,
    /// Too many logins wait to be checked.
    Logins,
}

impl Bite {
    pub(crate) const ALL: [Bite; 5] =
        [Bite::Connections, Bite::ConnectRate, Bite::Handshakes, Bite::Proxy, Bite::Logins];

    /// The setting's name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Bite::Connections => "connections_max",
            Bite::ConnectRate => "connects_per_second_max",
            Bite::Handshakes => "handshakes_max",
            Bite::Proxy => "proxy_from",
            Bite::Logins => "login_queue_max",
        }
    }
}

impl Gate {
    /// When the next client may be accepted, if not now, and for what it waits.
    pub(crate) fn opens_at(&self, limits: &Limits, now: Mono) -> Option<(Mono, Bite)> {
        if self.handshakes.load(Ordering::Relaxed) >= limits.handshakes_max {
            return Some((now.after(HANDSHAKES_RETRY), Bite::Handshakes));
        }
        if limits.connects_per_second_max > 0 {
            let even_at = Mono(self.rate_even_at.load(Ordering::Relaxed));
            let ahead = even_at.since(now);
            let wait = ahead.saturating_sub(Duration::from_secs(1));
            if !wait.is_zero() {
                return Some((now.after(wait), Bite::ConnectRate));
            }
        }
        None
    }

    /// A client has been accepted. False: there are too many.
    pub(crate) fn enter(&self, limits: &Limits, now: Mono) -> bool {
        if let Some(each) = 1_000_000_000_u64.checked_div(u64::from(limits.connects_per_second_max)) {
            let next = |even_at: u64| Some(even_at.max(now.0) + each);
            let _ = self.rate_even_at.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
        }
        if self.connections.fetch_add(1, Ordering::Relaxed) >= limits.connections_max {
            self.connections.fetch_sub(1, Ordering::Relaxed);
            self.count(Bite::Connections);
            return false;
        }
        self.handshakes.fetch_add(1, Ordering::Relaxed);
        true
    }

    /// One is let in, or will not be.
    pub(crate) fn end_handshake(&self) {
        self.handshakes.fetch_sub(1, Ordering::Relaxed);
    }

    /// One has gone.
    pub(crate) fn leave(&self) {
        self.connections.fetch_sub(1, Ordering::Relaxed);
    }

    /// Connections now.
    pub(crate) fn connections(&self) -> u32 {
        self.connections.load(Ordering::Relaxed)
    }

    /// Connections whose client has not been let in yet.
    pub(crate) fn handshakes(&self) -> u32 {
        self.handshakes.load(Ordering::Relaxed)
    }

    pub(crate) fn count(&self, bite: Bite) {
        self.counted[bite as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// How often a limit kept clients waiting, a core at a time, or out.
    pub(crate) fn counted(&self, bite: Bite) -> u64 {
        self.counted[bite as usize].load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(milliseconds: u64) -> Mono {
        Mono(milliseconds * 1_000_000)
    }

    /// A second's worth comes at once, then one after the other; who waits is told until when.
    #[test]
    fn rate_is_kept() {
        let (gate, limits) = (Gate::default(), Limits { connects_per_second_max: 10, ..Limits::default() });
        let mut let_in = 0;
        let mut now = at(5000);
        while now < at(8000) {
            match gate.opens_at(&limits, now) {
                None => {
                    assert!(gate.enter(&limits, now));
                    let_in += 1;
                }
                Some((then, bite)) => {
                    assert!(bite == Bite::ConnectRate && then > now);
                    now = then;
                }
            }
        }
        // 11 at once: one is let in when exactly a second's worth has come.
        assert_eq!(let_in, 11 + 29);
    }

    /// One too many is refused and counted, and has a place when another leaves.
    #[test]
    fn connections_are_counted() {
        let (gate, limits) = (Gate::default(), Limits { connections_max: 2, ..Limits::default() });
        assert!(gate.enter(&limits, at(0)) && gate.enter(&limits, at(0)) && !gate.enter(&limits, at(0)));
        assert_eq!((gate.connections(), gate.handshakes(), gate.counted(Bite::Connections)), (2, 2, 1));
        gate.end_handshake();
        gate.leave();
        assert!(gate.enter(&limits, at(0)));
        assert_eq!((gate.connections(), gate.handshakes()), (2, 2));
    }

    /// Nobody is accepted while too many are on their way in.
    #[test]
    fn handshakes_are_bounded() {
        let (gate, limits) = (Gate::default(), Limits { handshakes_max: 1, ..Limits::default() });
        assert!(gate.opens_at(&limits, at(0)).is_none() && gate.enter(&limits, at(0)));
        assert!(matches!(gate.opens_at(&limits, at(0)), Some((then, Bite::Handshakes)) if then > at(0)));
        gate.end_handshake();
        assert_eq!(gate.opens_at(&limits, at(0)), None);
    }
}
