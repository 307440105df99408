//! Retained messages where they were written, a page at a time.

use std::sync::Arc;

use mqtt::QoS;
use wal::Window;

use super::{Storage, StoredLog};
use crate::changes::ChangeName;
use crate::message::{Message, Publication, Publisher};
use crate::payload::Payload;
use crate::peer::RetainedAsk;
use crate::ranges::MessageId;
use crate::ranges::retain::command::Command;
use crate::ranges::retain::{Page, Position};
use crate::time::{Now, Wall};

/// Messages of one page, and the bytes after which it ends early.
const PAGE_MESSAGES_MAX: usize = 64;
const PAGE_BYTES_MAX: u64 = 64 * 1024;

/// Of which retained messages a page is wanted.
struct Wanted<'a> {
    tenant: &'a Arc<str>,
    filter: &'a str,
    /// Only those behind this place.
    after: Option<&'a Position>,
    /// Without the broker's own that these changes have left.
    behind: &'a dyn Fn(ChangeName) -> bool,
    /// Without these.
    left_out: &'a dyn Fn(MessageId) -> bool,
}

impl Storage {
    /// The same as [`StoredLog::retained_page`], of all logs of this core together.
    pub fn retained_page(
        &self,
        tenant: &Arc<str>,
        filter: &str,
        after: Option<&Position>,
        now: Wall,
    ) -> Page {
        let mut all = Page::default();
        for log in &self.logs {
            let page = log.retained_page(tenant, filter, after, now);
            all.messages.extend(page.messages);
            // What the others have behind the end of the shortest page comes with the next.
            all.rest = all.rest.take().into_iter().chain(page.rest).min();
        }
        if let Some(rest) = &all.rest {
            all.messages.retain(|message| Position::after(&message.topic) <= *rest);
        }
        all
    }
}

impl StoredLog {
    /// Retains what the broker says of itself, which need not outlive it, and changes all the time.
    pub(crate) fn keep_unwritten(&mut self, publication: &Publication<'_>, change: ChangeName) {
        let name = (Arc::clone(publication.tenant), Box::from(publication.topic));
        if publication.payload.is_empty() {
            self.unwritten.remove(&name);
        } else {
            self.unwritten.insert(name, (Arc::clone(publication.share()), change));
        }
    }

    /// Some of the retained messages that a filter matches, behind `after` if that is said. A page may be empty and
    /// not the last.
    fn retained_page(&self, tenant: &Arc<str>, filter: &str, after: Option<&Position>, now: Wall) -> Page {
        let everything = Wanted { tenant, filter, after, behind: &|_| false, left_out: &|_| false };
        let page = self.page_if(&everything, now, |_| Ok(()));
        page.expect("everything may be waited for")
    }

    /// The page that is asked for, without what comes live, if nothing of it has to be waited for. If not: a piece of
    /// the log that has been asked for, like all others that the page needs.
    pub(crate) fn retained_page_at_hand(
        &self,
        now: Now,
        ask: &RetainedAsk,
        comes_live: impl Fn(MessageId) -> bool,
    ) -> Result<Page, Window> {
        let behind = |change: ChangeName| change.is_behind(&ask.point);
        let (filter, after) = (&*ask.filter, ask.after.as_ref());
        let wanted = Wanted { tenant: &ask.tenant, filter, after, behind: &behind, left_out: &comes_live };
        self.page_if(&wanted, now.wall, |id| {
            let id = id.global(self.retain.range());
            self.retain.at_hand(wal::Mono(now.monotonic.0), &self.log, id)
        })
    }

    fn page_if(
        &self,
        wanted: &Wanted<'_>,
        now: Wall,
        at_hand: impl Fn(MessageId) -> Result<(), Window>,
    ) -> Result<Page, Window> {
        let Wanted { tenant, filter, after, .. } = *wanted;
        let (mut messages, mut bytes, mut missing) = (Vec::new(), 0, None);
        if after.is_none() && filter.starts_with('$') {
            let unwritten = self.unwritten.iter().filter(|((of, topic), (_, change))| {
                of == tenant && mqtt::filter_matches(filter, topic) && !(wanted.behind)(*change)
            });
            messages.extend(unwritten.map(|(_, (message, _))| Arc::clone(message)));
        }
        let mut count = messages.len();
        let rest = self.retain.machine().page((tenant, filter), after, now, |topic| {
            if (wanted.left_out)(topic.message()) {
                return true;
            }
            bytes += u64::from(topic.bytes());
            count += 1;
            match at_hand(topic.message()) {
                Ok(()) if missing.is_none() => {
                    messages.push(Arc::new(self.retained(tenant, topic.message())));
                }
                Ok(()) => {}
                Err(window) => missing = missing.or(Some(window)),
            }
            count < PAGE_MESSAGES_MAX && bytes < PAGE_BYTES_MAX
        });
        missing.map_or(Ok(Page { messages, rest }), Err)
    }

    /// # Panics
    /// When the disk has changed under us: what was acknowledged cannot be delivered any more.
    fn retained(&self, tenant: &Arc<str>, id: MessageId) -> Message {
        let stored = self.retain.read_command(&self.log, id.global(self.retain.range()));
        let stored = stored.unwrap_or_else(|error| panic!("a retained message: {error:?}"));
        let Ok(Command::Set(set)) = Command::decode(stored.body()) else {
            panic!("{id:?}: a retained message came with a command that sets it");
        };
        let head = &set.message;
        let expires = head.expires.to_native();
        Message {
            tenant: Arc::clone(tenant),
            publisher: Publisher { client_hash: head.client_hash.to_native() },
            topic: (*head.topic).into(),
            properties: (*head.properties).into(),
            payload: Payload::copy_of(stored.payload()),
            expires: (expires != u64::MAX).then_some(Wall(expires)),
            qos: QoS::from_bits(head.qos).expect("written from a QoS"),
            retain: head.retain,
            origin: None,
        }
    }
}
