//! Random packets: valid ones, of every type and version, in the form their encoders take.

use mqtt::encode::{self, PublishOut, SubAckOut, SubscribeOut, UnsubscribeOut};
use mqtt::{
    Ack, Auth, ConnAck, ConnAckProperties, Connect, ConnectProperties, Disconnect, Limits, PacketKind,
    PublishProperties, QoS, ReasonCode, UserProperties, Version, Will,
};

use crate::random::{Pool, Random, Texts};

/// A packet in the form its encoder takes.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Source<'p> {
    Connect(Connect<'p>),
    ConnAck(ConnAck<'p>),
    Publish(PublishOut<'p>),
    Ack(PacketKind, Ack<'p>),
    Subscribe(SubscribeOut<'p>),
    SubAck(SubAckOut<'p>),
    Unsubscribe(UnsubscribeOut<'p>),
    UnsubAck(SubAckOut<'p>),
    PingReq,
    PingResp,
    Disconnect(Disconnect<'p>),
    Auth(Auth<'p>),
}

impl<'p> Source<'p> {
    /// A packet of any type of the version, with nothing in it that the version does not have.
    pub(crate) fn new(random: &mut Random, pool: &'p Pool<'_>, version: Version) -> Source<'p> {
        let number = 1 + random.below(if version == Version::V5 { 15 } else { 14 }) as u8;
        let kind = PacketKind::from_number(number).expect("a type");
        Source::of_kind(random, pool, version, kind)
    }

    fn of_kind(random: &mut Random, pool: &'p Pool<'_>, version: Version, kind: PacketKind) -> Source<'p> {
        match kind {
            PacketKind::Connect => Source::Connect(connect(random, pool, version)),
            PacketKind::ConnAck => Source::ConnAck(connack(random, pool, version)),
            PacketKind::Publish => Source::Publish(publish(random, pool, version)),
            PacketKind::PubAck | PacketKind::PubRec | PacketKind::PubRel | PacketKind::PubComp => {
                Source::Ack(kind, ack(random, pool, version, kind))
            }
            PacketKind::Subscribe => Source::Subscribe(subscribe(random, pool, version)),
            PacketKind::SubAck => Source::SubAck(suback(random, pool, version, kind)),
            PacketKind::Unsubscribe => Source::Unsubscribe(UnsubscribeOut {
                packet_id: random.packet_id(),
                user_properties: diagnostics(random, pool, version).1,
                filters: random.pick(&pool.unsubscribe_filters),
            }),
            PacketKind::UnsubAck => Source::UnsubAck(suback(random, pool, version, kind)),
            PacketKind::PingReq => Source::PingReq,
            PacketKind::PingResp => Source::PingResp,
            PacketKind::Disconnect => Source::Disconnect(disconnect(random, pool, version)),
            PacketKind::Auth => Source::Auth(auth(random, pool)),
        }
    }

    /// Its bytes.
    pub(crate) fn encode(&self, version: Version) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Source::Connect(connect) => encode::connect(&mut out, connect),
            Source::ConnAck(connack) => encode::connack(&mut out, version, connack),
            Source::Publish(publish) => drop(encode::publish(&mut out, version, publish).end),
            Source::Ack(kind, ack) => encode::ack(&mut out, version, *kind, ack),
            Source::Subscribe(subscribe) => encode::subscribe(&mut out, version, subscribe),
            Source::SubAck(suback) => encode::suback(&mut out, version, suback),
            Source::Unsubscribe(unsubscribe) => encode::unsubscribe(&mut out, version, unsubscribe),
            Source::UnsubAck(unsuback) => encode::unsuback(&mut out, version, unsuback),
            Source::PingReq => encode::pingreq(&mut out),
            Source::PingResp => encode::pingresp(&mut out),
            Source::Disconnect(disconnect) => encode::disconnect(&mut out, version, disconnect),
            Source::Auth(auth) => encode::auth(&mut out, auth),
        }
        out
    }
}

/// Runs `check` on `count` packets of each version.
pub(crate) fn for_each_packet(
    seed: u64,
    count: usize,
    mut check: impl FnMut(Version, &Source<'_>, &mut Random),
) {
    let mut random = Random::new(seed);
    for version in crate::VERSIONS {
        let texts = Texts::new(&mut random);
        let pool = Pool::new(&mut random, &texts);
        for _ in 0..count {
            let source = Source::new(&mut random, &pool, version);
            check(version, &source, &mut random);
        }
    }
}

fn diagnostics<'p>(
    random: &mut Random,
    pool: &'p Pool<'_>,
    version: Version,
) -> (Option<&'p str>, UserProperties<'p>) {
    if version < Version::V5 || random.flag() {
        return (None, UserProperties::default());
    }
    (random.maybe(|random| pool.text(random)), pool.user_properties(random))
}

fn reason(random: &mut Random, kind: PacketKind) -> ReasonCode {
    loop {
        match ReasonCode::from_value(random.next() as u8) {
            Some(reason) if reason.allowed_in(kind) => return reason,
            _ => {}
        }
    }
}

fn connect<'p>(random: &mut Random, pool: &'p Pool<'_>, version: Version) -> Connect<'p> {
    let client_id = pool.text(random);
    let username = random.maybe(|random| pool.text(random));
    let password_allowed = version == Version::V5 || username.is_some();
    let mut connect = Connect {
        clean_start: client_id.is_empty() || random.flag(),
        keep_alive: random.number() as u16,
        username,
        password: if password_allowed { random.maybe(|random| pool.data(random)) } else { None },
        will: random.maybe(|random| will(random, pool, version)),
        ..Connect::new(version, client_id)
    };
    if version == Version::V5 && random.flag() {
        let session_expiry = random.maybe(Random::number);
        let (authentication_method, authentication_data) = pool.authentication(random);
        connect.properties = ConnectProperties {
            session_expiry: session_expiry.unwrap_or(0),
            session_expiry_given: session_expiry.is_some(),
            receive_maximum: random.nonzero_u16(),
            maximum_packet_size: random.maybe(|random| random.number().max(1)),
            topic_alias_maximum: random.number() as u16,
            request_response_information: random.flag(),
            request_problem_information: random.flag(),
            authentication_method,
            authentication_data,
            user_properties: pool.user_properties(random),
        };
    }
    connect
}

fn will<'p>(random: &mut Random, pool: &'p Pool<'_>, version: Version) -> Will<'p> {
    let mut properties = PublishProperties::default();
    let mut delay_interval = 0;
    if version == Version::V5 {
        let block = random.pick(&pool.texts.publish_blocks);
        properties = PublishProperties::parse(block, &Limits::PROTOCOL).expect("valid");
        properties.message_expiry = random.maybe(Random::number);
        delay_interval = random.number();
    }
    Will {
        qos: random.qos(),
        retain: random.flag(),
        topic: random.pick(&pool.texts.topics),
        payload: pool.data(random),
        delay_interval,
        properties,
    }
}

fn connack<'p>(random: &mut Random, pool: &'p Pool<'_>, version: Version) -> ConnAck<'p> {
    let session_present = version > Version::V31 && random.flag();
    let refusal = match version {
        Version::V5 => reason(random, PacketKind::ConnAck),
        _ => ReasonCode::from_connect_return_code(random.below(6) as u8).expect("below 6"),
    };
    let reason = if session_present { ReasonCode::SUCCESS } else { refusal };
    let mut connack = ConnAck { session_present, reason, ..ConnAck::default() };
    if version == Version::V5 && random.flag() {
        let (authentication_method, authentication_data) = pool.authentication(random);
        connack.properties = ConnAckProperties {
            session_expiry: random.maybe(Random::number),
            receive_maximum: random.nonzero_u16(),
            maximum_qos: random.qos(),
            retain_available: random.flag(),
            maximum_packet_size: random.maybe(|random| random.number().max(1)),
            assigned_client_id: random.maybe(|random| pool.text(random)),
            topic_alias_maximum: random.number() as u16,
            reason_string: random.maybe(|random| pool.text(random)),
            user_properties: pool.user_properties(random),
            wildcard_subscriptions_available: random.flag(),
            subscription_ids_available: random.flag(),
            shared_subscriptions_available: random.flag(),
            server_keep_alive: random.maybe(|random| random.number() as u16),
            response_information: random.maybe(|random| pool.text(random)),
            server_reference: random.maybe(|random| pool.text(random)),
            authentication_method,
            authentication_data,
        };
    }
    connack
}

fn publish<'p>(random: &mut Random, pool: &'p Pool<'_>, version: Version) -> PublishOut<'p> {
    let qos = random.qos();
    let mut publish = PublishOut {
        dup: qos > QoS::AtMostOnce && random.flag(),
        qos,
        retain: random.flag(),
        topic: random.pick(&pool.texts.topics),
        packet_id: (qos > QoS::AtMostOnce).then(|| random.packet_id()),
        payload: pool.data(random),
        ..PublishOut::default()
    };
    if version == Version::V5 && random.flag() {
        publish.topic_alias = random.maybe(Random::nonzero_u16);
        publish.message_expiry = random.maybe(Random::number);
        publish.subscription_ids = random.pick(&pool.texts.subscription_ids);
        publish.forwarded = random.pick(&pool.texts.publish_blocks);
        if publish.topic_alias.is_some() && random.flag() {
            publish.topic = "";
        }
    }
    publish
}

fn ack<'p>(random: &mut Random, pool: &'p Pool<'_>, version: Version, kind: PacketKind) -> Ack<'p> {
    let reason = if version == Version::V5 { reason(random, kind) } else { ReasonCode::SUCCESS };
    let (reason_string, user_properties) = diagnostics(random, pool, version);
    Ack { packet_id: random.packet_id(), reason, reason_string, user_properties }
}

fn subscribe<'p>(random: &mut Random, pool: &'p Pool<'_>, version: Version) -> SubscribeOut<'p> {
    let (_, user_properties) = diagnostics(random, pool, version);
    let subscription_id = random.maybe(|random| random.number() & 0x0FFF_FFFF | 1);
    SubscribeOut {
        packet_id: random.packet_id(),
        subscription_id: subscription_id.filter(|_| version == Version::V5),
        user_properties,
        filters: random.pick(&pool.subscribe_filters),
    }
}

/// Reason codes to take slices of.
const GRANTED: [ReasonCode; 5] = [
    ReasonCode::SUCCESS,
    ReasonCode::GRANTED_QOS_1,
    ReasonCode::GRANTED_QOS_2,
    ReasonCode::UNSPECIFIED_ERROR,
    ReasonCode::SUCCESS,
];
const REFUSED: [ReasonCode; 4] = [
    ReasonCode::SUCCESS,
    ReasonCode::NOT_AUTHORIZED,
    ReasonCode::TOPIC_FILTER_INVALID,
    ReasonCode::PACKET_IDENTIFIER_IN_USE,
];

fn suback<'p>(random: &mut Random, pool: &'p Pool<'_>, version: Version, kind: PacketKind) -> SubAckOut<'p> {
    let (reason_string, user_properties) = diagnostics(random, pool, version);
    let granted = kind == PacketKind::SubAck && (version < Version::V5 || random.flag());
    let codes: &'static [ReasonCode] = if granted { &GRANTED } else { &REFUSED };
    let reasons = &codes[random.below(3)..];
    let reasons = if kind == PacketKind::UnsubAck && version < Version::V5 { &[] } else { reasons };
    SubAckOut { packet_id: random.packet_id(), reason_string, user_properties, reasons }
}

fn disconnect<'p>(random: &mut Random, pool: &'p Pool<'_>, version: Version) -> Disconnect<'p> {
    if version < Version::V5 {
        return Disconnect::default();
    }
    let reason = reason(random, PacketKind::Disconnect);
    let (reason_string, user_properties) = diagnostics(random, pool, version);
    let session_expiry = random.maybe(Random::number);
    let server_reference = random.maybe(|random| pool.text(random));
    Disconnect { reason, session_expiry, reason_string, server_reference, user_properties }
}

fn auth<'p>(random: &mut Random, pool: &'p Pool<'_>) -> Auth<'p> {
    let (method, data) = pool.authentication(random);
    if method.is_none() {
        return Auth::default();
    }
    let reason = reason(random, PacketKind::Auth);
    let (reason_string, user_properties) = diagnostics(random, pool, Version::V5);
    Auth { reason, method, data, reason_string, user_properties }
}
