//! The beginning and the end of connections.

use std::time::Duration;

use broker_core::time::Mono;
use mqtt::{Connect, ConnectProperties, PublishProperties, QoS, Version, Will};

use super::{Client, Line, Stage};
use crate::history::{Fact, Greeting, Message, MessageId, Sent, Welcome, WillFact};
use crate::topics::TOPICS;
use crate::world::World;

impl Client {
    /// Connects, with a clean start or not as drawn.
    pub(super) fn connect_anew(&mut self, world: &mut World) {
        let persistent = self.random.percent(self.profile.persistent_percent);
        let clean = self.must_clean
            || if self.profile.version == Version::V5 { self.random.percent(25) } else { !persistent };
        self.connect(world, clean, persistent);
    }

    /// Connects to the session that waits.
    pub fn come_back(&mut self, world: &mut World) {
        self.connect(world, false, true);
    }

    fn connect(&mut self, world: &mut World, clean: bool, persistent: bool) {
        // A 3.x session outlives its connection exactly if it is not clean.
        let version = self.profile.version;
        let persistent = if version == Version::V5 { persistent } else { !clean };
        let core = self.random.index(world.node.cores()) as u16;
        let link = world.node.open(version, core);
        world.fact(Fact::Opened { link, client: self.index, core });
        if let Some(older) = self.line.take() {
            self.on_lost(&older, world.at);
            self.old.push(older.link);
        }
        // While it is not decided which CONNECT the broker takes for the later one, only a clean start leads
        // to a session the client knows.
        let raced = world.checkers.ledger().has_loose_link(self.index);
        let clean = clean || self.must_clean || raced;
        let persistent = if version == Version::V5 { persistent } else { !clean };
        if clean {
            // From here on nobody knows whether the broker still has the old one.
            self.forget_session();
            self.must_clean = true;
        }
        let greeting = self.greeting(world, clean, persistent);
        let mut bytes = Vec::new();
        self.encode_connect(world, &greeting, &mut bytes);
        self.line = Some(Line {
            late: self.session_lasts <= world.at,
            expiry: greeting.expiry,
            link,
            version,
            stage: Stage::Greeting,
            persistent,
            clean,
            raced,
            keep_alive: greeting.keep_alive,
            last_sent: world.at,
            silent: false,
            paused: 0,
            buffer: Vec::new(),
            acks: std::collections::VecDeque::new(),
            asking: Vec::new(),
            pings: 0,
            aliases_in: std::collections::BTreeMap::new(),
            aliases_out: Vec::new(),
            receive_maximum: u16::MAX,
            alias_max: 0,
        });
        world.fact(Fact::Sent(link, Sent::Connect(greeting)));
        world.node.write(link, &bytes);
    }

    fn greeting(&mut self, world: &mut World, clean: bool, persistent: bool) -> Greeting {
        let v5 = self.profile.version == Version::V5;
        let will = self.random.percent(30).then(|| self.will(world, v5));
        Greeting {
            version: self.profile.version,
            clean,
            expiry: match (persistent, v5) {
                (false, _) => 0,
                (true, true) => self.profile.expiry,
                (true, false) => u32::MAX,
            },
            keep_alive: self.profile.keep_alive,
            receive_maximum: self.profile.receive_maximum,
            packet_bytes_max: self.profile.packet_bytes_max,
            alias_max: self.profile.alias_max,
            will,
        }
    }

    fn will(&mut self, world: &mut World, v5: bool) -> WillFact {
        let message = Message {
            publisher: self.index,
            topic: TOPICS[self.random.index(self.profile.topics)],
            qos: self.qos(),
            retain: self.random.percent(20),
            will: true,
            expiry: None,
            payload: vec![b'w'; self.random.between(9, 60) as usize],
            forwarded: Vec::new(),
        };
        let delay = if v5 { self.random.pick(&[0, 0, 1, 5]) } else { 0 };
        WillFact { message: world.history.register(message), delay }
    }

    fn encode_connect(&self, world: &World, greeting: &Greeting, bytes: &mut Vec<u8>) {
        let mut connect = Connect::new(greeting.version, &self.id);
        connect.clean_start = greeting.clean;
        connect.keep_alive = greeting.keep_alive;
        connect.will = greeting.will.map(|will| {
            let message = world.history.message(will.message);
            Will {
                qos: message.qos,
                retain: message.retain,
                topic: message.topic,
                payload: &message.payload,
                delay_interval: will.delay,
                properties: PublishProperties::default(),
            }
        });
        if greeting.version == Version::V5 {
            connect.properties = ConnectProperties {
                session_expiry: greeting.expiry,
                session_expiry_given: greeting.expiry > 0,
                receive_maximum: greeting.receive_maximum.unwrap_or(u16::MAX),
                maximum_packet_size: greeting.packet_bytes_max,
                topic_alias_maximum: greeting.alias_max,
                ..ConnectProperties::default()
            };
        }
        mqtt::encode::connect(bytes, &connect);
    }

    /// CONNACK: the session goes on or begins anew.
    pub(super) fn on_welcome(&mut self, world: &mut World, welcome: &Welcome) {
        if welcome.reason != 0 {
            self.leave(world, false);
            return;
        }
        let Some(line) = &mut self.line else { return };
        line.stage = Stage::Online;
        line.keep_alive = welcome.keep_alive.unwrap_or(line.keep_alive);
        // 3.x knows no receive maximum; a client of it keeps to a number of its own.
        line.receive_maximum = if line.version == Version::V5 { welcome.receive_maximum } else { 40 };
        line.alias_max = welcome.alias_max;
        let persistent = line.persistent;
        self.must_clean = line.raced;
        if !welcome.session_present {
            self.forget_session();
        }
        self.session_kept = persistent;
        self.resend(world);
    }

    /// [MQTT-4.4.0-1]
    fn resend(&mut self, world: &mut World) {
        let unfinished: Vec<(u16, MessageId, bool)> =
            self.outbound.iter().map(|each| (each.packet_id, each.message, each.received)).collect();
        for (packet_id, message, received) in unfinished {
            if received {
                self.send_release(world, packet_id);
            } else {
                self.send_publish(world, message, Some(packet_id), true);
            }
        }
    }

    /// What the client knows when a connection is over, whoever ended it.
    pub(super) fn on_lost(&mut self, line: &Line, at: Mono) {
        if !line.persistent && line.stage != Stage::Greeting {
            self.forget_session();
            self.must_clean = true;
        }
        if line.stage == Stage::Greeting && !line.persistent {
            self.must_clean = true; // It may have been let in.
        }
        if line.stage != Stage::Greeting {
            self.session_lasts = at.after(Duration::from_secs(line.expiry.into()));
        } else if line.late {
            self.must_clean = true; // Another session may have begun, which would pass for the client's.
        }
    }

    /// Closes the socket.
    pub(super) fn leave(&mut self, world: &mut World, reset: bool) {
        if let Some(line) = self.line.take() {
            self.on_lost(&line, world.at);
            world.node.leave(line.link, reset);
            world.node_facts();
        }
    }

    /// The application's message, as it is to be published.
    pub(super) fn draw_message(&mut self, world: &mut World, qos: QoS) -> MessageId {
        let v5 = self.profile.version == Version::V5;
        let retain = self.random.percent(self.profile.retain_percent);
        let clears = retain && self.random.percent(if self.profile.retain_percent > 50 { 3 } else { 20 });
        let length = if clears { 0 } else { self.random.between(9, self.profile.payload_bytes_max) as usize };
        let mut forwarded = Vec::new();
        if v5 && self.random.percent(20) {
            let mut properties = mqtt::encode::PropertyWriter::new(&mut forwarded);
            properties.payload_format_utf8(true);
            properties.content_type("text/plain");
            properties.response_topic("answers");
            properties.correlation_data(&[1, 2, 3]);
            properties.user_property("name", "first");
            properties.user_property("name", "second");
        }
        world.history.register(Message {
            publisher: self.index,
            topic: TOPICS[self.random.index(self.profile.topics)],
            qos,
            retain,
            will: false,
            expiry: (v5 && self.random.percent(10)).then(|| self.random.between(1, 20) as u32),
            payload: vec![b'x'; length],
            forwarded,
        })
    }
}
