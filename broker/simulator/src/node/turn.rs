//! The first half of a turn: what has happened becomes inputs of the core.

use broker_core::identity::{ConnectionId, CoreId};
use broker_core::input::{Handover, Input, RECEIVE_BYTES_MAX};
use broker_core::time::Mono;

use super::socket::{Place, Stage};
use super::{Item, Node, Slot, now};
use crate::history::{Fact, Link};

/// Something that can become an input.
#[derive(Clone, Copy, Debug)]
enum Chance {
    Accept(Link),
    Mail(usize),
    Report(Link),
    Receive(Link),
    Answer,
    Stored,
    Configure,
    Timers,
}

impl Node {
    /// One turn of one core. In a thorough one everything there is falls into it; otherwise some of it, and
    /// of each stream as much as the seed says.
    pub fn turn(&mut self, core: usize, at: Mono, thorough: bool) {
        self.cores[core].last_turn = at;
        self.trace.note(at, format_args!("core {core} turn"));
        let mut chances = self.chances(core, at);
        self.random.shuffle(&mut chances);
        for chance in chances {
            let timers = matches!(chance, Chance::Timers);
            if thorough || timers || self.random.percent(self.habits.input_percent) {
                self.take(core, at, chance, thorough);
            }
        }
        self.end_turn(core, at);
        self.act(core, at, thorough);
        self.measure(core);
    }

    fn chances(&mut self, core: usize, at: Mono) -> Vec<Chance> {
        let mut chances = Vec::new();
        let due = self.cores[core].core.next_timeout().is_some_and(|due| due <= at);
        if due || self.random.one_in(16) {
            chances.push(Chance::Timers); // Calling early does no harm, says the contract.
        }
        for from in 0..self.cores.len() {
            let mailbox = &self.mailboxes[from * self.cores.len() + core];
            let ready = mailbox.iter().take_while(|letter| letter.due <= at).count();
            chances.extend((0..ready).map(|_| Chance::Mail(from)));
        }
        if self.cores[core].answers.iter().any(|(due, _)| *due <= at) {
            chances.push(Chance::Answer);
        }
        chances.extend(self.cores[core].stored.iter().map(|_| Chance::Stored));
        chances.extend(self.cores[core].configs.iter().map(|_| Chance::Configure));
        for (index, socket) in self.sockets.iter().enumerate() {
            let link = Link(index as u32);
            match socket.place {
                Place::Listening(listener) if usize::from(listener) == core => {
                    chances.push(Chance::Accept(link));
                }
                Place::Open(place, _) if usize::from(place) == core => {
                    if socket.sent_unreported > 0 || socket.closed_unreported {
                        chances.push(Chance::Report(link));
                    }
                    if socket.is_readable() && !socket.held && socket.stage != Stage::Closed {
                        chances.push(Chance::Receive(link));
                    }
                }
                _ => {}
            }
        }
        chances
    }

    fn take(&mut self, core: usize, at: Mono, chance: Chance, thorough: bool) {
        match chance {
            Chance::Timers => {
                self.trace.note(at, format_args!("core {core} <- timers"));
                let hosted = &mut self.cores[core];
                hosted.core.on_timeout(now(at), &mut hosted.outputs);
            }
            Chance::Accept(link) => {
                let connection = self.take_slot(core, link);
                self.trace.note(at, format_args!("core {core} <- accepted {connection} = link {}", link.0));
                self.input(core, at, Input::ClientAccepted { connection, listener: 0, peer: None });
            }
            Chance::Mail(from) => self.take_mail(core, at, from),
            Chance::Answer => {
                let answers = &mut self.cores[core].answers;
                let Some(ready) = answers.iter().position(|(due, _)| *due <= at) else { return };
                let (_, decided) = answers.remove(ready);
                self.trace.note(at, format_args!("core {core} <- {decided:?}"));
                self.input(core, at, Input::Decided(decided));
            }
            Chance::Stored => {
                if let Some(answer) = self.cores[core].stored.pop_front() {
                    self.input(core, at, Input::Storage(answer));
                    self.note_fullness();
                }
            }
            Chance::Configure => {
                if let Some(config) = self.cores[core].configs.pop_front() {
                    self.trace.note(at, format_args!("core {core} <- another configuration"));
                    self.input(core, at, Input::Configure(config));
                }
            }
            Chance::Report(link) => self.report(core, at, link),
            Chance::Receive(link) => {
                // Asked anew for each: what came before in this turn may have changed it.
                if self.cores[core].core.wants_clients() {
                    self.receive(core, at, link, thorough);
                }
            }
        }
    }

    pub(super) fn input(&mut self, core: usize, at: Mono, input: Input<'_>) {
        let hosted = &mut self.cores[core];
        hosted.core.on_input(now(at), input, &mut hosted.outputs);
    }

    pub(super) fn end_turn(&mut self, core: usize, at: Mono) {
        let hosted = &mut self.cores[core];
        hosted.core.end_turn(now(at), &mut hosted.outputs);
        self.note_fullness();
    }

    /// The lowest free slot, under its next generation.
    fn take_slot(&mut self, core: usize, link: Link) -> ConnectionId {
        let slots = &mut self.cores[core].slots;
        let index = slots.iter().position(|slot| slot.link.is_none()).unwrap_or(slots.len());
        if index == slots.len() {
            slots.push(Slot { generation: 0, link: None });
        }
        let slot = &mut slots[index];
        slot.generation += 1;
        slot.link = Some(link);
        let id = ConnectionId { slot: index as u32, generation: slot.generation };
        let socket = self.socket_mut(link);
        socket.place = Place::Open(core as u16, id);
        socket.held = false;
        id
    }

    fn take_mail(&mut self, core: usize, at: Mono, from: usize) {
        let mailbox = from * self.cores.len() + core;
        if self.mailboxes[mailbox].front().is_none_or(|letter| letter.due > at) {
            return;
        }
        match self.mailboxes[mailbox].pop_front().expect("looked at just now").item {
            Item::Messages(messages) => {
                self.trace.note(at, format_args!("core {core} <- core {from}: {} messages", messages.len()));
                self.input(core, at, Input::PeerMessages { from: CoreId(from as u16), messages });
                self.note_fullness();
            }
            Item::Socket(link, handover) => self.take_over(core, at, link, handover),
        }
    }

    fn take_over(&mut self, core: usize, at: Mono, link: Link, handover: Box<Handover>) {
        let connection = self.take_slot(core, link);
        self.trace.note(at, format_args!("core {core} <- handed over {connection} = link {}", link.0));
        self.input(core, at, Input::ClientHandedOver { connection, handover });
    }

    /// Tells the core what a send or a close came to.
    pub(super) fn report(&mut self, core: usize, at: Mono, link: Link) {
        let socket = self.socket_mut(link);
        let Place::Open(_, connection) = socket.place else { return };
        let bytes = std::mem::take(&mut socket.sent_unreported);
        let closed = std::mem::take(&mut socket.closed_unreported);
        if bytes > 0 {
            self.trace.note(at, format_args!("core {core} <- sent {connection}: {bytes}"));
            self.input(core, at, Input::ClientSent { connection, bytes });
        }
        if closed {
            let unread = self.socket(link).to_node.len();
            self.trace.note(at, format_args!("core {core} <- closed {connection}"));
            self.input(core, at, Input::ClientClosed { connection });
            self.socket_mut(link).place = Place::Gone;
            self.cores[core].slots[connection.slot as usize].link = None;
            self.facts.push(Fact::Gone { link, unread });
            if self.cores[core].core.unsent(connection).any(|slice| !slice.is_empty()) {
                self.facts
                    .push(Fact::Contract(format!("unsent bytes of the closed connection {connection}")));
            }
        }
    }

    pub(super) fn receive(&mut self, core: usize, at: Mono, link: Link, thorough: bool) {
        let socket = &self.sockets[link.0 as usize];
        let Place::Open(_, connection) = socket.place else { return };
        if socket.stage == Stage::Closed {
            return;
        }
        let open = socket.stage == Stage::Open;
        if open && !self.cores[core].core.wants_bytes(connection) {
            self.socket_mut(link).held = true;
            self.trace.note(at, format_args!("core {core} does not want bytes of {connection}"));
            return;
        }
        let waiting = socket.to_node.len().min(RECEIVE_BYTES_MAX);
        if socket.reset || waiting == 0 {
            self.close_now(core, at, link, true);
            return;
        }
        let bytes = if thorough { waiting } else { self.split(waiting) };
        let later = self.socket_mut(link).to_node.split_off(bytes);
        let received = Vec::from(std::mem::replace(&mut self.socket_mut(link).to_node, later));
        if open {
            self.trace.bytes(at, format_args!("core {core} <- {connection}"), &received);
            self.input(core, at, Input::ClientBytes { connection, bytes: &received });
        }
    }

    /// How many of so many bytes come at once: all, some, or one.
    pub(super) fn split(&mut self, waiting: usize) -> usize {
        match self.random.weighted(&self.habits.split) {
            0 => waiting,
            1 => self.random.between(1, waiting as u64) as usize,
            _ => 1,
        }
    }
}
