//! What is known of one message.

use crate::history::{Link, Moment};

/// Has the broker taken a message?
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Outcome {
    /// Nobody can say.
    #[default]
    Unknown,
    /// Yes: it was acknowledged, or something sent after it was answered.
    Accepted,
    /// No: its acknowledgement said so.
    Refused,
    /// Not by everybody: a log on a full disk was to have it and has not. Who needs no log, or has a log on which there
    /// was room, may be given it all the same: the logs decide each for itself, and nothing is taken back.
    NotStored,
}

/// What is known of one message.
#[derive(Clone, Debug, Default)]
pub struct MessageState {
    /// When its client first wrote it; for a will, when its connection ended.
    pub begun: Option<Moment>,
    /// How often it was written.
    pub sends: u32,
    /// On which connection last.
    pub link: Option<Link>,
    /// In which of its publisher's sessions.
    pub session: u32,
    /// Has the broker taken it?
    pub outcome: Outcome,
    /// The packet identifier of a QoS 2 message that has its PUBREC and waits for its PUBCOMP.
    pub releasing: Option<u16>,
    /// The node ended while it was on its way: what sessions that ended with it had of it is gone.
    pub crashed: bool,
    /// How often members of shared subscriptions were given it.
    pub shared_copies: u32,
    /// The first time nothing moved after it was begun: all its deliveries have been made or will wait
    /// for a client.
    pub settled: Option<Moment>,
}

impl MessageState {
    pub(super) fn on_sent(&mut self, link: Link, moment: Moment) {
        self.begun.get_or_insert(moment);
        self.sends += 1;
        self.link = Some(link);
        // A resend may be routed once more: it is settled when nothing moves after that.
        self.settled = None;
    }
}
