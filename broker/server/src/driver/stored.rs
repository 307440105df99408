//! The logs' part of a turn: what they ask for is begun, what is done is told to them. First of all that is
//! acted on, so that the disk works while the rest of the turn goes on.

use std::time::Duration;

use broker_core::input::Input;

use super::Driver;
use crate::node::Event;

/// How long the logs may take to be written at the end of an orderly stop.
pub(crate) const FLUSH_DEADLINE: Duration = Duration::from_secs(10);

impl Driver {
    /// Takes what the disk has done: as much as there is, for the logs ask for a bounded number of things.
    pub(super) fn take_stored(&mut self) {
        let mut answered = false;
        while let Some(answer) = self.storage.as_mut().and_then(|storage| storage.next(&mut self.poller)) {
            answered = true;
            self.input(Input::Storage(answer));
        }
        if answered && self.core.is_poisoned() {
            self.tell_poison();
        }
    }

    fn tell_poison(&mut self) {
        let why = self.storage.as_ref().and_then(|storage| storage.poison(&self.core));
        if let Some(why) = why
            && !std::mem::replace(&mut self.is_poison_told, true)
        {
            self.tell(Event::Poisoned(self.id, why));
        }
    }

    /// Begins what the logs ask for.
    pub(super) fn serve_logs(&mut self) {
        let storage = self.storage.as_mut().expect("logs in memory serve themselves");
        for request in self.outputs.storage.drain(..) {
            storage.serve(request, &self.core, &mut self.poller);
        }
    }

    /// Writes all that was appended, and behind it that it is written: the last that the core does.
    pub(super) fn close_logs(&mut self) {
        if self.storage.is_none() {
            return;
        }
        self.now = self.clock.now();
        let deadline = self.now.monotonic.after(FLUSH_DEADLINE);
        loop {
            self.core.close_logs(self.now);
            self.end_turn();
            self.serve_logs();
            if self.core.logs_are_closed() || self.core.is_poisoned() {
                return;
            }
            if self.now.monotonic >= deadline {
                self.tell(Event::Poisoned(self.id, "its logs could not be written in time".to_owned()));
                return;
            }
            self.poller.poll(FLUSH_DEADLINE / 100, &mut self.reports);
            self.reports.clear();
            self.now = self.clock.now();
            self.take_stored();
        }
    }
}
