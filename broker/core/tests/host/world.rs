//! The cores, the sockets between them and the clients, the mailboxes between the cores, and the time.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use broker_core::Core;
use broker_core::access::{AccessList, Decided, Verdict};
use broker_core::config::Config;
use broker_core::identity::{ConnectionId, CoreId};
use broker_core::input::{Close, Handover, HearOut, Input, Outputs, RECEIVE_BYTES_MAX};
use broker_core::notice::Notice;
use broker_core::peer::PeerMessage;
use broker_core::sight::{Answer, Ask};
use broker_core::time::{Mono, Now, Wall};

use super::Asked;
use super::disks::Disks;

/// Where the two clocks begin.
const MONO_START: u64 = 5_000_000_000;
const WALL_START: u64 = 1_700_000_000_000;

/// Turns after which a node that still has work is taken to run in circles.
const TURNS_MAX: usize = 1_000_000;

/// One socket, both ends of it.
pub struct Socket {
    /// The broker's end: which core has it, and under what name. None: the broker has let go of it.
    pub place: Option<(CoreId, ConnectionId)>,
    /// Sent by the client, not received by the broker.
    pub inbound: VecDeque<u8>,
    /// Received by the client.
    pub received: Vec<u8>,
    /// The client reads. If it does not, nothing leaves the broker's buffers.
    pub reads: bool,
    /// The client closes its end when the broker has closed the other.
    pub closes: bool,
    /// The broker has shut its sending side down, or will when all is sent.
    shutting_down: bool,
    /// When the client saw the end, by the node's numbering of events.
    pub closed_at: Option<u64>,
    /// When the client's first byte came.
    pub first_byte_at: Option<u64>,
}

pub struct World {
    pub(super) config: Arc<Config>,
    /// Where the logs are, unless they are in memory.
    pub(super) disks: Option<Disks>,
    /// Starts after the first.
    pub(super) starts: u64,
    pub cores: Vec<Core>,
    pub(super) outputs: Vec<Outputs>,
    pub sockets: Vec<Socket>,
    by_place: BTreeMap<(CoreId, ConnectionId), usize>,
    /// Per core: the generation of each slot, and the slots that are free.
    generations: Vec<Vec<u32>>,
    free: Vec<Vec<u32>>,
    /// Batches on their way, by receiver.
    pub(super) mail: Vec<VecDeque<(CoreId, Vec<PeerMessage>)>>,
    /// Mailboxes that are not looked into, by sender and receiver.
    pub(super) held_mail: BTreeSet<(CoreId, CoreId)>,
    /// Mailboxes that lose what is put into them, by sender and receiver.
    pub(super) lost_mail: BTreeSet<(CoreId, CoreId)>,
    /// A turn takes all that there is, as the shell's does, and not one input.
    pub(super) whole_turns: bool,
    handovers: VecDeque<(usize, CoreId, Box<Handover>)>,
    /// The broker's ends that are to be told of their socket's end.
    closed: VecDeque<(CoreId, ConnectionId)>,
    pub questions: Vec<Asked>,
    /// What cores have answered to their operator.
    answers: Vec<Answer>,
    /// What they have told of what happened.
    pub notices: Vec<Notice>,
    now: Now,
    pub piece_bytes: usize,
    /// The most messages that one core has sent another in one turn.
    pub(super) batch_max: usize,
    /// Messages that each core has been sent so far.
    pub(super) mailed: BTreeMap<usize, usize>,
    /// The most connections to which one turn has given something to send.
    pub(super) dirty_max: usize,
    acceptor: u16,
    events: u64,
}

impl World {
    pub fn new(config: Config, seed: u64) -> World {
        let config = Arc::new(config);
        World::of(&config, |core, now| Core::new(Arc::clone(&config), core, 1_700_000_000_000, seed, now))
    }

    /// A world of cores that are made one by one.
    pub fn of(config: &Arc<Config>, make: impl Fn(CoreId, Now) -> Core) -> World {
        let now = Now { monotonic: Mono(MONO_START), wall: Wall(WALL_START) };
        let cores = config.cores;
        let lists = usize::from(cores);
        World {
            config: Arc::clone(config),
            disks: None,
            starts: 0,
            cores: (0..cores).map(|core| make(CoreId(core), now)).collect(),
            outputs: (0..cores).map(|_| Outputs::new(cores)).collect(),
            sockets: Vec::new(),
            by_place: BTreeMap::new(),
            generations: vec![Vec::new(); lists],
            free: vec![Vec::new(); lists],
            mail: (0..cores).map(|_| VecDeque::new()).collect(),
            held_mail: BTreeSet::new(),
            lost_mail: BTreeSet::new(),
            whole_turns: false,
            handovers: VecDeque::new(),
            closed: VecDeque::new(),
            questions: Vec::new(),
            answers: Vec::new(),
            notices: Vec::new(),
            now,
            piece_bytes: RECEIVE_BYTES_MAX,
            batch_max: 0,
            mailed: BTreeMap::new(),
            dirty_max: 0,
            acceptor: 0,
            events: 0,
        }
    }

    pub fn elapsed(&self) -> Duration {
        self.now.monotonic.since(Mono(MONO_START))
    }

    pub(super) fn now(&self) -> Now {
        self.now
    }

    /// The broker's end of a socket is gone with the broker.
    pub(super) fn lose_socket(&mut self, index: usize) {
        if self.sockets[index].place.take().is_some() {
            self.note_closed(index);
        }
    }

    /// What was on its way is lost, and the cores begin anew, so many of them.
    pub(super) fn forget_mail(&mut self, cores: u16) {
        let lists = usize::from(cores);
        self.by_place.clear();
        (self.generations, self.free) = (vec![Vec::new(); lists], vec![Vec::new(); lists]);
        self.mail = (0..cores).map(|_| VecDeque::new()).collect();
        self.handovers.clear();
        self.closed.clear();
        self.acceptor = 0;
    }

    pub fn wall(&self) -> Wall {
        self.now.wall
    }

    pub fn shift_wall_clock(&mut self, milliseconds: i64) {
        self.now.wall.0 = self.now.wall.0.checked_add_signed(milliseconds).expect("after 1970");
    }

    pub fn advance(&mut self, duration: Duration) {
        let target = self.now.monotonic.after(duration);
        self.run();
        while let Some(due) = self.cores.iter().filter_map(Core::next_timeout).min() {
            if due > target {
                break;
            }
            self.move_to(due);
            self.run();
        }
        self.move_to(target);
        self.run();
    }

    /// Time passes, and nobody is called.
    pub(super) fn move_to(&mut self, to: Mono) {
        let before = self.elapsed().as_millis();
        self.now.monotonic = self.now.monotonic.max(to);
        let passed = u64::try_from(self.elapsed().as_millis() - before).expect("a test's time");
        self.now.wall.0 += passed;
    }

    pub fn next_acceptor(&mut self) -> u16 {
        let core = self.acceptor;
        self.acceptor = (core + 1) % u16::try_from(self.cores.len()).expect("few cores");
        core
    }

    /// All cores get another configuration.
    pub fn configure(&mut self, config: Config) {
        let config = Arc::new(config);
        for index in 0..self.cores.len() {
            let input = Input::Configure(Arc::clone(&config));
            self.cores[index].on_input(self.now, input, &mut self.outputs[index]);
            self.turn(core_at(index));
        }
        self.run();
    }

    pub fn accept(&mut self, core: CoreId, listener: u16) -> usize {
        let connection = self.name(core);
        let index = self.sockets.len();
        self.sockets.push(Socket {
            place: Some((core, connection)),
            inbound: VecDeque::new(),
            received: Vec::new(),
            reads: true,
            closes: true,
            shutting_down: false,
            closed_at: None,
            first_byte_at: None,
        });
        self.by_place.insert((core, connection), index);
        let out = &mut self.outputs[core.index()];
        let accepted = Input::ClientAccepted { connection, listener, peer: None };
        self.cores[core.index()].on_input(self.now, accepted, out);
        self.turn(core);
        self.run();
        index
    }

    /// A free slot of a core, under a generation never used before.
    fn name(&mut self, core: CoreId) -> ConnectionId {
        let generations = &mut self.generations[core.index()];
        let slot = self.free[core.index()].pop().unwrap_or_else(|| {
            generations.push(0);
            u32::try_from(generations.len() - 1).expect("few sockets")
        });
        let generation = &mut generations[slot as usize];
        *generation += 1;
        ConnectionId { slot, generation: *generation }
    }

    fn release(&mut self, core: CoreId, connection: ConnectionId) {
        self.by_place.remove(&(core, connection));
        self.free[core.index()].push(connection.slot);
    }

    pub fn stop(&mut self) {
        for index in 0..self.cores.len() {
            self.cores[index].on_input(self.now, Input::Stop, &mut self.outputs[index]);
            self.turn(core_at(index));
        }
        self.run();
    }

    pub fn access_list(&mut self, list: Option<AccessList>) {
        let list = list.map(Arc::new);
        for index in 0..self.cores.len() {
            let input = Input::AccessList(list.clone());
            self.cores[index].on_input(self.now, input, &mut self.outputs[index]);
            self.turn(core_at(index));
        }
        self.run();
    }

    /// All cores get the same input.
    pub fn tell_all(&mut self, input: impl Fn() -> Input<'static>) {
        for index in 0..self.cores.len() {
            self.cores[index].on_input(self.now, input(), &mut self.outputs[index]);
            self.turn(core_at(index));
        }
        self.run();
    }

    /// A core gets an input about a client.
    pub fn tell_of(&mut self, index: usize, input: impl Fn(ConnectionId) -> Input<'static>) {
        let (core, connection) = self.sockets[index].place.expect("it is open");
        self.cores[core.index()].on_input(self.now, input(connection), &mut self.outputs[core.index()]);
        self.turn(core);
        self.run();
    }

    pub fn answer(&mut self, asked: &Asked, verdict: Verdict) {
        let decided = Decided { connection: asked.question.connection, verdict };
        let index = asked.core.index();
        self.cores[index].on_input(self.now, Input::Decided(decided), &mut self.outputs[index]);
        self.turn(asked.core);
        self.run();
    }

    /// An operator's question to a core. Its answer, if it has come when nothing is left to do.
    pub fn ask(&mut self, core: CoreId, ask: Ask) -> Option<Answer> {
        let number = ask.number;
        let index = core.index();
        self.cores[index].on_input(self.now, Input::Ask(Box::new(ask)), &mut self.outputs[index]);
        self.turn(core);
        self.run();
        self.answer_to(number)
    }

    /// An operator's answer that has come.
    pub fn answer_to(&mut self, number: u64) -> Option<Answer> {
        let at = self.answers.iter().position(|answer| answer.number == number)?;
        Some(self.answers.swap_remove(at))
    }

    /// The transport has proved which user a client is.
    pub fn certify(&mut self, index: usize, user: &str) {
        let (core, connection) = self.sockets[index].place.expect("it is open");
        let input = Input::ClientCertified { connection, user: user.to_owned() };
        self.cores[core.index()].on_input(self.now, input, &mut self.outputs[core.index()]);
        self.turn(core);
        self.run();
    }

    /// The client's end goes away: what the broker still sends is lost, what it has not received too.
    pub fn drop_socket(&mut self, index: usize) {
        self.note_closed(index);
        let socket = &mut self.sockets[index];
        socket.inbound.clear();
        if let Some((core, connection)) = socket.place.take() {
            self.closed.push_back((core, connection));
        }
        self.run();
    }

    /// Turns until nothing is left to do at this moment.
    pub fn run(&mut self) {
        let worked = (0..TURNS_MAX).take_while(|_| self.step()).count();
        assert!(worked < TURNS_MAX, "the node does not come to rest");
    }

    /// Everybody does what there is to do; false if there was nothing.
    pub(super) fn step(&mut self) -> bool {
        let mut worked = self.tell_of_closed();
        worked |= self.hand_over();
        if self.whole_turns {
            worked |= self.take_whole_turns();
        } else {
            worked |= self.take_single_turns();
        }
        worked || self.step_disks()
    }

    /// One input a turn.
    fn take_single_turns(&mut self) -> bool {
        let mut worked = false;
        for index in 0..self.cores.len() {
            let core = core_at(index);
            if self.deliver_mail(core) {
                self.turn(core);
                worked = true;
            }
            if self.on_timeout(core) {
                self.turn(core);
                worked = true;
            }
        }
        for index in 0..self.sockets.len() {
            if let Some(core) = self.receive(index) {
                self.turn(core);
                worked = true;
            }
        }
        worked
    }

    fn tell_of_closed(&mut self) -> bool {
        let Some((core, connection)) = self.closed.pop_front() else { return false };
        self.release(core, connection);
        let closed = Input::ClientClosed { connection };
        self.cores[core.index()].on_input(self.now, closed, &mut self.outputs[core.index()]);
        self.turn(core);
        true
    }

    fn hand_over(&mut self) -> bool {
        let Some((index, core, handover)) = self.handovers.pop_front() else { return false };
        let connection = self.name(core);
        self.sockets[index].place = Some((core, connection));
        self.by_place.insert((core, connection), index);
        let input = Input::ClientHandedOver { connection, handover };
        self.cores[core.index()].on_input(self.now, input, &mut self.outputs[core.index()]);
        self.turn(core);
        true
    }

    /// The next batch for a core, if there is any.
    pub(super) fn deliver_mail(&mut self, core: CoreId) -> bool {
        let held = &self.held_mail;
        let open = |(from, _): &(CoreId, Vec<PeerMessage>)| !held.contains(&(*from, core));
        let Some(at) = self.mail[core.index()].iter().position(open) else { return false };
        let (from, messages) = self.mail[core.index()].remove(at).expect("found above");
        let input = Input::PeerMessages { from, messages };
        self.cores[core.index()].on_input(self.now, input, &mut self.outputs[core.index()]);
        true
    }

    /// What is due on a core.
    pub(super) fn on_timeout(&mut self, core: CoreId) -> bool {
        let state = &mut self.cores[core.index()];
        if state.next_timeout().is_none_or(|due| due > self.now.monotonic) {
            return false;
        }
        state.on_timeout(self.now, &mut self.outputs[core.index()]);
        true
    }

    /// Bytes of one socket, if there are any and its core wants them: the core that took them.
    pub(super) fn receive(&mut self, index: usize) -> Option<CoreId> {
        let socket = &mut self.sockets[index];
        let (core, connection) = socket.place?;
        let state = &mut self.cores[core.index()];
        // A broker that has shut down reads and discards.
        let wanted = socket.shutting_down || (state.wants_bytes(connection) && state.wants_clients());
        if socket.inbound.is_empty() || !wanted {
            return None;
        }
        let bytes: Vec<u8> = socket.inbound.drain(..socket.inbound.len().min(self.piece_bytes)).collect();
        if !socket.shutting_down {
            let input = Input::ClientBytes { connection, bytes: &bytes };
            state.on_input(self.now, input, &mut self.outputs[core.index()]);
        }
        Some(core)
    }

    /// Ends a core's turn and does what it asks for; again, if it is told something by that.
    pub(super) fn turn(&mut self, core: CoreId) {
        while self.turn_once(core) {}
    }

    /// Does what a core asks for in the order that it asks for. True if it has been told something.
    fn turn_once(&mut self, core: CoreId) -> bool {
        let index = core.index();
        self.cores[index].end_turn(self.now, &mut self.outputs[index]);
        let out = std::mem::replace(&mut self.outputs[index], Outputs::new(count(&self.cores)));
        self.dirty_max = self.dirty_max.max(out.dirty.len());
        self.notices.extend(out.notices);
        for (connection, how) in out.close {
            let Some(socket) = self.by_place.get(&(core, connection)).copied() else { continue };
            self.close(socket, how);
        }
        for (connection, to, handover) in out.handover {
            let socket = self.by_place[&(core, connection)];
            self.release(core, connection);
            self.sockets[socket].place = None;
            self.handovers.push_back((socket, to, handover));
        }
        let heard = self.hear_out(core, &out.hear_out);
        for connection in out.dirty {
            // One that was closed or handed over this turn is gone already.
            if let Some(socket) = self.by_place.get(&(core, connection)).copied() {
                self.send(socket);
            }
        }
        for connection in out.resumed {
            assert!(
                self.cores[index].wants_bytes(connection) || !self.by_place.contains_key(&(core, connection)),
                "a resumed connection wants bytes"
            );
        }
        for (to, messages) in out.messages.into_iter().enumerate() {
            if !messages.is_empty() && !self.lost_mail.contains(&(core, core_at(to))) {
                self.batch_max = self.batch_max.max(messages.len());
                *self.mailed.entry(to).or_default() += messages.len();
                self.mail[to].push_back((core, messages));
            }
        }
        self.answers.extend(out.answers);
        let answered = self.serve_storage(core, out.storage);
        self.questions.extend(out.questions.into_iter().map(|question| Asked { core, question }));
        heard || answered
    }

    /// Gives a core what the sockets of former connections hold, before newer ones take over. True if there were any.
    fn hear_out(&mut self, core: CoreId, all: &[HearOut]) -> bool {
        for &HearOut { former, newcomer } in all {
            let socket = self.by_place.get(&(core, former)).copied();
            while socket.is_some_and(|socket| self.receive(socket).is_some()) {}
            let input = Input::ClientHeardOut { connection: newcomer };
            self.cores[core.index()].on_input(self.now, input, &mut self.outputs[core.index()]);
        }
        !all.is_empty()
    }

    fn close(&mut self, index: usize, how: Close) {
        match how {
            Close::Flush => {
                self.sockets[index].shutting_down = true;
                self.send(index);
            }
            Close::Abort => {
                self.note_closed(index);
                if let Some((core, connection)) = self.sockets[index].place.take() {
                    self.closed.push_back((core, connection));
                }
            }
        }
    }

    /// Gives a connection's unsent bytes to its client, who may see the end behind them.
    pub fn send(&mut self, index: usize) {
        if self.sockets[index].reads {
            self.send_upto(index, usize::MAX);
        }
    }

    /// The same for at most so many bytes, whether the client reads or not.
    pub(super) fn send_upto(&mut self, index: usize, bytes_max: usize) {
        let socket = &mut self.sockets[index];
        let Some((core, connection)) = socket.place else { return };
        let before = socket.received.len();
        for slice in self.cores[core.index()].unsent(connection) {
            let room = bytes_max - (socket.received.len() - before);
            socket.received.extend_from_slice(&slice[..slice.len().min(room)]);
        }
        let bytes = socket.received.len() - before;
        if bytes > 0 {
            self.events += 1;
            socket.first_byte_at.get_or_insert(self.events);
            let input = Input::ClientSent { connection, bytes };
            self.cores[core.index()].on_input(self.now, input, &mut self.outputs[core.index()]);
            self.turn(core);
        }
        self.end_of_stream(index);
    }

    fn end_of_stream(&mut self, index: usize) {
        let socket = &mut self.sockets[index];
        let Some((core, connection)) = socket.place else { return };
        if !socket.shutting_down || self.cores[core.index()].unsent(connection).next().is_some() {
            return;
        }
        let closes = socket.closes;
        self.note_closed(index);
        if closes {
            self.sockets[index].place = None;
            self.closed.push_back((core, connection));
        }
    }

    fn note_closed(&mut self, index: usize) {
        self.events += 1;
        self.sockets[index].closed_at.get_or_insert(self.events);
    }
}

fn count(cores: &[Core]) -> u16 {
    u16::try_from(cores.len()).expect("few cores")
}

pub(super) fn core_at(index: usize) -> CoreId {
    CoreId(u16::try_from(index).expect("few cores"))
}
