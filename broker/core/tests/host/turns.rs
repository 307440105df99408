//! The order of events in a test's hands: which mailboxes are looked into, and what comes in one turn.

use broker_core::identity::CoreId;
use mqtt::{Connect, Packet, QoS};

use super::Node;
use super::client::Client;
use super::packets::{connect_packet, subscribe_packet};
use super::world::{World, core_at};

impl Node {
    /// Messages from one core to another stay in their mailbox.
    pub fn hold_mail(&self, from: u16, to: u16) {
        self.world.borrow_mut().held_mail.insert((CoreId(from), CoreId(to)));
    }

    /// From now on messages from one core to another are lost.
    pub fn lose_mail(&self, from: u16, to: u16) {
        self.world.borrow_mut().lost_mail.insert((CoreId(from), CoreId(to)));
    }

    /// No messages are lost any more.
    pub fn lose_no_mail(&self) {
        self.world.borrow_mut().lost_mail.clear();
    }

    /// Requests between cores that are not answered.
    pub fn requests(&self) -> usize {
        self.world.borrow().cores.iter().map(|core| core.usage().requests).sum()
    }

    /// All mailboxes are looked into again.
    pub fn release_mail(&self) {
        self.world.borrow_mut().held_mail.clear();
        self.run();
    }

    /// The same, for turns to come.
    pub fn open_mail(&self) {
        self.world.borrow_mut().held_mail.clear();
    }

    /// Batches in the mailboxes.
    pub fn mail(&self) -> usize {
        self.world.borrow().mail.iter().map(std::collections::VecDeque::len).sum()
    }

    /// Messages in the mailboxes.
    pub fn mailed_messages(&self) -> usize {
        self.world.borrow().mail.iter().flatten().map(|(_, messages)| messages.len()).sum()
    }

    /// Messages that a core has been sent so far.
    pub fn messages_mailed_to(&self, core: u16) -> usize {
        self.world.borrow().mailed.get(&usize::from(core)).copied().unwrap_or(0)
    }

    /// The most messages that one core has sent another in one turn since this was asked last.
    pub fn take_batch_max(&self) -> usize {
        std::mem::take(&mut self.world.borrow_mut().batch_max)
    }

    /// The most connections to which one turn has given something to send since this was asked last.
    pub fn take_dirty_max(&self) -> usize {
        std::mem::take(&mut self.world.borrow_mut().dirty_max)
    }

    /// Messages that have not reached all their sessions yet.
    pub fn postponed(&self) -> usize {
        self.world.borrow().cores.iter().map(|core| core.usage().postponed).sum()
    }

    /// From now on a turn takes all that there is: mail, then bytes of all sockets, then what is due.
    pub fn take_whole_turns(&self) {
        self.world.borrow_mut().whole_turns = true;
    }

    /// Turns until nothing is left to do: after [`Client::push`].
    pub fn run(&self) {
        self.world.borrow_mut().run();
    }

    /// One round of whole turns, one for each core.
    pub fn run_once(&self) {
        self.world.borrow_mut().take_whole_turns();
    }
}

impl Client {
    /// Sends bytes that the node will find when it runs next.
    pub fn push(&mut self, bytes: &[u8]) {
        self.node.world.borrow_mut().sockets[self.index].inbound.extend(bytes);
    }

    /// The same of a CONNECT.
    pub fn push_connect(&mut self, connect: &Connect<'_>) {
        self.version = connect.version;
        self.push(&connect_packet(connect));
    }

    /// Subscribes, one round of turns after the other until SUBACK has come: what follows from it is on its way.
    pub fn subscribe_by_turns(&mut self, filter: &str, qos: QoS) -> Vec<Packet<'static>> {
        self.push(&subscribe_packet(self.version, 1, filter, qos));
        let mut came = Vec::new();
        for _ in 0..20 {
            self.node.run_once();
            came.extend(self.packets());
            if came.iter().any(|packet| matches!(packet, Packet::SubAck(_))) {
                break;
            }
        }
        came
    }

    /// A client that does not read takes at most so many bytes, this once.
    pub fn read(&mut self, bytes_max: usize) {
        let mut world = self.node.world.borrow_mut();
        world.send_upto(self.index, bytes_max);
        world.run();
    }

    /// Bytes that the broker holds for the client.
    pub fn unsent(&self) -> usize {
        let world = self.node.world.borrow();
        let Some((core, connection)) = world.sockets[self.index].place else { return 0 };
        world.cores[core.index()].unsent(connection).map(<[u8]>::len).sum()
    }
}

impl World {
    /// One turn of each core that has something to do, in the shell's order.
    pub(super) fn take_whole_turns(&mut self) -> bool {
        let mut worked = false;
        for index in 0..self.cores.len() {
            let core = core_at(index);
            let mut has_input = false;
            while self.deliver_mail(core) {
                has_input = true;
            }
            for socket in 0..self.sockets.len() {
                if self.sockets[socket].place.is_some_and(|(other, _)| other == core) {
                    has_input |= self.receive(socket).is_some();
                }
            }
            has_input |= self.on_timeout(core);
            if has_input {
                self.turn(core);
            }
            worked |= has_input;
        }
        worked
    }
}
