//! What a client acts upon: the node, the time, and the history its doings are written into.

use broker_core::time::Mono;

use crate::checkers::Checkers;
use crate::history::{Fact, Got, History, Sent};
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
    /// Packets that clients have sent or got, those of keep alive apart.
    pub exchanged: u64,
}

impl World {
    /// Writes a fact into the history and shows it to the checkers.
    pub fn fact(&mut self, fact: Fact) {
        let keeps_alive = matches!(fact, Fact::Sent(_, Sent::Ping) | Fact::Got(_, Got::Pong));
        self.exchanged += u64::from(matches!(fact, Fact::Sent(..) | Fact::Got(..)) && !keeps_alive);
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
