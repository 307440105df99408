//! The second half of a turn: what the core has decided is done, in the order that
//! [`Outputs`](broker_core::input::Outputs) asks for. Then the core is held against its side of the
//! contract.

use std::sync::Arc;
use std::time::Duration;

use broker_core::access::{Decided, Identity, Permissions, Question, Verdict};
use broker_core::identity::{ConnectionId, CoreId};
use broker_core::input::{Close, Handover, HearOut, Input};
use broker_core::time::Mono;
use mqtt::Packet;

use super::socket::{Place, Stage};
use super::{Breach, Item, Letter, Node};
use crate::history::{Fact, Link};

/// Rounds of acting in one turn: what is told at once may let the core decide more.
const ROUNDS_MAX: usize = 4;

impl Node {
    /// Works the outputs off; what a send or a close comes to is told at once, or kept for a later turn.
    pub(super) fn act(&mut self, core: usize, at: Mono, thorough: bool) {
        for _ in 0..ROUNDS_MAX {
            let at_once = thorough || self.random.percent(self.habits.report_percent);
            let told = self.act_once(core, at, at_once);
            if !told {
                break;
            }
            self.end_turn(core, at);
        }
        // What the last round's reports caused waits for nobody.
        self.act_once(core, at, false);
        self.post(core, at);
    }

    /// True if the core was told something.
    fn act_once(&mut self, core: usize, at: Mono, at_once: bool) -> bool {
        let outputs = &mut self.cores[core].outputs;
        let close = std::mem::take(&mut outputs.close);
        let handover = std::mem::take(&mut outputs.handover);
        let hear_out = std::mem::take(&mut outputs.hear_out);
        let dirty = std::mem::take(&mut outputs.dirty);
        outputs.greeted.clear();
        let resumed = std::mem::take(&mut outputs.resumed);
        let questions = std::mem::take(&mut outputs.questions);
        let storage = std::mem::take(&mut outputs.storage);
        let closes_late = self.breach == Some(Breach::ClosesLate);
        if closes_late {
            self.send_all(core, at, &dirty);
        }
        for (id, close) in close {
            self.close(core, at, id, close);
        }
        for (id, to, handover) in handover {
            self.hand_over(core, at, id, to, handover);
        }
        if !closes_late {
            self.send_all(core, at, &dirty);
        }
        for id in resumed {
            self.resume(core, at, id);
        }
        for question in questions {
            self.ask(core, at, &question);
        }
        self.store(core, at, storage);
        // What this causes is the next round's: closings before sendings.
        let mut told = !hear_out.is_empty();
        for HearOut { former, newcomer } in hear_out {
            self.hear_out(core, at, former, newcomer);
        }
        for index in 0..self.sockets.len() {
            let socket = &self.sockets[index];
            let ours = matches!(socket.place, Place::Open(place, _) if usize::from(place) == core);
            if at_once && ours && (socket.sent_unreported > 0 || socket.closed_unreported) {
                self.report(core, at, Link(index as u32));
                told = true;
            }
        }
        told
    }

    fn close(&mut self, core: usize, at: Mono, id: ConnectionId, close: Close) {
        self.trace.note(at, format_args!("core {core} -> {close:?} {id}"));
        // It may have gone by itself in this very turn.
        let Some(link) = self.link_at(core, id) else { return };
        self.facts.push(Fact::Closing(link));
        if self.socket(link).stage == Stage::Closed {
            return;
        }
        match close {
            Close::Abort => self.close_now(core, at, link, false),
            Close::Flush => {
                let socket = self.socket_mut(link);
                if socket.stage == Stage::Open {
                    socket.stage = Stage::Flushing;
                }
                socket.held = false; // From now on its bytes are discarded, so nothing holds them back.
            }
        }
    }

    /// The node's end is closed; the core is told when the socket is reported.
    pub(super) fn close_now(&mut self, core: usize, at: Mono, link: Link, by_client: bool) {
        let by = if by_client { "its client" } else { "the core" };
        self.trace.note(at, format_args!("core {core} closes link {}, by {by}", link.0));
        if by_client {
            self.facts.push(Fact::Closing(link));
        }
        let reset = !self.socket(link).to_node.is_empty() && self.random.one_in(2);
        let socket = self.socket_mut(link);
        socket.stage = Stage::Closed;
        socket.closed_unreported = true;
        socket.end = true;
        if reset {
            socket.to_client.clear(); // Closing with unread bytes resets, which may overtake what was sent.
        }
    }

    fn hand_over(&mut self, core: usize, at: Mono, id: ConnectionId, to: CoreId, handover: Box<Handover>) {
        self.trace.note(at, format_args!("core {core} -> {id} to core {}: {handover:?}", to.0));
        let Some(link) = self.link_at(core, id) else {
            self.facts.push(Fact::Contract(format!("core {core} handed over {id}, which is not its own")));
            return;
        };
        if self.socket(link).stage == Stage::Closed {
            return; // Closed in this very turn: the core will be told.
        }
        self.cores[core].slots[id.slot as usize].link = None;
        self.socket_mut(link).place = Place::Travelling;
        self.send_letter(core, usize::from(to.0), at, Item::Socket(link, handover));
    }

    /// Gives the core what a connection's socket holds, or some of it, before a newer one takes over.
    fn hear_out(&mut self, core: usize, at: Mono, former: ConnectionId, newcomer: ConnectionId) {
        self.trace.note(at, format_args!("core {core} -> hear {former} out for {newcomer}"));
        let thorough = self.random.percent(80);
        while let Some(link) = self.link_at(core, former)
            && self.socket(link).stage == Stage::Open
            && self.socket(link).is_readable()
            && self.cores[core].core.wants_clients()
            && self.cores[core].core.wants_bytes(former)
        {
            self.receive(core, at, link, thorough);
            if !thorough {
                break;
            }
        }
        self.input(core, at, Input::ClientHeardOut { connection: newcomer });
    }

    fn send_all(&mut self, core: usize, at: Mono, dirty: &[ConnectionId]) {
        for (index, id) in dirty.iter().enumerate() {
            if dirty[..index].contains(id) {
                self.facts.push(Fact::Contract(format!("core {core} named {id} dirty twice in a turn")));
            }
            if let Some(link) = self.link_at(core, *id) {
                self.send(core, at, link, *id);
            }
        }
        // And who has room again.
        for index in 0..self.sockets.len() {
            if let Place::Open(place, id) = self.sockets[index].place
                && usize::from(place) == core
                && !dirty.contains(&id)
            {
                self.send(core, at, Link(index as u32), id);
            }
        }
    }

    fn send(&mut self, core: usize, at: Mono, link: Link, id: ConnectionId) {
        let socket = self.socket(link);
        let busy = socket.sent_unreported > 0 || matches!(socket.stage, Stage::Lingering | Stage::Closed);
        if busy {
            return;
        }
        let slices: Vec<&[u8]> = self.cores[core].core.unsent(id).collect();
        let unsent = slices.concat();
        if unsent.is_empty() {
            self.flushed(link);
            return;
        }
        if socket.reset && self.random.one_in(2) {
            self.close_now(core, at, link, true); // The send fails.
            return;
        }
        let room = self.socket(link).room().min(unsent.len());
        if room == 0 {
            return;
        }
        let bytes = self.split(room);
        self.trace.bytes(at, format_args!("core {core} -> {id}"), &unsent[..bytes]);
        let greets = !std::mem::replace(&mut self.socket_mut(link).greeted, true);
        if greets {
            let version = self.socket(link).version;
            let accepted = match mqtt::decode(version, &unsent, &mqtt::Limits::PROTOCOL) {
                Ok(Some((Packet::ConnAck(connack), _))) => !connack.reason.is_error(),
                _ => false,
            };
            self.facts.push(Fact::Greeted { link, accepted });
        }
        let socket = self.socket_mut(link);
        if !socket.fin && !socket.reset {
            socket.to_client.extend(&unsent[..bytes]);
        }
        socket.sent_unreported = bytes;
        if bytes == unsent.len() {
            self.flushed(link);
        }
    }

    /// All is sent: a connection that is to be flushed ends its sending side.
    fn flushed(&mut self, link: Link) {
        let socket = self.socket_mut(link);
        if socket.stage == Stage::Flushing {
            socket.stage = Stage::Lingering;
            socket.end = true;
        }
    }

    fn resume(&mut self, core: usize, at: Mono, id: ConnectionId) {
        if self.breach == Some(Breach::ResumesNobody) {
            return;
        }
        self.trace.note(at, format_args!("core {core} -> resumed {id}"));
        if let Some(link) = self.link_at(core, id) {
            self.socket_mut(link).held = false;
        }
    }

    fn ask(&mut self, core: usize, at: Mono, question: &Question) {
        self.trace.note(at, format_args!("core {core} -> {question:?}"));
        let identity = Identity {
            tenant: Arc::from("default"),
            user: Arc::from(question.username.clone().unwrap_or_default()),
            response_information: None,
            expires: None,
            listed: false,
            permissions: Permissions::All,
        };
        let verdict = Verdict::Allow { identity, data: None };
        let delay = Duration::from_micros(self.random.below(self.habits.answer_us_max + 1));
        self.cores[core]
            .answers
            .push((at.after(delay), Decided { connection: question.connection, verdict }));
    }

    /// Sends the turn's messages, one batch for each core.
    fn post(&mut self, core: usize, at: Mono) {
        for to in 0..self.cores.len() {
            let messages = std::mem::take(&mut self.cores[core].outputs.messages[to]);
            if messages.is_empty() {
                continue;
            }
            self.trace.note(at, format_args!("core {core} -> core {to}: {messages:?}"));
            if to == core {
                self.facts.push(Fact::Contract(format!("core {core} sent a message to itself")));
            }
            self.send_letter(core, to, at, Item::Messages(messages));
        }
    }

    /// First in, first out for each pair, whatever the delays.
    fn send_letter(&mut self, from: usize, to: usize, at: Mono, item: Item) {
        let delay = if self.random.percent(self.habits.mail_slow_percent) {
            self.random.below(self.habits.mail_slow_us + 1)
        } else {
            self.random.below(self.habits.mail_us_max + 1)
        };
        let mailbox = from * self.cores.len() + to;
        let last = self.mailboxes[mailbox].back().map_or(Mono(0), |letter| letter.due);
        let due = at.after(Duration::from_micros(delay)).max(last);
        self.mailboxes[mailbox].push_back(Letter { due, item });
    }

    /// Holds the core against its side of the contract, and its sizes against their limits.
    pub(super) fn measure(&mut self, core: usize) {
        for index in 0..self.sockets.len() {
            let socket = &self.sockets[index];
            let Place::Open(place, id) = socket.place else { continue };
            if usize::from(place) != core {
                continue;
            }
            let bytes: usize = self.cores[core].core.unsent(id).map(<[u8]>::len).sum();
            if socket.held && self.cores[core].core.wants_bytes(id) {
                let text = format!("core {core} wants bytes of {id} again and did not say so (resumed)");
                self.facts.push(Fact::Contract(text));
                self.sockets[index].held = false;
            }
            if bytes >= self.sockets[index].unsent_max + 1024 {
                self.sockets[index].unsent_max = bytes;
                self.facts.push(Fact::Unsent { link: Link(index as u32), bytes });
            }
        }
        let cached = self.cores[core].core.usage().cached_topics;
        let cached_max = self.config.match_cache_topics_max;
        if cached > cached_max as usize {
            self.facts.push(Fact::Overflow(format!(
                "core {core} caches {cached} topics, at most {cached_max} (match_cache_topics_max)"
            )));
        }
    }
}
