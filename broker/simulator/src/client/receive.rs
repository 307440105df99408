//! What a client reads: each packet decoded by the codec, noted in the history, and answered as the
//! protocol asks.

use mqtt::{Limits, Packet, PacketKind, Publish, QoS, Version};

use super::{Client, Stage};
use crate::history::{AckFact, Delivery, Fact, Got, Welcome};
use crate::world::World;

impl Client {
    /// Reads so many bytes and handles what is complete. True if anything came.
    pub(super) fn read(&mut self, world: &mut World, bytes_max: usize) -> bool {
        let Some(line) = &mut self.line else { return false };
        let link = line.link;
        let mut moved = world.node.read(link, bytes_max, &mut line.buffer) > 0;
        while let Some(packet) = self.next_packet(world) {
            match &mut self.tamper {
                None => self.on_packet(world, &packet),
                Some(tamper) => {
                    for packet in tamper.pass(packet) {
                        self.on_packet(world, &packet);
                    }
                }
            }
        }
        let over = self.line.as_ref().is_some_and(|line| line.link == link) && world.node.has_ended(link);
        if over {
            moved = true;
            world.fact(Fact::Ended(link));
            self.leave(world, false);
        }
        moved
    }

    /// The bytes of the next complete packet.
    fn next_packet(&mut self, world: &mut World) -> Option<Vec<u8>> {
        let line = self.line.as_mut()?;
        match mqtt::decode(line.version, &line.buffer, &Limits::PROTOCOL) {
            Ok(Some((_, length))) => Some(line.buffer.drain(..length).collect()),
            Ok(None) => None,
            Err(error) => {
                let fact = Fact::Undecodable(line.link, format!("{error:?}"));
                world.fact(fact);
                self.leave(world, true);
                None
            }
        }
    }

    fn on_packet(&mut self, world: &mut World, bytes: &[u8]) {
        let Some(line) = &mut self.line else { return };
        let (link, version) = (line.link, line.version);
        let Ok(Some((packet, _))) = mqtt::decode(version, bytes, &Limits::PROTOCOL) else {
            unreachable!("it was decoded just before")
        };
        let got = match packet {
            Packet::Publish(publish) => Got::Publish(self.delivery(world, &publish, bytes.len())),
            Packet::ConnAck(connack) => Got::ConnAck(Welcome {
                reason: connack.reason.value(),
                // 3.1 does not say; its clients take it that the session they asked for is there.
                session_present: match version {
                    Version::V31 => !line.clean && self.session_kept,
                    _ => connack.session_present,
                },
                expiry: connack.properties.session_expiry,
                keep_alive: connack.properties.server_keep_alive,
                receive_maximum: connack.properties.receive_maximum,
                alias_max: connack.properties.topic_alias_maximum,
                packet_bytes_max: connack.properties.maximum_packet_size,
            }),
            Packet::PubAck(ack) => ack_fact(PacketKind::PubAck, &ack),
            Packet::PubRec(ack) => ack_fact(PacketKind::PubRec, &ack),
            Packet::PubRel(ack) => ack_fact(PacketKind::PubRel, &ack),
            Packet::PubComp(ack) => ack_fact(PacketKind::PubComp, &ack),
            Packet::SubAck(suback) => Got::SubAck {
                packet_id: suback.packet_id.get(),
                reasons: suback.reasons.map(mqtt::ReasonCode::value).collect(),
            },
            Packet::UnsubAck(unsuback) => Got::UnsubAck {
                packet_id: unsuback.packet_id.get(),
                reasons: unsuback.reasons.map(mqtt::ReasonCode::value).collect(),
            },
            Packet::PingResp => Got::Pong,
            Packet::Disconnect(disconnect) => Got::Disconnect { reason: disconnect.reason.value() },
            Packet::Auth(_) => Got::Auth,
            Packet::Connect(_) | Packet::Subscribe(_) | Packet::Unsubscribe(_) | Packet::PingReq => {
                world.fact(Fact::Undecodable(link, format!("{:?} from a server", packet.kind())));
                self.leave(world, true);
                return;
            }
        };
        world.fact(Fact::Got(link, got.clone()));
        self.answer(world, &got);
    }

    fn delivery(&mut self, world: &World, publish: &Publish<'_>, bytes: usize) -> Delivery {
        let line = self.line.as_mut().expect("packets come on a connection");
        let alias = publish.properties.topic_alias;
        let topic = match alias {
            Some(alias) if publish.topic.is_empty() => line.aliases_in.get(&alias).cloned(),
            Some(alias) => {
                line.aliases_in.insert(alias, publish.topic.to_owned());
                Some(publish.topic.to_owned())
            }
            None => Some(publish.topic.to_owned()),
        };
        let message = world.history.number(publish.payload);
        let intact = message.is_none_or(|id| {
            let message = world.history.message(id);
            let mut forwarded = Vec::new();
            publish.properties.write_forwarded(&mut forwarded);
            let carried = line.version == Version::V5;
            message.payload == publish.payload
                && topic.as_deref() == Some(message.topic)
                && (!carried || message.forwarded == forwarded)
        });
        Delivery {
            message,
            topic,
            alias,
            qos: publish.qos,
            retain: publish.retain,
            dup: publish.dup,
            packet_id: publish.packet_id.map(mqtt::PacketId::get),
            ids: publish.properties.subscription_ids().collect(),
            expiry: publish.properties.message_expiry,
            intact,
            bytes,
        }
    }

    /// What the protocol asks of a client.
    fn answer(&mut self, world: &mut World, got: &Got) {
        match got {
            Got::ConnAck(welcome) => self.on_welcome(world, welcome),
            Got::Publish(delivery) => self.on_delivery(delivery),
            Got::Ack(ack) => self.on_ack(*ack),
            Got::SubAck { packet_id, .. } | Got::UnsubAck { packet_id, .. } => {
                if let Some(line) = &mut self.line {
                    line.asking.retain(|asking| asking != packet_id);
                }
            }
            Got::Pong => {
                if let Some(line) = &mut self.line {
                    line.pings = line.pings.saturating_sub(1);
                }
            }
            Got::Auth => {}
            Got::Disconnect { .. } => {
                // The broker closes; so does the client when it reads the end.
                if let Some(line) = &mut self.line {
                    line.stage = Stage::Leaving;
                }
            }
        }
    }

    fn on_delivery(&mut self, delivery: &Delivery) {
        let Some(packet_id) = delivery.packet_id else { return };
        let Some(line) = &mut self.line else { return };
        let refuses = line.version == Version::V5 && self.random.one_in(60);
        let reason = if refuses { 0x80 } else { 0 };
        let kind = match delivery.qos {
            QoS::ExactlyOnce => PacketKind::PubRec,
            _ => PacketKind::PubAck,
        };
        // A duplicate of what was accepted is accepted again.
        let known = self.inbound.contains(&packet_id);
        if kind == PacketKind::PubRec && !known {
            self.inbound.push(packet_id);
        }
        line.acks.push_back(AckFact { kind, packet_id, reason: if known { 0 } else { reason } });
    }

    fn on_ack(&mut self, ack: AckFact) {
        let Some(line) = &mut self.line else { return };
        let index = self.outbound.iter().position(|each| each.packet_id == ack.packet_id);
        match (ack.kind, index) {
            (PacketKind::PubAck | PacketKind::PubComp, Some(index)) => {
                self.outbound.remove(index);
            }
            (PacketKind::PubRec, Some(index)) if ack.reason >= 0x80 => {
                self.outbound.remove(index);
            }
            (PacketKind::PubRec, Some(index)) => {
                self.outbound[index].received = true;
                line.acks.push_back(AckFact {
                    kind: PacketKind::PubRel,
                    packet_id: ack.packet_id,
                    reason: 0,
                });
            }
            (PacketKind::PubRel, _) => {
                self.inbound.retain(|open| *open != ack.packet_id);
                line.acks.push_back(AckFact {
                    kind: PacketKind::PubComp,
                    packet_id: ack.packet_id,
                    reason: 0,
                });
            }
            _ => {}
        }
    }
}

fn ack_fact(kind: PacketKind, ack: &mqtt::Ack<'_>) -> Got {
    Got::Ack(AckFact { kind, packet_id: ack.packet_id.get(), reason: ack.reason.value() })
}
