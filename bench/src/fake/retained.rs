//! Retained messages, found by topic or by prefix.

use foldhash::fast::FixedState;
use hashbrown::HashMap;

/// One retained message.
#[derive(Debug)]
pub(super) struct Retained {
    /// Its topic.
    pub(super) topic: String,
    /// Its payload; empty when it was taken back.
    pub(super) payload: Vec<u8>,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct RetainedStore {
    messages: Vec<Retained>,
    by_topic: HashMap<String, usize, FixedState>,
    by_prefix: HashMap<String, Vec<usize>, FixedState>,
}

impl RetainedStore {
    /// Sets, replaces or (empty) takes back the message of a topic.
    pub(super) fn set(&mut self, topic: &str, payload: &[u8]) {
        if let Some(index) = self.by_topic.get(topic) {
            let kept = &mut self.messages[*index].payload;
            kept.clear();
            kept.extend_from_slice(payload);
            return;
        }
        let index = self.messages.len();
        self.messages.push(Retained { topic: topic.to_owned(), payload: payload.to_vec() });
        self.by_topic.insert(topic.to_owned(), index);
        for (at, _) in topic.match_indices('/') {
            self.by_prefix.entry(topic[..=at].to_owned()).or_default().push(index);
        }
    }

    /// The messages under a prefix, or the one of a topic.
    pub(super) fn matching<'a>(
        &'a self,
        filter: &str,
        prefix: Option<&str>,
    ) -> impl Iterator<Item = &'a Retained> + use<'a> {
        let indexes = match prefix {
            Some(prefix) => self.by_prefix.get(prefix).map(Vec::as_slice).unwrap_or_default(),
            None => self.by_topic.get(filter).map(std::slice::from_ref).unwrap_or_default(),
        };
        indexes.iter().map(|index| &self.messages[*index]).filter(|message| !message.payload.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Set, replaced, found by topic and prefix, taken back.
    #[test]
    fn messages_are_kept_by_topic() {
        let mut store = RetainedStore::default();
        store.set("ret/1/a", b"old");
        store.set("ret/1/a", b"new");
        store.set("ret/1/b", b"x");
        store.set("ret/2/a", b"y");
        let payloads = |filter: &str, prefix: Option<&str>| {
            store.matching(filter, prefix).map(|message| message.payload.clone()).collect::<Vec<_>>()
        };
        assert_eq!(payloads("ret/1/+", Some("ret/1/")), [b"new".to_vec(), b"x".to_vec()]);
        assert_eq!(payloads("ret/2/a", None), [b"y".to_vec()]);
        store.set("ret/2/a", b"");
        assert_eq!(store.matching("ret/2/a", None).count(), 0);
    }
}
