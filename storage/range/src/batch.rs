//! Hot path. The commands of a turn, on their way to become one entry.

use crate::format::entry::{BatchV1, encode_content};
use crate::format::length;
use crate::identity::{Ticket, Wall};

/// Commands that will be one entry.
#[derive(Default)]
pub(crate) struct Batch {
    commands: BatchV1,
    payloads: Vec<u8>,
    tickets: Vec<Ticket>,
}

impl Batch {
    pub(crate) fn is_empty(&self) -> bool {
        self.tickets.is_empty()
    }

    /// Bytes of bodies and payloads, and what the batch adds for each command.
    pub(crate) fn bytes(&self) -> usize {
        self.commands.bodies.len() + self.payloads.len() + 8 * self.tickets.len()
    }

    pub(crate) fn commands(&self) -> usize {
        self.tickets.len()
    }

    /// Bytes of bodies and payloads alone.
    pub(crate) fn command_bytes(&self) -> usize {
        self.commands.bodies.len() + self.payloads.len()
    }

    pub(crate) fn push(&mut self, ticket: Ticket, body: &[u8], payload: &[u8]) {
        self.commands.bodies.extend_from_slice(body);
        self.payloads.extend_from_slice(payload);
        self.commands.ends.push(length(self.commands.bodies.len()));
        self.commands.payloads.push(length(self.payloads.len()));
        self.tickets.push(ticket);
    }

    /// Raft's content and the tickets; the batch is empty again and keeps its memory.
    pub(crate) fn take(&mut self, wall: Wall) -> (Vec<u8>, Vec<Ticket>) {
        self.commands.wall = wall.0;
        let content = encode_content(&self.commands, &self.payloads);
        self.commands.bodies.clear();
        self.commands.ends.clear();
        self.commands.payloads.clear();
        self.payloads.clear();
        (content, std::mem::take(&mut self.tickets))
    }

    pub(crate) fn take_tickets(&mut self) -> Vec<Ticket> {
        self.take(Wall(0)).1
    }
}
