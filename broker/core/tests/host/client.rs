//! A client: one end of one socket, speaking MQTT packet by packet.

use std::collections::VecDeque;

use mqtt::encode::{self, PublishOut, UnsubscribeOut};
use mqtt::{
    Ack, Auth, ConnAck, Connect, Disconnect, Limits, Packet, PacketKind, Publish, QoS, ReasonCode, SubAck,
    UnsubAck, UserProperties, Version,
};

use broker_core::identity::ConnectionId;
use broker_core::input::Input;

use super::Node;
use super::packets::{connect_packet, id, publish_packet, subscribe_packet};

/// A client's end of a socket. Dropping the value changes nothing: the socket stays open.
pub struct Client {
    pub(super) node: Node,
    pub(super) index: usize,
    /// What it speaks, once it has said so.
    pub version: Version,
    /// Received and not looked at yet.
    packets: VecDeque<Packet<'static>>,
    next_packet_id: u16,
    /// The client id, where [`Node::connect_at_with`] chose it.
    pub client_id: String,
}

impl Client {
    pub(super) fn new(node: Node, index: usize) -> Client {
        Client {
            node,
            index,
            version: Version::V311,
            packets: VecDeque::new(),
            next_packet_id: 1,
            client_id: String::new(),
        }
    }

    // Sending.

    /// Sends bytes, and lets the node run.
    pub fn send(&mut self, bytes: &[u8]) {
        let mut world = self.node.world.borrow_mut();
        world.sockets[self.index].inbound.extend(bytes);
        world.run();
    }

    /// Something is said about it to its core.
    pub fn tell(&self, input: impl Fn(ConnectionId) -> Input<'static>) {
        self.node.world.borrow_mut().tell_of(self.index, input);
    }

    /// Sends what an encoder appends.
    pub fn send_with(&mut self, write: impl FnOnce(&mut Vec<u8>, Version)) {
        let mut bytes = Vec::new();
        write(&mut bytes, self.version);
        self.send(&bytes);
    }

    /// The transport has proved which user it is.
    pub fn certify(&self, user: &str) {
        self.node.world.borrow_mut().certify(self.index, user);
    }

    /// Sends a CONNECT, and expects nothing.
    pub fn send_connect(&mut self, connect: &Connect<'_>) {
        self.version = connect.version;
        self.send(&connect_packet(connect));
    }

    /// Sends a CONNECT and expects to be let in.
    pub fn greet(&mut self, connect: &Connect<'_>) -> ConnAck<'static> {
        self.send_connect(connect);
        let connack = self.expect_connack();
        assert_eq!(connack.reason, ReasonCode::SUCCESS, "let in");
        connack
    }

    /// Sends a PUBLISH with the next packet identifier, which it answers with (QoS 0: 0).
    pub fn publish(&mut self, topic: &str, qos: QoS, payload: &str) -> u16 {
        self.publish_with(&PublishOut { topic, qos, payload: payload.as_bytes(), ..PublishOut::default() })
    }

    /// The same for any PUBLISH; an identifier that is there stays.
    pub fn publish_with(&mut self, publish: &PublishOut<'_>) -> u16 {
        let mut publish = *publish;
        if publish.qos != QoS::AtMostOnce && publish.packet_id.is_none() {
            publish.packet_id = Some(id(self.new_packet_id()));
        }
        self.send(&publish_packet(self.version, &publish));
        publish.packet_id.map_or(0, mqtt::PacketId::get)
    }

    /// A packet identifier not used before, up to 65 535 of them.
    pub fn new_packet_id(&mut self) -> u16 {
        let packet_id = self.next_packet_id;
        self.next_packet_id += 1;
        packet_id
    }

    /// Publishes a message and carries the handshake of its QoS through.
    pub fn publish_fully(&mut self, topic: &str, qos: QoS, payload: &str) {
        let packet_id = self.publish(topic, qos, payload);
        match qos {
            QoS::AtMostOnce => {}
            QoS::AtLeastOnce => {
                self.expect_ack(PacketKind::PubAck, packet_id);
            }
            QoS::ExactlyOnce => {
                self.expect_ack(PacketKind::PubRec, packet_id);
                self.send_ack(PacketKind::PubRel, packet_id);
                self.expect_ack(PacketKind::PubComp, packet_id);
            }
        }
    }

    /// Sends a PUBACK, PUBREC, PUBREL or PUBCOMP of success.
    pub fn send_ack(&mut self, kind: PacketKind, packet_id: u16) {
        self.send_ack_with(kind, packet_id, ReasonCode::SUCCESS);
    }

    /// The same with a reason.
    pub fn send_ack_with(&mut self, kind: PacketKind, packet_id: u16, reason: ReasonCode) {
        let ack = Ack::new(id(packet_id), reason);
        self.send_with(|out, version| encode::ack(out, version, kind, &ack));
    }

    /// Subscribes to one filter, and expects it to be granted with the QoS asked for.
    pub fn subscribe(&mut self, filter: &str, qos: QoS) {
        let packet_id = self.new_packet_id();
        self.send(&subscribe_packet(self.version, packet_id, filter, qos));
        let suback = self.expect_suback(packet_id);
        let reasons: Vec<u8> = suback.reasons.into_iter().map(ReasonCode::value).collect();
        assert_eq!(reasons, [qos.bits()], "{filter} granted");
    }

    /// Unsubscribes from one filter; its reason in 5.0.
    pub fn unsubscribe(&mut self, filter: &str) -> UnsubAck<'static> {
        let packet_id = id(self.new_packet_id());
        let unsubscribe =
            UnsubscribeOut { packet_id, user_properties: UserProperties::default(), filters: &[filter] };
        self.send_with(|out, version| encode::unsubscribe(out, version, &unsubscribe));
        match self.expect() {
            Packet::UnsubAck(unsuback) if unsuback.packet_id == packet_id => unsuback,
            other => panic!("UNSUBACK {packet_id:?}, not {other:?}"),
        }
    }

    /// Sends a DISCONNECT.
    pub fn disconnect(&mut self, reason: ReasonCode) {
        self.disconnect_with(&Disconnect::new(reason));
    }

    /// Sends any DISCONNECT.
    pub fn disconnect_with(&mut self, disconnect: &Disconnect<'_>) {
        self.send_with(|out, version| encode::disconnect(out, version, disconnect));
    }

    /// Sends an AUTH.
    pub fn send_auth(&mut self, auth: &Auth<'_>) {
        self.send_with(|out, _| encode::auth(out, auth));
    }

    /// Sends a PINGREQ and expects its answer.
    pub fn ping(&mut self) {
        self.send(&[0xC0, 0]);
        assert_eq!(self.expect(), Packet::PingResp);
    }

    /// The network fails: the broker sees the end without a DISCONNECT.
    pub fn drop_socket(&mut self) {
        self.node.world.borrow_mut().drop_socket(self.index);
    }

    // What the client's end does.

    /// Stops reading (false), or reads what has come meanwhile and goes on (true).
    pub fn reads(&mut self, reads: bool) {
        let mut world = self.node.world.borrow_mut();
        world.sockets[self.index].reads = reads;
        world.send(self.index);
        world.run();
    }

    /// Does not close its own end when the broker has closed.
    pub fn hold_open(&mut self) {
        self.node.world.borrow_mut().sockets[self.index].closes = false;
    }

    // What has come.

    /// Bytes sent that the broker has not taken.
    pub fn unreceived(&self) -> usize {
        self.node.world.borrow().sockets[self.index].inbound.len()
    }

    /// Has the broker, or the network, ended the connection?
    pub fn is_closed(&self) -> bool {
        self.closed_at().is_some()
    }

    /// When it ended, among the node's events.
    pub fn closed_at(&self) -> Option<u64> {
        self.node.world.borrow().sockets[self.index].closed_at
    }

    /// When its first byte came, among the node's events.
    pub fn first_byte_at(&self) -> Option<u64> {
        self.node.world.borrow().sockets[self.index].first_byte_at
    }

    /// Does the broker still hold its end of the socket?
    pub fn is_held(&self) -> bool {
        self.node.world.borrow().sockets[self.index].place.is_some()
    }

    /// The core that has the connection.
    pub fn core(&self) -> u16 {
        let place = self.node.world.borrow().sockets[self.index].place;
        place.expect("a connection that the broker has").0.0
    }

    /// The bytes that have come and were not looked at.
    pub fn take_bytes(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.node.world.borrow_mut().sockets[self.index].received)
    }

    fn decode(&mut self) {
        let bytes = self.take_bytes();
        // Packets borrow their bytes, and tests are short.
        let bytes: &'static [u8] = Vec::leak(bytes);
        let mut at = 0;
        while at < bytes.len() {
            let decoded = mqtt::decode(self.version, &bytes[at..], &Limits::PROTOCOL);
            match decoded.unwrap_or_else(|error| panic!("the broker sent {error}: {:x?}", &bytes[at..])) {
                Some((packet, used)) => {
                    self.packets.push_back(packet);
                    at += used;
                }
                None => break,
            }
        }
        self.node.world.borrow_mut().sockets[self.index].received.extend_from_slice(&bytes[at..]);
    }

    /// All packets that have come and were not looked at.
    pub fn packets(&mut self) -> Vec<Packet<'static>> {
        self.decode();
        self.packets.drain(..).collect()
    }

    /// The next packet.
    pub fn expect(&mut self) -> Packet<'static> {
        self.decode();
        self.packets.pop_front().expect("a packet")
    }

    /// Nothing has come.
    pub fn expect_nothing(&mut self) {
        assert_eq!(self.packets(), [], "nothing");
    }

    /// Nothing has come, and the connection still stands.
    pub fn expect_silence(&mut self) {
        self.expect_nothing();
        assert!(!self.is_closed(), "still open");
    }

    /// Nothing has come, and the connection has ended.
    pub fn expect_closed(&mut self) {
        self.expect_nothing();
        assert!(self.is_closed(), "closed");
    }

    /// The next packet is a CONNACK.
    pub fn expect_connack(&mut self) -> ConnAck<'static> {
        match self.expect() {
            Packet::ConnAck(connack) => connack,
            other => panic!("CONNACK, not {other:?}"),
        }
    }

    /// The next packet is a CONNACK that refuses the client, and the last.
    pub fn expect_refused(&mut self) -> ConnAck<'static> {
        let connack = self.expect_connack();
        assert!(connack.reason.is_error(), "refused");
        self.expect_closed();
        connack
    }

    /// The next packet is a DISCONNECT, and the last.
    pub fn expect_disconnect(&mut self) -> Disconnect<'static> {
        match self.expect() {
            Packet::Disconnect(disconnect) => {
                assert_eq!(disconnect.session_expiry, None); // [MQTT-3.14.2-2]
                self.expect_closed();
                disconnect
            }
            other => panic!("DISCONNECT, not {other:?}"),
        }
    }

    /// The broker has ended the connection for a reason, which 5.0 is told and 3.x is not.
    pub fn expect_ended(&mut self, reason: ReasonCode) {
        match self.version {
            Version::V5 => assert_eq!(self.expect_disconnect().reason, reason),
            Version::V31 | Version::V311 => self.expect_closed(),
        }
    }

    /// The next packet is a PUBLISH.
    pub fn expect_publish(&mut self) -> Publish<'static> {
        match self.expect() {
            Packet::Publish(publish) => publish,
            other => panic!("PUBLISH, not {other:?}"),
        }
    }

    /// The next packet is a PUBLISH that says `payload`.
    pub fn expect_payload(&mut self, payload: &str) -> Publish<'static> {
        let publish = self.expect_publish();
        assert_eq!(String::from_utf8_lossy(publish.payload), payload);
        publish
    }

    /// The next packet is this acknowledgement.
    pub fn expect_ack(&mut self, kind: PacketKind, packet_id: u16) -> Ack<'static> {
        let packet = self.expect();
        assert_eq!(packet.kind(), kind, "{packet:?}");
        match packet {
            Packet::PubAck(ack) | Packet::PubRec(ack) | Packet::PubRel(ack) | Packet::PubComp(ack) => {
                assert_eq!(ack.packet_id.get(), packet_id, "{packet:?}");
                ack
            }
            other => panic!("{kind:?} is no acknowledgement of a PUBLISH: {other:?}"),
        }
    }

    /// The next packet is the SUBACK of this request.
    pub fn expect_suback(&mut self, packet_id: u16) -> SubAck<'static> {
        match self.expect() {
            Packet::SubAck(suback) if suback.packet_id.get() == packet_id => suback,
            other => panic!("SUBACK {packet_id}, not {other:?}"),
        }
    }

    /// The next packet is an AUTH.
    pub fn expect_auth(&mut self) -> Auth<'static> {
        match self.expect() {
            Packet::Auth(auth) => auth,
            other => panic!("AUTH, not {other:?}"),
        }
    }
}
