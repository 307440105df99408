//! What a session's subscriptions are still owed of retained messages: filter after filter, page by page.
//!
//! The ranges remember nothing of their readers. How far this one has come at each of them stands here, so that it
//! goes on where it was when its client comes back: what was on its way then is asked for again, as it is retained
//! by then.
//!
//! A page shows what was retained when it was written, without what has changed behind the filter's [`Point`] and may
//! still be on its way live. Where something has reached the client live since the filter was asked for, a copy is left out
//! here that is the same message again, or an older one (promise 3, and 6). So many topics are remembered for this
//! ([`super::overtaken`]); of those beyond, a copy comes all the same, and never an old one.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use smallvec::SmallVec;
use wal::LogId;

use super::overtaken::{ChangeNumber, Forgotten, Live, Overtaken};
use crate::changes::Point;
use crate::delivery::DeliveryOptions;
use crate::message::Message;
use crate::peer::RetainedPage;
use crate::ranges::retain::Position;

/// Waiting filters that a topic is compared with; where there are more, it is taken for one that they match.
const COMPARED_MAX: usize = 64;

/// See the module's documentation. Never empty: a session that is owed nothing has none.
#[derive(Debug, Default)]
pub struct Owed {
    /// The filter at hand.
    front: Option<Stream>,
    /// Those whose turn has not come. One that is asked for again meanwhile is owed once, or a client that repeats its
    /// SUBSCRIBE faster than ranges answer could pile up any number.
    waiting: BTreeMap<Box<str>, Wanted>,
    /// What the client has got live of what it is owed.
    overtaken: Overtaken,
    /// The point that is waited for, by its number.
    awaited: Option<u64>,
}

/// A filter that was asked for.
#[derive(Clone, Debug)]
struct Wanted {
    options: DeliveryOptions,
    /// The last change before it was.
    since: ChangeNumber,
    /// Up to where it is owed copies. None: that is to be found out, for the connection is another one.
    point: Option<Point>,
}

/// Retained messages for one filter of a SUBSCRIBE.
#[derive(Debug)]
struct Stream {
    filter: Box<str>,
    wanted: Wanted,
    /// Messages handed over.
    handed: u32,
    /// By which answers find it; None until the ranges are asked.
    number: Option<u64>,
    /// How far it has come at each range; a range that has no more is not there. None: none was ever asked.
    parts: Option<SmallVec<[Part; 1]>>,
}

/// One range's part of a stream.
#[derive(Debug)]
struct Part {
    log: LogId,
    /// Where the page begins.
    after: Option<Position>,
    page: Progress,
}

#[derive(Debug)]
enum Progress {
    /// To be asked for.
    Wanted,
    /// Asked for; when it comes it may be of no use, because what it is to leave out was forgotten.
    Asked { useless: bool },
    /// Here.
    Here(Here),
}

/// A page that is here.
#[derive(Debug)]
struct Here {
    /// What is left of it.
    ready: VecDeque<Arc<Message>>,
    /// The last that was taken from it.
    taken: Option<Arc<Message>>,
    /// Where the next begins.
    rest: Option<Position>,
    /// By core: the changes that it was made of.
    made: SmallVec<[u64; 4]>,
}

/// A page to be asked for.
#[derive(Debug, PartialEq, Eq)]
pub struct Ask {
    /// At the range of which log.
    pub log: LogId,
    /// Behind what.
    pub after: Option<Position>,
}

/// What is to be done for a stream next.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// Begin: which ranges may have something is not known yet.
    Begin,
    /// Hand this over.
    Deliver(Arc<Message>, DeliveryOptions),
    /// One was to be handed over that is beyond the bound: this filter is owed nothing more.
    Beyond,
    /// Ask for these; with none, wait for what was asked.
    Ask(Vec<Ask>),
    /// Everything was handed over.
    Done,
}

impl Owed {
    /// How many filters are owed something.
    pub fn len(&self) -> usize {
        usize::from(self.front.is_some()) + self.waiting.len()
    }

    /// Another filter; `point` is where its routes stood, if that is known.
    pub fn push(&mut self, filter: Box<str>, options: DeliveryOptions, point: Option<Point>) {
        let since = self.overtaken.last();
        self.waiting.insert(filter, Wanted { options, since, point });
        if self.front.is_none() {
            self.turn_over();
        }
    }

    /// A filter is not wanted any more.
    pub fn give_up(&mut self, filter: &str) {
        self.waiting.remove(filter);
        if self.filter() == Some(filter) {
            self.turn_over();
        }
    }

    /// Goes over to the next filter.
    fn turn_over(&mut self) {
        let stream = |(filter, wanted)| Stream { filter, wanted, handed: 0, number: None, parts: None };
        self.front = self.waiting.pop_first().map(stream);
    }

    /// The filter at hand.
    pub fn filter(&self) -> Option<&str> {
        self.front.as_ref().map(|stream| &*stream.filter)
    }

    /// Whether its first pages were asked for.
    pub fn is_begun(&self) -> bool {
        self.front.as_ref().is_some_and(|stream| stream.parts.is_some())
    }

    /// Up to where the filter at hand is owed copies, if that is known.
    pub fn point(&self) -> Option<&Point> {
        self.front.as_ref()?.wanted.point.as_ref()
    }

    /// A point is to be waited for, under this number: false if another one is already.
    pub fn await_point(&mut self, number: u64) -> bool {
        let begins = self.awaited.is_none();
        self.awaited.get_or_insert(number);
        begins
    }

    /// It has come: for all filters that have none. False if nobody waits for it any more.
    pub fn on_point(&mut self, number: u64, point: &Point) -> bool {
        if self.awaited != Some(number) {
            return false;
        }
        self.awaited = None;
        for wanted in self.wanted() {
            wanted.point.get_or_insert_with(|| point.clone());
        }
        true
    }

    /// All that is asked for.
    fn wanted(&mut self) -> impl Iterator<Item = &mut Wanted> {
        let front = self.front.iter_mut().map(|stream| &mut stream.wanted);
        front.chain(self.waiting.values_mut())
    }

    /// Begins with the filter at hand: the ranges of these logs may have something.
    pub fn begin(&mut self, logs: impl Iterator<Item = LogId>) {
        if let Some(stream) = self.front.as_mut() {
            let wanted = |log| Part { log, after: None, page: Progress::Wanted };
            stream.parts = Some(logs.map(wanted).collect());
        }
    }

    /// The number by which answers find the filter at hand, `new` if it has none yet.
    pub fn number(&mut self, new: u64) -> Option<u64> {
        self.front.as_mut().map(|stream| *stream.number.get_or_insert(new))
    }

    /// What is to be handed over next, to be looked at.
    pub fn peek(&self) -> Option<(&Arc<Message>, DeliveryOptions)> {
        let stream = self.front.as_ref()?;
        let mut ready = stream.parts.as_ref()?.iter().filter_map(|part| match &part.page {
            Progress::Here(here) => here.ready.front(),
            Progress::Wanted | Progress::Asked { .. } => None,
        });
        ready.next().map(|message| (message, stream.wanted.options))
    }

    /// What is to be done next, given that there is room for a message, and that a filter is owed so many at most.
    pub fn next(&mut self, matches_max: u32) -> Step {
        let Some(stream) = self.front.as_mut() else { return Step::Done };
        let options = stream.wanted.options;
        if stream.wanted.point.is_none() {
            return Step::Begin;
        }
        let Some(parts) = &mut stream.parts else { return Step::Begin };
        if let Some(message) = parts.iter_mut().find_map(Part::take) {
            if stream.handed >= matches_max {
                self.turn_over();
                return Step::Beyond;
            }
            stream.handed += 1;
            return Step::Deliver(message, options);
        }
        parts.retain(Part::turn_over);
        if parts.is_empty() {
            self.turn_over();
            return if self.front.is_none() { Step::Done } else { self.next(matches_max) };
        }
        let mut asks = Vec::new();
        for part in parts {
            if let Progress::Wanted = part.page {
                part.page = Progress::Asked { useless: false };
                asks.push(Ask { log: part.log, after: part.after.clone() });
            }
        }
        Step::Ask(asks)
    }

    /// A page has come; none if the filter's point was too long ago, and a new one is to be found out. False if nobody
    /// waits for it any more.
    pub(crate) fn on_page(&mut self, number: u64, from: LogId, found: Option<Box<RetainedPage>>) -> bool {
        let Some(stream) = self.front.as_mut().filter(|stream| stream.number == Some(number)) else {
            return false;
        };
        let Some(parts) = &mut stream.parts else { return false };
        let Some(part) = parts.iter_mut().find(|part| part.log == from) else { return false };
        let Progress::Asked { useless } = part.page else { return false };
        part.page = match found {
            Some(found) if !useless => {
                let RetainedPage { page, made } = *found;
                let mut ready = VecDeque::from(page.messages);
                ready.retain(|message| !self.overtaken.covers(message, &made, stream.wanted.since));
                Progress::Here(Here { ready, taken: None, rest: page.rest, made })
            }
            Some(_) => Progress::Wanted,
            None => {
                stream.wanted.point = None;
                Progress::Wanted
            }
        };
        true
    }

    /// The client was given a live message that changed what is retained on its topic: an older copy is not for it,
    /// nor this message again.
    pub fn overtake(&mut self, live: &Live<'_>) {
        let topic = live.publication.topic;
        let Some(stream) = self.front.as_mut() else { return };
        let waits = self.waiting.len() > COMPARED_MAX
            || self.waiting.keys().any(|filter| mqtt::filter_matches(filter, topic));
        if !(mqtt::filter_matches(&stream.filter, topic) && stream.may_have(topic) || waits) {
            return;
        }
        let room = self.overtaken.insert(live);
        stream.leave_out(topic, &self.overtaken);
        if let Err(Forgotten) = room {
            stream.discard_asked();
        }
    }

    /// The connection has ended: what is on its way or waits here is asked for again, and so is the point, for not all
    /// that is live reaches a session whose client is away.
    pub fn rewind(&mut self) {
        self.overtaken.forget_unqueued();
        self.awaited = None;
        self.wanted().for_each(|wanted| wanted.point = None);
        let Some(stream) = self.front.as_mut() else { return };
        stream.number = None;
        if let Some(parts) = &mut stream.parts {
            parts.retain(Part::rewind);
        }
    }
}

impl Stream {
    /// Whether a topic's copy is here, or may still come.
    fn may_have(&self, topic: &str) -> bool {
        let Some(parts) = &self.parts else { return true };
        parts.iter().any(|part| match &part.page {
            Progress::Wanted | Progress::Asked { .. } => true,
            Progress::Here(here) => {
                here.rest.is_some() || here.ready.iter().any(|message| *message.topic == *topic)
            }
        })
    }

    /// Leaves out a topic's copy that is here, if it is not newer.
    fn leave_out(&mut self, topic: &str, overtaken: &Overtaken) {
        for part in self.parts.iter_mut().flatten() {
            if let Progress::Here(Here { ready, made, .. }) = &mut part.page {
                ready
                    .retain(|copy| *copy.topic != *topic || !overtaken.covers(copy, made, self.wanted.since));
            }
        }
    }

    /// What is on its way may be old, and is asked for again when it has come.
    fn discard_asked(&mut self) {
        for part in self.parts.iter_mut().flatten() {
            if let Progress::Asked { useless } = &mut part.page {
                *useless = true;
            }
        }
    }
}

impl Part {
    fn take(&mut self) -> Option<Arc<Message>> {
        let Progress::Here(here) = &mut self.page else { return None };
        let message = here.ready.pop_front()?;
        here.taken = Some(Arc::clone(&message));
        Some(message)
    }

    /// Goes over to the next page when this one is used up. False if there is none.
    fn turn_over(&mut self) -> bool {
        if let Progress::Here(here) = &mut self.page
            && here.ready.is_empty()
        {
            self.after = here.rest.take();
            self.page = Progress::Wanted;
            return self.after.is_some();
        }
        true
    }

    /// Asks again from behind what was taken on. False if there is nothing more.
    fn rewind(&mut self) -> bool {
        let more = self.turn_over();
        if let Progress::Here(Here { taken: Some(taken), .. }) = &self.page {
            self.after = Some(Position::after(&taken.topic));
        }
        self.page = Progress::Wanted;
        more
    }
}
