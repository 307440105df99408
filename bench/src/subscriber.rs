//! Hot path. A subscriber: places its filters, acknowledges, and shows every message to a detector.

use mqtt::encode::{self, SubscribeOut};
use mqtt::{
    Ack, Packet, PacketId, PacketKind, Publish, QoS, ReasonCode, SubscribeFilter, SubscriptionOptions,
    UserProperties, Version,
};

use crate::detect::{Findings, MemberOrder, Tracker};
use crate::payload::Stamp;
use crate::persistent::Stage;
use crate::plan::{SUBSCRIBE_FILTERS_MAX, Shape};
use crate::shared::bump;
use crate::worker::Worker;

/// What a subscriber expects.
#[derive(Debug)]
enum Watch {
    /// Every message of these publishers: one tracker each, from `first` on.
    All { first: u32, trackers: Vec<Tracker>, topics: u32 },
    /// Some messages of the flow's publishers.
    Member { first: u32, publishers: u32, order: MemberOrder },
}

/// One subscriber's state, owned by its connection's task.
#[derive(Debug)]
pub(crate) struct Subscriber {
    flow: usize,
    index: u32,
    version: Version,
    qos: QoS,
    payload_bytes: usize,
    watch: Watch,
    /// Filters asked for so far.
    filters: u32,
    granted: bool,
    /// Messages of the current read, not yet shown to the publishers: whose, how many deliveries.
    batch: (u32, u64),
    batch_delivered: u64,
}

impl Subscriber {
    /// Subscriber `index` of flow `flow`.
    pub(crate) fn new(worker: &Worker, flow: usize, index: u32) -> Subscriber {
        let plan = &worker.shared.plan;
        let settings = &plan.flows[flow];
        let first = plan.first_publisher(flow);
        let all = |first: u32, count: u32, topics: u32| Watch::All {
            first,
            trackers: (0..count).map(|_| Tracker::default()).collect(),
            topics,
        };
        let watch = match settings.shape {
            Shape::FanOut => all(first, settings.publishers, 1),
            Shape::Shared => {
                Watch::Member { first, publishers: settings.publishers, order: MemberOrder::default() }
            }
            Shape::OneToOne | Shape::Wildcard | Shape::UniqueTopics => {
                all(first + index, 1, settings.topics_of(index).1)
            }
            Shape::RetainedSet | Shape::RetainedGet => unreachable!("retained messages have no subscriber"),
        };
        Subscriber {
            flow,
            index,
            version: plan.version,
            qos: settings.qos,
            payload_bytes: plan.payload_bytes,
            watch,
            filters: 0,
            granted: false,
            batch: (0, 0),
            batch_delivered: 0,
        }
    }

    /// Asks for the next filters; none left, or a session that has them already: the connection is ready.
    pub(crate) fn subscribe(&mut self, worker: &Worker, queue: &mut Vec<u8>) {
        if worker.shared.plan.stage == Stage::Back {
            self.granted = true;
            bump(&worker.counters().ready, 1);
            return;
        }
        let settings = &worker.shared.plan.flows[self.flow];
        let texts: Vec<String> = (self.filters..self.filters.saturating_add(SUBSCRIBE_FILTERS_MAX))
            .map_while(|index| settings.filter(self.flow, worker.shared.tag, self.index, index))
            .collect();
        if texts.is_empty() {
            self.granted = true;
            bump(&worker.counters().ready, 1);
            return;
        }
        self.filters += texts.len() as u32;
        write_subscribe(queue, self.version, self.qos, &texts);
    }

    /// Takes a packet; `false` when it has no place here.
    pub(crate) fn on_packet(
        &mut self,
        worker: &Worker,
        packet: &Packet<'_>,
        queue: &mut Vec<u8>,
        now: u64,
    ) -> bool {
        match packet {
            Packet::Publish(publish) => {
                self.on_publish(worker, publish, now);
                if let Some(id) = publish.packet_id {
                    let kind = match publish.qos {
                        QoS::ExactlyOnce => PacketKind::PubRec,
                        QoS::AtMostOnce | QoS::AtLeastOnce => PacketKind::PubAck,
                    };
                    encode::ack(queue, self.version, kind, &Ack::new(id, ReasonCode::SUCCESS));
                }
            }
            Packet::PubRel(ack) => {
                let answer = Ack::new(ack.packet_id, ReasonCode::SUCCESS);
                encode::ack(queue, self.version, PacketKind::PubComp, &answer);
            }
            Packet::SubAck(suback) if !self.granted => {
                suback.reasons.for_each(|reason| worker.note_reason(reason));
                self.subscribe(worker, queue);
            }
            _ => return false,
        }
        true
    }

    fn on_publish(&mut self, worker: &Worker, publish: &Publish<'_>, now: u64) {
        self.batch_delivered += 1;
        let Some(stamp) = Stamp::read(publish.payload).filter(|stamp| stamp.tag == worker.shared.tag) else {
            return worker.note_foreign();
        };
        if publish.payload.len() != self.payload_bytes {
            worker.note_corrupt();
        }
        let arrived = match &mut self.watch {
            Watch::All { first, trackers, topics } => {
                let tracker = trackers.get_mut(stamp.publisher.wrapping_sub(*first) as usize);
                tracker.map(|tracker| tracker.on_message(stamp.sequence, *topics))
            }
            Watch::Member { first, publishers, order } => {
                let publisher = stamp.publisher.wrapping_sub(*first);
                (publisher < *publishers)
                    .then(|| worker.on_group_message(self.flow, order, publisher, stamp.sequence))
            }
        };
        let Some(arrived) = arrived else { return worker.note_misrouted() };
        worker.record_latency(stamp.sent, now);
        if self.batch.0 != stamp.publisher {
            self.flush_arrived(worker);
            self.batch = (stamp.publisher, 0);
        }
        self.batch.1 += u64::from(arrived);
    }

    fn flush_arrived(&mut self, worker: &Worker) {
        if self.batch.1 > 0 {
            worker.on_arrived(self.batch.0, self.batch.1);
            self.batch.1 = 0;
        }
    }

    /// The packets of one read have been taken.
    pub(crate) fn end_read(&mut self, worker: &Worker) {
        self.flush_arrived(worker);
        if self.batch_delivered > 0 {
            bump(&worker.counters().delivered, self.batch_delivered);
            worker.shared.note_delivery();
            self.batch_delivered = 0;
        }
    }

    /// What the detectors of this subscriber found; those of a group are the thread's.
    pub(crate) fn findings(&self, sent: impl Fn(u32) -> u64) -> Findings {
        let mut findings = Findings::default();
        if let Watch::All { first, trackers, .. } = &self.watch {
            for (publisher, tracker) in (*first..).zip(trackers) {
                findings.add(tracker.findings(sent(publisher)));
            }
        }
        findings
    }
}

/// Appends a SUBSCRIBE for `filters`.
pub(crate) fn write_subscribe(queue: &mut Vec<u8>, version: Version, qos: QoS, filters: &[String]) {
    let options = SubscriptionOptions { qos, ..SubscriptionOptions::default() };
    let filters: Vec<SubscribeFilter<'_>> =
        filters.iter().map(|filter| SubscribeFilter { filter, options }).collect();
    let subscribe = SubscribeOut {
        packet_id: PacketId::new(1).expect("1 is not zero"),
        subscription_id: None,
        user_properties: UserProperties::default(),
        filters: &filters,
    };
    encode::subscribe(queue, version, &subscribe);
}
