//! What one run does: connections, flows of messages, how long. A scenario by name makes one
//! ([`crate::scenario`]), the command line overrides it, everything else only reads it.

use std::time::Duration;

use mqtt::{QoS, Version};

use crate::payload::{PUBLISHERS_MAX, STAMP_BYTES};
use crate::persistent::{Sessions, Stage};

/// Connections a run may open.
pub(crate) const CONNECTIONS_MAX: u32 = 1_000_000;
/// Longest time a run may measure.
pub(crate) const DURATION_MAX: Duration = Duration::from_secs(3600);
/// Filters in one SUBSCRIBE.
pub(crate) const SUBSCRIBE_FILTERS_MAX: u32 = 100;

/// One run.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// The scenario's name.
    pub(crate) name: String,
    /// Streams of messages, side by side.
    pub(crate) flows: Vec<Flow>,
    /// Connections that only stay.
    pub(crate) idle: u32,
    /// Protocol version of every connection.
    pub(crate) version: Version,
    /// As whom every connection logs in, and with what password.
    pub(crate) login: Option<(String, String)>,
    /// Bytes of every payload, stamp included.
    pub(crate) payload_bytes: usize,
    /// Connections opened per second; `None`: as fast as `handshakes_max` allows.
    pub(crate) connect_rate: Option<f64>,
    /// Connections between SYN and CONNACK at a time.
    pub(crate) handshakes_max: u32,
    /// Traffic before the measured time.
    pub(crate) warmup: Duration,
    /// The measured time.
    pub(crate) duration: Duration,
    /// Longest wait for what is still under way afterwards.
    pub(crate) drain: Duration,
    /// Messages per publisher after which it stops.
    pub(crate) messages: Option<u64>,
    /// Whether the subscribers' sessions outlive their connections, and how their scenario goes.
    pub(crate) sessions: Sessions,
    /// Who is there in this run of several.
    pub(crate) stage: Stage,
    /// Retained messages are written by this run first.
    pub(crate) populate: Option<Box<Plan>>,
}

/// Publishers and subscribers of one shape.
#[derive(Debug, Clone)]
pub(crate) struct Flow {
    /// Who gets what.
    pub(crate) shape: Shape,
    /// Connections that publish.
    pub(crate) publishers: u32,
    /// Connections that subscribe.
    pub(crate) subscribers: u32,
    /// Topics (fan-out), filters (wildcard) or retained messages over all.
    pub(crate) topics: u32,
    /// Of the publishes and the subscriptions.
    pub(crate) qos: QoS,
    /// What drives the publishers.
    pub(crate) load: Load,
}

/// Who gets what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// Every subscriber takes every topic; publisher p has topic p mod topics.
    FanOut,
    /// Subscriber i takes the topic of publisher i.
    OneToOne,
    /// Members of one `$share` group take what all publishers send, each on its own topic.
    Shared,
    /// Subscriber i holds its share of filters `dev/<n>/+/state`, publisher i sends to them in turn.
    Wildcard,
    /// Publisher i never repeats a topic, subscriber i takes all of them by one filter.
    UniqueTopics,
    /// Publishers set retained messages, each its share of the topics in turn; nobody listens.
    RetainedSet,
    /// Subscribers fetch retained messages, `topics / publishers` at a time, over and over; the
    /// publishers are those that set them before.
    RetainedGet,
}

/// What drives a publisher.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Load {
    /// Closed loop: at most `window` messages of a publisher unacknowledged (QoS 1, 2) or
    /// undelivered (QoS 0).
    Window(u32),
    /// Open loop: messages per second over all publishers of the flow.
    Rate(f64),
}

/// Why a plan cannot run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PlanError {
    /// Below [`STAMP_BYTES`] or above 256 KiB.
    PayloadBytes,
    /// No connection at all, or more than [`CONNECTIONS_MAX`].
    Connections,
    /// More than [`PUBLISHERS_MAX`].
    Publishers,
    /// As many publishers as subscribers are needed.
    Pairs,
    /// At least one topic per publisher or subscriber is needed.
    Topics,
    /// A window is 1 to 65535, a rate above zero.
    Load,
    /// QoS 0 has no answer to wait for where nobody listens.
    QosWithoutListener,
    /// Above [`DURATION_MAX`].
    Duration,
}

impl std::fmt::Display for PlanError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            PlanError::PayloadBytes => "--payload must be 16 (the stamp) to 262144 bytes",
            PlanError::Connections => "there must be 1 to 1000000 connections",
            PlanError::Publishers => "there can be at most 1048576 publishers",
            PlanError::Pairs => "this scenario needs as many --publishers as --subscribers",
            PlanError::Topics => "--topics must be at least the number of publishers, or 1 for a fan-out",
            PlanError::Load => "--window must be 1 to 65535, --rate above 0",
            PlanError::QosWithoutListener => "retained-set needs --qos 1 or 2: QoS 0 answers nothing",
            PlanError::Duration => "--duration and --warmup must be at most an hour together",
        })
    }
}

impl Plan {
    /// All connections of the run.
    pub(crate) fn connections(&self) -> u32 {
        let here = |flow: &Flow| {
            let publishers = if self.stage.has_publishers() { flow.publishing() } else { 0 };
            publishers + if self.stage.has_subscribers() { flow.subscribers } else { 0 }
        };
        self.idle + self.flows.iter().map(here).sum::<u32>()
    }

    /// Files the harness, or a broker, needs for them.
    pub(crate) fn files(&self) -> u64 {
        const BESIDE_CONNECTIONS: u64 = 256;
        u64::from(self.connections()) + BESIDE_CONNECTIONS
    }

    /// Leaves out idle connections for which `files` are too few, and says how many; `None` when the
    /// others alone need more.
    pub(crate) fn fit(&mut self, files: u64) -> Option<u32> {
        let excess = u32::try_from(self.files().saturating_sub(files)).ok()?;
        self.idle = self.idle.checked_sub(excess)?;
        (self.connections() > 0).then_some(excess)
    }

    /// Deliveries that one publish of a flow leads to during this run.
    pub(crate) fn fan(&self, flow: &Flow) -> u32 {
        if self.stage.delivers() { flow.fan() } else { 0 }
    }

    /// All publishers of the run, there or not.
    pub(crate) fn publishers(&self) -> u32 {
        self.flows.iter().map(Flow::publishing).sum()
    }

    /// The first publisher's number of each flow: publishers are counted over the whole run.
    pub(crate) fn first_publisher(&self, flow: usize) -> u32 {
        self.flows[..flow].iter().map(Flow::publishing).sum()
    }

    /// Checks what the rest of the program relies on.
    pub(crate) fn check(&self) -> Result<(), PlanError> {
        if !(STAMP_BYTES..=256 << 10).contains(&self.payload_bytes) {
            return Err(PlanError::PayloadBytes);
        }
        if self.warmup + self.duration > DURATION_MAX {
            return Err(PlanError::Duration);
        }
        if !(1..=CONNECTIONS_MAX).contains(&self.connections()) {
            return Err(PlanError::Connections);
        }
        if self.publishers() > PUBLISHERS_MAX {
            return Err(PlanError::Publishers);
        }
        self.flows.iter().try_for_each(Flow::check)?;
        self.populate.as_ref().map_or(Ok(()), |plan| plan.check())
    }
}

impl Flow {
    /// Connections that publish during the run itself.
    pub(crate) fn publishing(&self) -> u32 {
        if self.shape == Shape::RetainedGet { 0 } else { self.publishers }
    }

    /// Deliveries of one publish.
    pub(crate) fn fan(&self) -> u32 {
        match self.shape {
            Shape::FanOut => self.subscribers,
            Shape::RetainedSet | Shape::RetainedGet => 0,
            Shape::Shared | Shape::OneToOne | Shape::Wildcard | Shape::UniqueTopics => 1,
        }
    }

    /// Topics that publisher `turn` takes in turn: the first one and how many.
    pub(crate) fn topics_of(&self, turn: u32) -> (u32, u32) {
        match self.shape {
            Shape::FanOut => (turn % self.topics, 1),
            Shape::OneToOne | Shape::Shared => (turn, 1),
            Shape::UniqueTopics => (0, u32::MAX),
            Shape::Wildcard | Shape::RetainedSet | Shape::RetainedGet => {
                let cut = |turn: u32| {
                    (u64::from(turn) * u64::from(self.topics) / u64::from(self.publishers)) as u32
                };
                (cut(turn), cut(turn + 1) - cut(turn))
            }
        }
    }

    /// The filters of subscriber `turn` of flow `number`, one after the other.
    pub(crate) fn filter(&self, number: usize, tag: u16, turn: u32, index: u32) -> Option<String> {
        match self.shape {
            Shape::FanOut => (index < self.topics).then(|| format!("fan/{number}/{index}")),
            Shape::OneToOne => (index == 0).then(|| format!("p2p/{number}/{turn}")),
            Shape::Shared => (index == 0).then(|| format!("$share/perf/test/{number}/#")),
            Shape::UniqueTopics => (index == 0).then(|| format!("u/{tag:03x}/{turn:06}/+")),
            Shape::Wildcard => {
                let (first, count) = self.topics_of(turn);
                (index < count).then(|| format!("dev/{:07}/+/state", first + index))
            }
            Shape::RetainedSet => None,
            Shape::RetainedGet => (index < self.publishers).then(|| format!("ret/{index:05}/+")),
        }
    }

    /// The topic of publisher `turn`, and the place in it of the digits that change with every
    /// message: offset and width.
    pub(crate) fn topic(&self, number: usize, tag: u16, turn: u32) -> (String, Option<(usize, usize)>) {
        let (first, _) = self.topics_of(turn);
        match self.shape {
            Shape::FanOut => (format!("fan/{number}/{first}"), None),
            Shape::OneToOne => (format!("p2p/{number}/{turn}"), None),
            Shape::Shared => (format!("test/{number}/{turn}"), None),
            Shape::UniqueTopics => (format!("u/{tag:03x}/{turn:06}/0000000000"), Some((13, 10))),
            Shape::Wildcard => ("dev/0000000/t/state".to_owned(), Some((4, 7))),
            Shape::RetainedSet | Shape::RetainedGet => (format!("ret/{turn:05}/0000000"), Some((10, 7))),
        }
    }

    fn check(&self) -> Result<(), PlanError> {
        match self.load {
            Load::Window(window) if !(1..=65_535).contains(&window) => return Err(PlanError::Load),
            Load::Rate(rate) if !(rate > 0.0 && rate.is_finite()) => return Err(PlanError::Load),
            Load::Window(_) | Load::Rate(_) => {}
        }
        let paired = matches!(self.shape, Shape::OneToOne | Shape::Wildcard | Shape::UniqueTopics);
        if self.publishers == 0 || paired && self.publishers != self.subscribers {
            return Err(PlanError::Pairs);
        }
        let topics_min = match self.shape {
            Shape::FanOut => 1,
            Shape::Wildcard | Shape::RetainedSet | Shape::RetainedGet => self.publishers,
            Shape::OneToOne | Shape::Shared | Shape::UniqueTopics => 0,
        };
        if !(topics_min..10_000_000).contains(&self.topics) {
            return Err(PlanError::Topics);
        }
        let unheard =
            self.shape == Shape::RetainedSet || self.shape != Shape::RetainedGet && self.subscribers == 0;
        if unheard && self.qos == QoS::AtMostOnce {
            return Err(PlanError::QosWithoutListener);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow(shape: Shape, publishers: u32, subscribers: u32, topics: u32) -> Flow {
        Flow { shape, publishers, subscribers, topics, qos: QoS::AtLeastOnce, load: Load::Window(1) }
    }

    /// Every topic a publisher sends to, digits and all, is matched by a filter of its subscriber:
    /// compared level by level, for every shape with listeners.
    #[test]
    fn topics_and_filters_meet() {
        for shape in [Shape::FanOut, Shape::OneToOne, Shape::Shared, Shape::UniqueTopics, Shape::Wildcard] {
            let flow = flow(shape, 3, 3, 7);
            for turn in 0..3 {
                let (mut topic, digits) = flow.topic(1, 0xABC, turn);
                if let Some((at, width)) = digits {
                    let (first, _) = flow.topics_of(turn);
                    topic.replace_range(at..at + width, &format!("{first:0width$}"));
                }
                let filters: Vec<String> =
                    (0..).map_while(|index| flow.filter(1, 0xABC, turn, index)).collect();
                let matched = filters.iter().any(|filter| {
                    let filter = filter.strip_prefix("$share/perf/").unwrap_or(filter);
                    matches(filter, &topic)
                });
                assert!(matched, "{shape:?}: {topic} is matched by none of {filters:?}");
            }
        }
    }

    fn matches(filter: &str, topic: &str) -> bool {
        let mut topic = topic.split('/');
        for level in filter.split('/') {
            match (level, topic.next()) {
                ("#", _) => return true,
                ("+", Some(_)) => {}
                (level, Some(other)) if level == other => {}
                _ => return false,
            }
        }
        topic.next().is_none()
    }

    /// Topics are cut over publishers without a gap or an overlap.
    #[test]
    fn topics_are_cut_over_publishers() {
        let flow = flow(Shape::Wildcard, 7, 7, 100);
        let mut next = 0;
        for turn in 0..7 {
            let (first, count) = flow.topics_of(turn);
            assert_eq!(first, next);
            next = first + count;
        }
        assert_eq!(next, 100);
    }

    /// Too few files leave out idle connections alone, and never all of them.
    #[test]
    fn idle_connections_fit_the_files() {
        let mut idle = crate::scenario::find("idle").unwrap().plan();
        assert_eq!(idle.fit(1_256), Some(19_000));
        assert_eq!(idle.connections(), 1_000);
        assert_eq!(idle.fit(200), None);
        assert_eq!(crate::scenario::find("sat-p2p").unwrap().plan().fit(200), None);
    }

    /// What cannot run is refused by name.
    #[test]
    fn plans_are_checked() {
        assert_eq!(flow(Shape::OneToOne, 2, 3, 0).check(), Err(PlanError::Pairs));
        assert_eq!(flow(Shape::Wildcard, 2, 2, 1).check(), Err(PlanError::Topics));
        let silent = Flow { qos: QoS::AtMostOnce, ..flow(Shape::RetainedSet, 1, 0, 1) };
        assert_eq!(silent.check(), Err(PlanError::QosWithoutListener));
        let still = Flow { load: Load::Rate(0.0), ..flow(Shape::FanOut, 1, 1, 1) };
        assert_eq!(still.check(), Err(PlanError::Load));
    }
}
