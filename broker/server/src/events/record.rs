//! What is said of an event, and of a line of a trace: the same in files, webhooks, topics and the API.

use broker_core::access::Doubt;
use broker_core::counters::DropReason;
use broker_core::identity::CoreId;
use broker_core::notice::{Event, Kind, Matched, Notice};
use broker_core::time::Wall;
use serde::Serialize;
use utoipa::ToSchema;

/// What a core has noticed.
#[derive(Debug)]
pub(crate) struct Record {
    pub(super) at: Wall,
    pub(super) core: CoreId,
    pub(super) what: What,
}

#[derive(Debug)]
pub(super) enum What {
    Notice(Notice),
    /// Messages were not delivered, since the last of these.
    Lost(DropReason, u64),
}

impl Record {
    pub(super) fn describe(&self) -> Described {
        match &self.what {
            What::Notice(notice) => Described::new(self.at, self.core, notice),
            What::Lost(reason, messages) => Described {
                kind: Some(Kind::of_losses(*reason).name),
                event: "dropped",
                reason: Some(reason.name()),
                messages: Some(*messages),
                ..Described::bare(self.at, self.core)
            },
        }
    }
}

/// What happened, and to whom, as far as is known.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(crate) struct Described {
    /// Milliseconds since 1970.
    at_ms: u64,
    /// The core that says so.
    core: u16,
    /// What BifroMQ calls it, if it has a name there.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    kind: Option<&'static str>,
    /// What it is.
    event: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    tenant: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    peer: Option<String>,
    /// Of the message that it happened to.
    #[serde(skip_serializing_if = "Option::is_none")]
    topic: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    qos: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    packet_id: Option<u16>,
    /// What clients are told, or say.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason_code: Option<u8>,
    /// Why it is not delivered, or let in.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    /// The setting that says no.
    #[serde(skip_serializing_if = "Option::is_none")]
    setting: Option<&'static str>,
    /// How many messages.
    #[serde(skip_serializing_if = "Option::is_none")]
    messages: Option<u64>,
    /// It may not be the first time.
    #[serde(skip_serializing_if = "Option::is_none")]
    dup: Option<bool>,
    /// It is to be kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    retain: Option<bool>,
    /// Who wants it.
    #[serde(skip_serializing_if = "Option::is_none")]
    matched: Option<Wanted>,
}

/// Who wants a message, as its publisher's core knows it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Matched)]
struct Wanted {
    /// Sessions of that core that end with their connections.
    local: u32,
    /// Other cores that have such sessions.
    cores: u32,
    /// Sessions that outlive their connections.
    persistent: u32,
    /// Shared subscriptions.
    groups: u32,
    /// Sessions of that core that subscribe and may not receive it.
    denied: u32,
}

impl Described {
    fn bare(at: Wall, core: CoreId) -> Described {
        Described { at_ms: at.0, core: core.0, ..Described::default() }
    }

    pub(crate) fn new(at: Wall, core: CoreId, notice: &Notice) -> Described {
        let Notice { peer, tenant, client, event, message, .. } = notice;
        let about = message.as_deref();
        let mut described = Described {
            kind: notice.kind().map(|kind| kind.name),
            event: event.name(),
            tenant: tenant.as_deref().map(ToOwned::to_owned),
            client_id: client.as_deref().map(ToOwned::to_owned),
            peer: peer.map(|peer| peer.to_string()),
            // Of what came before anybody wanted to know, only the identifier is known.
            topic: about.map(|about| about.topic.to_string()).filter(|topic| !topic.is_empty()),
            packet_id: about.and_then(|about| about.packet_id),
            reason_code: event.reason_code().map(mqtt::ReasonCode::value),
            ..Described::bare(at, core)
        };
        if let Some(about) = about.filter(|_| described.topic.is_some()) {
            described.qos = Some(about.qos.bits());
            described.payload_bytes = Some(about.bytes);
        }
        described.reason = event.doubt().map(Doubt::name);
        match *event {
            Event::Limit(limit) | Event::FanOutLimited(limit) => described.setting = Some(limit.name()),
            Event::Dropped(reason) => described.reason = Some(reason.name()),
            Event::NoLocal => described.reason = Some("no_local"),
            Event::Sent { dup } => described.dup = Some(dup),
            Event::Received { retain } => described.retain = Some(retain),
            Event::Matched(Matched { local, cores, persistent, groups, denied }) => {
                described.matched = Some(Wanted { local, cores, persistent, groups, denied });
            }
            _ => {}
        }
        described
    }

    pub(crate) fn to_json(&self) -> String {
        serde_json::to_string(self).expect("plain fields")
    }
}
