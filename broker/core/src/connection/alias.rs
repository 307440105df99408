//! Topic aliases of one connection, both ways (MQTT 5.0, section 3.3.2.3.4).

/// Topics by the aliases that the client set.
#[derive(Debug, Default)]
pub struct InboundAliases {
    /// By alias − 1; grows to what the client uses, at most to Topic Alias Maximum.
    topics: Vec<Option<Box<str>>>,
}

impl InboundAliases {
    /// The client names `topic` by `alias`, which is within the announced maximum [MQTT-3.3.2-9].
    pub fn set(&mut self, alias: u16, topic: &str) {
        let index = usize::from(alias) - 1;
        if self.topics.len() <= index {
            self.topics.resize(index + 1, None);
        }
        match &mut self.topics[index] {
            Some(known) if **known == *topic => {}
            slot => *slot = Some(topic.into()),
        }
    }

    /// The topic of an alias, if it was set.
    pub fn get(&self, alias: u16) -> Option<&str> {
        self.topics.get(usize::from(alias).checked_sub(1)?)?.as_deref()
    }
}

/// Aliases that we set towards a client: the first topics of the connection get them and keep them.
///
/// The search is linear, for the maximum is small (`topic_alias_outbound_max`), and nothing is stored for
/// topics without an alias.
#[derive(Debug, Default)]
pub struct OutboundAliases {
    topics: Vec<Box<str>>,
    max: u16,
}

/// Topics shorter than this stay spelled out: an alias costs three bytes, and the search time.
const TOPIC_BYTES_MIN: usize = 8;

impl OutboundAliases {
    /// The client allows so many, our setting included.
    pub fn new(max: u16) -> OutboundAliases {
        OutboundAliases { topics: Vec::new(), max }
    }

    /// Whether any can be used.
    pub fn is_enabled(&self) -> bool {
        self.max > 0
    }

    /// The alias to send with a topic, and whether the client knows it, so that the topic can be left out.
    /// To be called only for a packet that will leave [MQTT-3.3.2-12].
    pub fn assign(&mut self, topic: &str) -> Option<(u16, bool)> {
        if topic.len() < TOPIC_BYTES_MIN {
            return None;
        }
        let alias = |index: usize| u16::try_from(index + 1).expect("at most max");
        if let Some(index) = self.topics.iter().position(|known| **known == *topic) {
            return Some((alias(index), true));
        }
        (self.topics.len() < usize::from(self.max)).then(|| {
            self.topics.push(topic.into());
            (alias(self.topics.len() - 1), false)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An alias can be set anew, and one that was never set has no topic.
    #[test]
    fn inbound_aliases_are_remembered() {
        let mut aliases = InboundAliases::default();
        assert_eq!(aliases.get(1), None);
        aliases.set(3, "a");
        aliases.set(3, "b");
        assert_eq!(aliases.get(3), Some("b"));
        assert_eq!(aliases.get(2), None);
        assert_eq!(aliases.get(0), None);
    }

    /// [MQTT-3.1.2-26]: never more aliases than the client allows.
    #[test]
    fn outbound_aliases_stay_below_the_maximum() {
        let mut aliases = OutboundAliases::new(1);
        assert_eq!(aliases.assign("long/topic/1"), Some((1, false)));
        assert_eq!(aliases.assign("long/topic/1"), Some((1, true)));
        assert_eq!(aliases.assign("long/topic/2"), None);
        assert_eq!(aliases.assign("short"), None);
    }
}
