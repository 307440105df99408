//! What a client acts upon: the node, the time, and the history its doings are written into.

use broker_core::time::Mono;

use crate::checkers::Checkers;
use crate::history::{Fact, History};
use crate::node::Node;

/// Everything around the clients.
pub struct World {
    /// The broker.
    pub node: Node,
    /// Virtual time.
    pub at: Mono,
    /// What has happened.
    pub history: History,
    /// Who watches it.
    pub checkers: Checkers,
}

impl World {
    /// Writes a fact into the history and shows it to the checkers.
    pub fn fact(&mut self, fact: Fact) {
        self.history.push(self.at, fact);
        let event = self.history.events.last().expect("just pushed");
        self.checkers.on(event, &self.history.messages);
    }

    /// The same for everything the node has to tell.
    pub fn node_facts(&mut self) {
        for fact in self.node.take_facts() {
            self.fact(fact);
        }
    }
}
