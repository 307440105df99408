//! A client that fetches retained messages: subscribe by wildcard, count, unsubscribe, the next.

use mqtt::encode::{self, UnsubscribeOut};
use mqtt::{Ack, Packet, PacketId, PacketKind, Publish, QoS, ReasonCode, UserProperties, Version};

use crate::detect::Findings;
use crate::payload::Stamp;
use crate::shared::{Phase, bump};
use crate::subscriber::write_subscribe;
use crate::worker::Worker;

/// A fetch that stays incomplete for so long is given up, its missing messages lost.
const FETCH_NS_MAX: u64 = 1_000_000_000;

/// One getter's state, owned by its connection's task.
#[derive(Debug)]
pub(crate) struct Getter {
    flow: usize,
    version: Version,
    qos: QoS,
    payload_bytes: usize,
    /// Which group of retained messages comes next.
    group: u32,
    fetch: Option<Fetch>,
    /// Messages of the group that came, by the sequence number they were set with.
    seen: Vec<bool>,
    findings: Findings,
}

/// One fetch under way.
#[derive(Debug, Clone, Copy)]
struct Fetch {
    filter: u32,
    since: u64,
    missing: u32,
    /// UNSUBSCRIBE is sent, its answer awaited.
    leaving: bool,
}

impl Getter {
    /// Getter `index` of flow `flow`.
    pub(crate) fn new(worker: &Worker, flow: usize, index: u32) -> Getter {
        let plan = &worker.shared.plan;
        Getter {
            flow,
            version: plan.version,
            qos: plan.flows[flow].qos,
            payload_bytes: plan.payload_bytes,
            group: index,
            fetch: None,
            seen: Vec::new(),
            findings: Findings::default(),
        }
    }

    /// Starts a fetch when none is under way, gives up one that takes too long.
    pub(crate) fn produce(&mut self, worker: &Worker, queue: &mut Vec<u8>, now: u64) {
        match &self.fetch {
            None if worker.shared.phase() == Phase::Publish => self.start(worker, queue, now),
            Some(fetch) if !fetch.leaving && now.saturating_sub(fetch.since) > FETCH_NS_MAX => {
                self.findings.lost += u64::from(fetch.missing);
                self.leave(worker, queue);
            }
            _ => {}
        }
    }

    fn start(&mut self, worker: &Worker, queue: &mut Vec<u8>, now: u64) {
        let settings = &worker.shared.plan.flows[self.flow];
        let group = self.group % settings.publishers;
        self.group += 1;
        let (_, count) = settings.topics_of(group);
        let Some(filter) = settings.filter(self.flow, worker.shared.tag, 0, group) else { return };
        write_subscribe(queue, self.version, self.qos, &[filter]);
        self.seen.clear();
        self.seen.resize(count as usize, false);
        self.fetch = Some(Fetch { filter: group, since: now, missing: count, leaving: false });
        bump(&worker.counters().sent, u64::from(count));
    }

    fn leave(&mut self, worker: &Worker, queue: &mut Vec<u8>) {
        let Some(fetch) = &mut self.fetch else { return };
        fetch.leaving = true;
        let settings = &worker.shared.plan.flows[self.flow];
        let Some(filter) = settings.filter(self.flow, worker.shared.tag, 0, fetch.filter) else { return };
        let unsubscribe = UnsubscribeOut {
            packet_id: PacketId::new(2).expect("2 is not zero"),
            user_properties: UserProperties::default(),
            filters: &[&filter],
        };
        encode::unsubscribe(queue, self.version, &unsubscribe);
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
                self.on_publish(worker, publish, queue, now);
                true
            }
            Packet::PubRel(ack) => {
                let answer = Ack::new(ack.packet_id, ReasonCode::SUCCESS);
                encode::ack(queue, self.version, PacketKind::PubComp, &answer);
                true
            }
            Packet::SubAck(suback) => {
                suback.reasons.for_each(|reason| worker.note_reason(reason));
                true
            }
            Packet::UnsubAck(_) => {
                self.fetch = None;
                self.produce(worker, queue, now);
                true
            }
            _ => false,
        }
    }

    fn on_publish(&mut self, worker: &Worker, publish: &Publish<'_>, queue: &mut Vec<u8>, now: u64) {
        bump(&worker.counters().delivered, 1);
        if let Some(id) = publish.packet_id {
            let kind = if publish.qos == QoS::ExactlyOnce { PacketKind::PubRec } else { PacketKind::PubAck };
            encode::ack(queue, self.version, kind, &Ack::new(id, ReasonCode::SUCCESS));
        }
        if publish.payload.len() != self.payload_bytes {
            worker.note_corrupt();
        }
        let Some(stamp) = Stamp::read(publish.payload) else { return worker.note_foreign() };
        let Some(fetch) = &mut self.fetch else { return worker.note_misrouted() };
        let place = stamp.sequence as usize % self.seen.len();
        if stamp.publisher != fetch.filter || !publish.retain {
            return worker.note_misrouted();
        }
        if std::mem::replace(&mut self.seen[place], true) {
            self.findings.duplicates += 1;
            return;
        }
        fetch.missing -= 1;
        worker.record_latency(fetch.since, now);
        if fetch.missing == 0 && !fetch.leaving {
            self.leave(worker, queue);
        }
    }

    /// What was missing or came twice.
    pub(crate) fn findings(&self) -> Findings {
        let mut findings = self.findings;
        if let Some(fetch) = self.fetch.filter(|fetch| !fetch.leaving) {
            findings.lost += u64::from(fetch.missing);
        }
        findings
    }
}
