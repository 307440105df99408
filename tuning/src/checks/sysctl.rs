//! A rule about one number of `/proc/sys`, and the finding it gives. The finding's check is the key
//! itself; `conf/90-hermod-sysctl.conf` ships the values that the remedies set.

use crate::{Finding, Host, Level};

/// What one sysctl should be.
pub(super) struct Rule {
    pub(super) key: &'static str,
    pub(super) bound: Bound,
    /// What the remedy sets, within the bound and with room to grow.
    pub(super) set: u64,
    /// How serious a value out of bounds is.
    pub(super) level: Level,
    pub(super) unit: &'static str,
    pub(super) why: &'static str,
}

#[derive(Clone, Copy)]
pub(super) enum Bound {
    AtLeast(u64),
    AtMost(u64),
    Exactly(u64),
}

impl Rule {
    /// The finding for this host; none where its kernel has no such key.
    pub(super) fn judge(&self, host: &Host) -> Option<Finding> {
        let &[value] = host.sysctl_numbers(self.key)?.as_slice() else { return None };
        let unit = self.unit;
        let (holds, wanted) = match self.bound {
            Bound::AtLeast(least) => (value >= least, format!("at least {least} wanted")),
            Bound::AtMost(most) => (value <= most, format!("at most {most} wanted")),
            Bound::Exactly(exact) => (value == exact, format!("{exact} wanted")),
        };
        let finding = if holds {
            Finding::ok(self.key, format!("{value} {unit}"), self.why)
        } else {
            Finding::new(self.key, self.level, format!("{value} {unit}, {wanted}"), self.why)
                .remedy(set(self.key, self.set))
        };
        Some(finding)
    }
}

/// Sets one key until the next boot.
pub(super) fn set(key: &str, value: impl std::fmt::Display) -> String {
    format!("sysctl -w '{key}={value}'")
}
