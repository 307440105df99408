//! What a client writes: each packet encoded by the codec, and noted in the history.

use mqtt::encode::{PublishOut, SubscribeOut, UnsubscribeOut};
use mqtt::{
    Ack, Disconnect, PacketId, PacketKind, QoS, ReasonCode, SubscribeFilter, SubscriptionOptions,
    UserProperties,
};

use super::{Client, Outbound, Stage};
use crate::history::{AckFact, Fact, MessageId, Outgoing, Sent};
use crate::world::World;

fn packet_id(value: u16) -> PacketId {
    PacketId::new(value).expect("identifiers are never 0")
}

impl Client {
    /// Writes a packet, unless the kernel has no room (then the application would block: it does nothing).
    fn write(&mut self, world: &mut World, sent: Sent, bytes: &[u8]) {
        let Some(line) = &mut self.line else { return };
        line.last_sent = world.at;
        let link = line.link;
        world.fact(Fact::Sent(link, sent));
        world.node.write(link, bytes);
    }

    /// Publishes a new message.
    pub(super) fn publish(&mut self, world: &mut World) {
        let qos = self.qos();
        let Some(line) = &self.line else { return };
        if qos > QoS::AtMostOnce && self.outbound.len() >= usize::from(line.receive_maximum) {
            return;
        }
        let message = self.draw_message(world, qos);
        let packet_id = (qos > QoS::AtMostOnce).then(|| self.packet_id());
        if let Some(packet_id) = packet_id {
            self.outbound.push(Outbound { packet_id, message, received: false });
        }
        self.send_publish(world, message, packet_id, false);
    }

    pub(super) fn send_publish(&mut self, world: &mut World, id: MessageId, number: Option<u16>, dup: bool) {
        let Some(line) = &mut self.line else { return };
        let message = world.history.message(id);
        let mut out = PublishOut {
            dup,
            qos: message.qos,
            retain: message.retain,
            topic: message.topic,
            packet_id: number.map(packet_id),
            message_expiry: message.expiry,
            forwarded: &message.forwarded,
            payload: &message.payload,
            ..PublishOut::default()
        };
        if line.alias_max > 0 && self.random.percent(40) {
            let known = line.aliases_out.iter().position(|topic| *topic == message.topic);
            match known {
                Some(index) => {
                    out.topic_alias = Some(index as u16 + 1);
                    out.topic = "";
                }
                None if line.aliases_out.len() < usize::from(line.alias_max) => {
                    line.aliases_out.push(message.topic);
                    out.topic_alias = Some(line.aliases_out.len() as u16);
                }
                None => {}
            }
        }
        let mut bytes = Vec::new();
        mqtt::encode::publish(&mut bytes, line.version, &out);
        self.write(world, Sent::Publish(Outgoing { message: id, packet_id: number, dup }), &bytes);
    }

    pub(super) fn send_release(&mut self, world: &mut World, number: u16) {
        self.send_ack(world, AckFact { kind: PacketKind::PubRel, packet_id: number, reason: 0 });
    }

    fn send_ack(&mut self, world: &mut World, ack: AckFact) {
        let Some(line) = &self.line else { return };
        let reason = ReasonCode::from_value(ack.reason).expect("a reason code of the specification");
        let mut bytes = Vec::new();
        mqtt::encode::ack(&mut bytes, line.version, ack.kind, &Ack::new(packet_id(ack.packet_id), reason));
        if ack.kind == PacketKind::PubRec && ack.reason >= 0x80 {
            self.inbound.retain(|open| *open != ack.packet_id);
        }
        self.write(world, Sent::Ack(ack), &bytes);
    }

    /// Sends acknowledgements that wait, oldest first. True if there were any.
    pub(super) fn send_acks(&mut self, world: &mut World, count: usize) -> bool {
        let Some(line) = self.line.as_mut().filter(|line| line.stage == Stage::Online && !line.silent) else {
            return false;
        };
        let count = count.min(line.acks.len());
        let acks: Vec<AckFact> = line.acks.drain(..count).collect();
        for ack in &acks {
            self.send_ack(world, *ack);
        }
        !acks.is_empty()
    }

    pub(super) fn send_subscribe(
        &mut self,
        world: &mut World,
        id: Option<u32>,
        filters: Vec<(&'static str, SubscriptionOptions)>,
    ) {
        let number = self.packet_id();
        let Some(line) = &mut self.line else { return };
        line.asking.push(number);
        self.filters.extend(filters.iter().map(|(filter, _)| *filter));
        self.filters.sort_unstable();
        self.filters.dedup();
        let listed: Vec<SubscribeFilter<'_>> =
            filters.iter().map(|(filter, options)| SubscribeFilter { filter, options: *options }).collect();
        let out = SubscribeOut {
            packet_id: packet_id(number),
            subscription_id: id,
            user_properties: UserProperties::default(),
            filters: &listed,
        };
        let mut bytes = Vec::new();
        mqtt::encode::subscribe(&mut bytes, line.version, &out);
        self.write(world, Sent::Subscribe { packet_id: number, id, filters }, &bytes);
    }

    pub(super) fn send_unsubscribe(&mut self, world: &mut World, filters: Vec<&'static str>) {
        let number = self.packet_id();
        let Some(line) = &mut self.line else { return };
        line.asking.push(number);
        self.filters.retain(|filter| !filters.contains(filter));
        let out = UnsubscribeOut {
            packet_id: packet_id(number),
            user_properties: UserProperties::default(),
            filters: &filters,
        };
        let mut bytes = Vec::new();
        mqtt::encode::unsubscribe(&mut bytes, line.version, &out);
        self.write(world, Sent::Unsubscribe { packet_id: number, filters }, &bytes);
    }

    pub(super) fn send_ping(&mut self, world: &mut World) {
        let mut bytes = Vec::new();
        mqtt::encode::pingreq(&mut bytes);
        if let Some(line) = &mut self.line {
            line.pings += 1;
        }
        self.write(world, Sent::Ping, &bytes);
    }

    pub(super) fn send_disconnect(&mut self, world: &mut World, reason: ReasonCode, expiry: Option<u32>) {
        let Some(line) = &mut self.line else { return };
        line.stage = Stage::Leaving;
        if expiry == Some(0) {
            line.persistent = false;
        }
        let packet = Disconnect { session_expiry: expiry, ..Disconnect::new(reason) };
        let mut bytes = Vec::new();
        mqtt::encode::disconnect(&mut bytes, line.version, &packet);
        self.write(world, Sent::Disconnect { reason: reason.value(), expiry }, &bytes);
    }

    pub(super) fn send_garbage(&mut self, world: &mut World, bytes: &[u8]) {
        let Some(line) = &mut self.line else { return };
        line.stage = Stage::Leaving;
        self.write(world, Sent::Garbage, bytes);
    }
}
