//! Hot path. A publisher: as many messages as its window or its schedule allows, many per write.

use std::sync::atomic::Ordering::Relaxed;

use mqtt::{Ack, Packet, PacketKind, QoS, ReasonCode, Version, encode};

use crate::pace::share_of;
use crate::packet_ids::PacketIds;
use crate::payload::Stamp;
use crate::plan::{Load, Shape};
use crate::shared::{Phase, PublisherProgress, bump};
use crate::template::{Content, Template};
use crate::worker::Worker;

/// Bytes queued above which no message is added until the socket has taken them.
const QUEUE_BYTES: usize = 64 << 10;
/// A closed loop that heard nothing for so long counts what is undelivered as lost and goes on.
const STALL_NS: u64 = 500_000_000;
/// QoS 1 and 2: undelivered messages allowed per unacknowledged one, so that a broker that
/// acknowledges before it delivers cannot be filled without bound.
const UNDELIVERED_PER_WINDOW: u64 = 64;

/// One publisher's state, owned by its connection's task.
#[derive(Debug)]
pub(crate) struct Publisher {
    flow: usize,
    /// Over the whole run.
    number: u32,
    /// Place among the publishers of its flow that this thread drives.
    turn: u64,
    template: Template,
    version: Version,
    qos: QoS,
    /// Deliveries of one message.
    fan: u64,
    /// Most messages outstanding; in an open loop most unacknowledged ones.
    window: u64,
    open: bool,
    /// First topic and how many are taken in turn.
    topics: (u32, u32),
    ids: PacketIds,
    sent: u64,
    messages_max: u64,
    /// Deliveries no longer waited for.
    forgiven: u64,
    /// What had arrived when the window was last found full, and when.
    stalled: Option<(u64, u64)>,
    finished: bool,
}

impl Publisher {
    /// Publisher `index` of flow `flow`, the `turn`-th of them on its thread.
    pub(crate) fn new(worker: &Worker, flow: usize, index: u32, turn: u64) -> Publisher {
        let plan = &worker.shared.plan;
        let settings = &plan.flows[flow];
        let (topic, digits) = settings.topic(flow, worker.shared.tag, index);
        let content = Content {
            topic: &topic,
            digits,
            qos: settings.qos,
            retain: settings.shape == Shape::RetainedSet,
            payload_bytes: plan.payload_bytes,
        };
        let (window, open) = match settings.load {
            Load::Window(window) => (u64::from(window), false),
            Load::Rate(_) => (u64::from(u16::MAX), true),
        };
        let own_topics = match settings.shape {
            Shape::RetainedSet => (0, settings.topics_of(index).1),
            _ => settings.topics_of(index),
        };
        Publisher {
            flow,
            number: plan.first_publisher(flow) + index,
            turn,
            template: Template::new(plan.version, content),
            version: plan.version,
            qos: settings.qos,
            fan: u64::from(plan.fan(settings)),
            window,
            open,
            topics: own_topics,
            ids: PacketIds::new(if open { 2 } else { window as u32 }),
            sent: 0,
            messages_max: plan.messages.unwrap_or(u64::from(u32::MAX)),
            forgiven: 0,
            stalled: None,
            finished: false,
        }
    }

    /// MQTT 5: the broker takes no more than `receive_maximum` unacknowledged messages.
    pub(crate) fn limit_window(&mut self, receive_maximum: u16) {
        if self.qos != QoS::AtMostOnce {
            self.window = self.window.min(u64::from(receive_maximum));
        }
    }

    /// Appends what may be sent now.
    pub(crate) fn produce(&mut self, worker: &Worker, slot: usize, queue: &mut Vec<u8>, now: u64) {
        let phase = worker.shared.phase();
        let running = phase == Phase::Publish || phase == Phase::Drain && self.open;
        if !running || self.finished {
            return;
        }
        let progress = &worker.shared.publishers[self.number as usize];
        let room = self.room(progress, now);
        if room == 0 && !self.open {
            worker.stall(slot);
        }
        let due = match self.open {
            true => share_of(worker.due(self.flow), self.turn, worker.turns(self.flow)),
            false => u64::MAX,
        };
        let last = due.min(self.messages_max).min(self.sent.saturating_add(room));
        let before = self.sent;
        while self.sent < last && queue.len() < QUEUE_BYTES {
            let time = match self.open {
                true => worker.due_at(self.flow, self.sent * worker.turns(self.flow) + self.turn),
                false => now,
            };
            if !self.write(worker.shared.tag, queue, time) {
                break;
            }
        }
        if self.sent > before {
            progress.sent.store(self.sent, Relaxed);
            bump(&worker.counters().sent, self.sent - before);
        }
        if self.sent == self.messages_max {
            self.finished = true;
            bump(&worker.counters().finished, 1);
        }
    }

    fn write(&mut self, tag: u16, queue: &mut Vec<u8>, time: u64) -> bool {
        let packet_id = match self.qos {
            QoS::AtMostOnce => None,
            QoS::AtLeastOnce | QoS::ExactlyOnce => match self.ids.take(time) {
                Some(id) => Some(id),
                None => return false,
            },
        };
        let stamp = Stamp { tag, publisher: self.number, sequence: self.sent as u32, sent: time };
        let topic = self.topics.0 + self.sent as u32 % self.topics.1;
        self.template.write(queue, stamp, topic, packet_id);
        self.sent += 1;
        true
    }

    /// Messages the window has room for.
    fn room(&mut self, progress: &PublisherProgress, now: u64) -> u64 {
        let unacknowledged = u64::from(self.ids.inflight());
        let acknowledged_room = match self.qos {
            QoS::AtMostOnce => u64::MAX,
            QoS::AtLeastOnce | QoS::ExactlyOnce => self.window.saturating_sub(unacknowledged),
        };
        if self.open || self.fan == 0 {
            return acknowledged_room;
        }
        let arrived = progress.arrived.load(Relaxed);
        let undelivered_max = match self.qos {
            QoS::AtMostOnce => self.window,
            QoS::AtLeastOnce | QoS::ExactlyOnce => self.window * UNDELIVERED_PER_WINDOW,
        };
        let outstanding = (self.sent * self.fan).saturating_sub(arrived + self.forgiven);
        let delivered_room = (undelivered_max * self.fan).saturating_sub(outstanding) / self.fan;
        if delivered_room > 0 {
            self.stalled = None;
        } else {
            self.on_full(arrived, now);
        }
        acknowledged_room.min(delivered_room)
    }

    /// The window is full of undelivered messages: after a while without any arriving, goes on
    /// without them. The detectors keep counting them as lost.
    fn on_full(&mut self, arrived: u64, now: u64) {
        match self.stalled {
            Some((before, since)) if before == arrived => {
                if now.saturating_sub(since) > STALL_NS {
                    self.forgiven = (self.sent * self.fan).saturating_sub(arrived);
                    self.stalled = None;
                }
            }
            _ => self.stalled = Some((arrived, now)),
        }
    }

    /// Takes an acknowledgement; `false` when it is none this publisher waits for.
    pub(crate) fn on_packet(
        &mut self,
        worker: &Worker,
        packet: &Packet<'_>,
        queue: &mut Vec<u8>,
        now: u64,
    ) -> bool {
        let done = match packet {
            Packet::PubAck(ack) if self.qos == QoS::AtLeastOnce => {
                worker.note_reason(ack.reason);
                self.ids.finish_sent(ack.packet_id)
            }
            Packet::PubRec(ack) if ack.reason.is_error() => {
                worker.note_reason(ack.reason);
                self.ids.finish_sent(ack.packet_id)
            }
            Packet::PubRec(ack) => {
                let known = self.ids.release(ack.packet_id);
                let release = Ack::new(ack.packet_id, ReasonCode::SUCCESS);
                encode::ack(queue, self.version, PacketKind::PubRel, &release);
                return known;
            }
            Packet::PubComp(ack) => {
                worker.note_reason(ack.reason);
                self.ids.finish_released(ack.packet_id)
            }
            _ => return false,
        };
        let Some(since) = done else { return false };
        bump(&worker.counters().acked, 1);
        worker.record_ack(since, now);
        true
    }
}
