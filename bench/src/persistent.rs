//! Scenarios of sessions that outlive their connections: several runs in a row, with the same client ids, of which
//! one is measured. What was sent while the subscribers were away is fetched at the end, whatever is measured: only
//! that shows whether it was kept.
//!
//! ```text
//! Online            All ─────────────────► Clear
//! Away, Back        Attach ─► Away ─► Back ─► Clear       the measured one: Away, or Back
//! ```

use crate::plan::Plan;
use crate::report::{Faults, Outcome};
use crate::run::{self, Carried, Place, RunError};

/// Whether the subscribers' sessions outlive their connections, and which stage is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sessions {
    /// They end with their connections.
    Clean,
    /// They outlive them, and are connected all the time.
    Online,
    /// Measured is the time they are away.
    Away,
    /// Measured is their return.
    Back,
}

/// Who is there in one run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Everybody.
    All,
    /// The subscribers come, subscribe, and go.
    Attach,
    /// The publishers alone.
    Away,
    /// The subscribers, whose sessions are there.
    Back,
    /// The subscribers come for a moment, so that nothing is left of their sessions.
    Clear,
}

impl Stage {
    /// Whether publishers are connected.
    pub(crate) fn has_publishers(self) -> bool {
        matches!(self, Stage::All | Stage::Away)
    }

    /// Whether subscribers are connected.
    pub(crate) fn has_subscribers(self) -> bool {
        self != Stage::Away
    }

    /// Whether messages arrive.
    pub(crate) fn delivers(self) -> bool {
        matches!(self, Stage::All | Stage::Back)
    }
}

/// Runs all stages of a plan.
pub(crate) fn run(plan: &Plan, place: &Place) -> Result<Outcome, RunError> {
    let mut carried = Carried::new();
    let outcome = match plan.sessions {
        Sessions::Clean | Sessions::Online => run::run_stage(plan, place, &mut carried)?,
        Sessions::Away => {
            let (away, back) = (fill(plan, place, &mut carried)?, fetch(plan, place, &mut carried)?);
            with_faults_of(away, &back)
        }
        Sessions::Back => {
            let (away, back) = (fill(plan, place, &mut carried)?, fetch(plan, place, &mut carried)?);
            with_faults_of(back, &away)
        }
    };
    let clear = run::run_stage(&at(plan, Stage::Clear), place, &mut carried)?;
    Ok(with_faults_of(outcome, &clear))
}

/// Sessions are made, and their queues filled while nobody is there.
pub(crate) fn fill(plan: &Plan, place: &Place, carried: &mut Carried) -> Result<Outcome, RunError> {
    let attach = run::run_stage(&at(plan, Stage::Attach), place, carried)?;
    let away = run::run_stage(&at(plan, Stage::Away), place, carried)?;
    Ok(with_faults_of(away, &attach))
}

/// The sessions come back for what is theirs.
pub(crate) fn fetch(plan: &Plan, place: &Place, carried: &mut Carried) -> Result<Outcome, RunError> {
    run::run_stage(&at(plan, Stage::Back), place, carried)
}

fn at(plan: &Plan, stage: Stage) -> Plan {
    Plan { stage, ..plan.clone() }
}

/// The outcome of one stage with what went wrong in another.
fn with_faults_of(mut outcome: Outcome, other: &Outcome) -> Outcome {
    let (one, two) = (outcome.faults, other.faults);
    outcome.faults = Faults {
        lost: one.lost + two.lost,
        undelivered: one.undelivered + two.undelivered,
        duplicates: one.duplicates + two.duplicates,
        reordered: one.reordered + two.reordered,
        misrouted: one.misrouted + two.misrouted,
        corrupt: one.corrupt + two.corrupt,
        foreign: one.foreign + two.foreign,
        refused: one.refused + two.refused,
        unacknowledged: one.unacknowledged + two.unacknowledged,
    };
    outcome.connect.failed += other.connect.failed;
    outcome.errors.extend(other.errors.iter().cloned());
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a later stage finds lost or cannot connect is a fault of the measured one.
    #[test]
    fn faults_of_every_stage_count() {
        let lost = Faults { lost: 2, unacknowledged: 1, ..Faults::default() };
        let mut back = Outcome { faults: lost, errors: vec!["gone".to_owned()], ..Outcome::default() };
        back.connect.failed = 3;
        let away = Outcome { faults: Faults { lost: 1, ..lost }, sent: 7, ..Outcome::default() };
        let outcome = with_faults_of(away, &back);
        assert_eq!((outcome.sent, outcome.faults.lost, outcome.faults.unacknowledged), (7, 3, 2));
        assert_eq!((outcome.connect.failed, outcome.errors.len()), (3, 1));
        assert!(!outcome.is_clean());
    }

    /// Client ids are the same in all stages: a connection's number does not depend on who is there.
    #[test]
    fn numbers_do_not_depend_on_the_stage() {
        use crate::connector::jobs;
        let plan = crate::scenario::find("offline-enqueue").expect("a scenario").plan();
        let all = jobs(&plan, 0, 2);
        let mut parts = jobs(&at(&plan, Stage::Back), 0, 2);
        assert_eq!(parts, jobs(&at(&plan, Stage::Attach), 0, 2));
        parts.extend(jobs(&at(&plan, Stage::Away), 0, 2));
        assert_eq!(parts, all);
        let connections = |stage| at(&plan, stage).connections();
        assert_eq!(connections(Stage::All), connections(Stage::Away) + connections(Stage::Back));
    }
}
