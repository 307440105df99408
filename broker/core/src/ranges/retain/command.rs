//! The commands of a retain range, as they stand in the log; their bytes are drawn in
//! [`archived`](crate::ranges::archived). Each touches one topic and judges nothing beyond it: what a tenant
//! may keep in all is judged by whoever proposes.

use rkyv::with::InlineAsBox;
use rkyv::{Archive, Serialize};

use crate::ranges::archived::commands;
use crate::ranges::inbox::command::{MessageHead, Origin};

pub use crate::ranges::archived::Encode;

/// A message takes the place of its topic's former one [MQTT-3.3.1-5].
#[derive(Archive, Serialize, Clone, Copy, Debug)]
pub struct Set<'a> {
    /// The message; its payload is the command's, and not empty.
    pub message: MessageHead<'a>,
    /// Which publish it is, where a repeat is to be told from the first.
    pub origin: Option<Origin>,
}

/// An empty message removes its topic's [MQTT-3.3.1-6].
#[derive(Archive, Serialize, Clone, Copy, Debug)]
pub struct Clear<'a> {
    /// Whose topic space it is in.
    #[rkyv(with = InlineAsBox)]
    pub tenant: &'a str,
    /// The topic.
    #[rkyv(with = InlineAsBox)]
    pub topic: &'a str,
    /// See [`Set::origin`].
    pub origin: Option<Origin>,
}

/// The time of a topic's message may have passed [MQTT-3.3.2-5].
#[derive(Archive, Serialize, Clone, Copy, Debug)]
pub struct Expire<'a> {
    /// Whose topic space it is in.
    #[rkyv(with = InlineAsBox)]
    pub tenant: &'a str,
    /// The topic.
    #[rkyv(with = InlineAsBox)]
    pub topic: &'a str,
}

/// A publishing session has ended: nothing of it will be repeated.
#[derive(Archive, Serialize, Clone, Copy, Debug)]
pub struct Forget {
    /// The session.
    pub incarnation: u64,
}

commands! {
    1 Set, written as Set<'_>, read as Set<'static>;
    2 Clear, written as Clear<'_>, read as Clear<'static>;
    3 Expire, written as Expire<'_>, read as Expire<'static>;
    4 Forget, written as Forget, read as Forget;
}
