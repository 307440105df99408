//! What a check says: one finding, how serious it is, and what it makes of the process's exit status.

/// How serious a finding is. The order is that of seriousness.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// In order.
    Ok,
    /// The broker carries what is wanted; this would make it faster or steadier.
    Advice,
    /// The broker runs, and under the wanted load this will be felt.
    Warning,
    /// The broker cannot carry what is wanted, or a promise does not hold on this host.
    Failure,
}

/// The outcome of one check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Name of the check: the kernel's own name for a sysctl, a few words otherwise.
    pub check: &'static str,
    /// How serious it is.
    pub level: Level,
    /// What the host has, and what is wanted where the two differ; numbers carry their unit.
    pub found: String,
    /// Why it matters to a broker.
    pub why: &'static str,
    /// The command that mends it, to be run by root; none when all is well or no command can help.
    pub remedy: Option<String>,
}

impl Finding {
    pub(crate) fn ok(check: &'static str, found: impl Into<String>, why: &'static str) -> Self {
        Self { check, level: Level::Ok, found: found.into(), why, remedy: None }
    }

    /// A finding of that level without a remedy.
    pub(crate) fn new(
        check: &'static str,
        level: Level,
        found: impl Into<String>,
        why: &'static str,
    ) -> Self {
        Self { check, level, found: found.into(), why, remedy: None }
    }

    pub(crate) fn remedy(mut self, command: impl Into<String>) -> Self {
        self.remedy = Some(command.into());
        self
    }
}

/// The exit status for a list of findings: 0 when nothing is worse than advice, 1 when the worst is a
/// warning, 2 when there is a failure.
pub fn exit_code(findings: &[Finding]) -> u8 {
    match findings.iter().map(|finding| finding.level).max() {
        None | Some(Level::Ok | Level::Advice) => 0,
        Some(Level::Warning) => 1,
        Some(Level::Failure) => 2,
    }
}
