//! What a core has counted since it started. Only its core writes; the host copies it out.

use crate::access::Doubt;
use crate::limit::Limit;

/// Why a message was not delivered to somebody who should have had it (promise 4: nothing silent).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum DropReason {
    /// The session's queue was full (`tenant.queue_messages_max`, `tenant.queue_bytes_max`).
    QueueFull,
    /// Its message expiry interval passed.
    Expired,
    /// The publisher may not publish there, or the receiver may not receive it.
    NoPermission,
    /// The receiver reads too slowly for QoS 0 (`tenant.send_bytes_max`).
    SlowReader,
    /// Larger than the receiver's Maximum Packet Size [MQTT-3.1.2-24].
    TooLarge,
    /// QoS 0 for a session that is away, or for a group whose members all are (`tenant.queue_qos0`).
    Away,
    /// The session ended with messages still queued or unacknowledged.
    SessionEnded,
    /// The receiver answered with a reason code of 0x80 or more [MQTT-4.8.2-6].
    Refused,
    /// No member of the shared subscription could take it.
    NoMember,
    /// Meant for a session that no longer is.
    UnknownSession,
    /// The tenant keeps no more retained messages (`tenant.retained_messages_max`).
    RetainFull,
    /// The server stopped (`tenant.stop_publishes_wills`).
    Stopping,
    /// There was no space to store it (`wal.space_reserved_bytes`).
    DiskFull,
    /// It had too many receivers, or its tenant's messages had (`tenant.total_transient_fan_out_bytes_per_second_max` and
    /// others).
    FanOut,
}

/// How many reasons there are.
pub const DROP_REASONS: usize = DropReason::FanOut as usize + 1;

impl DropReason {
    /// All reasons, in order.
    pub const ALL: [DropReason; DROP_REASONS] = [
        DropReason::QueueFull,
        DropReason::Expired,
        DropReason::NoPermission,
        DropReason::SlowReader,
        DropReason::TooLarge,
        DropReason::Away,
        DropReason::SessionEnded,
        DropReason::Refused,
        DropReason::NoMember,
        DropReason::UnknownSession,
        DropReason::RetainFull,
        DropReason::Stopping,
        DropReason::DiskFull,
        DropReason::FanOut,
    ];

    /// Its name in metrics and logs.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            DropReason::QueueFull => "queue_full",
            DropReason::Expired => "expired",
            DropReason::NoPermission => "no_permission",
            DropReason::SlowReader => "slow_reader",
            DropReason::TooLarge => "too_large",
            DropReason::Away => "away",
            DropReason::SessionEnded => "session_ended",
            DropReason::Refused => "refused",
            DropReason::NoMember => "no_member",
            DropReason::UnknownSession => "unknown_session",
            DropReason::RetainFull => "retain_full",
            DropReason::Stopping => "stopping",
            DropReason::DiskFull => "disk_full",
            DropReason::FanOut => "fan_out",
        }
    }
}

/// The counters of one core.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Sockets accepted here.
    pub connections_accepted: u64,
    /// Sockets refused on accept (`connections_max`).
    pub connections_refused: u64,
    /// Clients greeted with a positive CONNACK.
    pub clients_greeted: u64,
    /// Connections given to their home core.
    pub handovers: u64,
    /// Connections closed for what they sent or failed to send.
    pub protocol_errors: u64,
    /// Clients refused or disconnected because they are banned.
    pub clients_banned: u64,
    /// Connections closed because what the client had shown ran out.
    pub credentials_expired: u64,
    /// Connections closed for silence (keep alive).
    pub keep_alive_expired: u64,
    /// Connections closed because no CONNECT came in time (`connect_timeout_ms`).
    pub connect_timeouts: u64,
    /// Sessions taken over by another connection of the same client.
    pub take_overs: u64,
    /// PUBLISH packets received, by QoS.
    pub publishes_received: [u64; 3],
    /// PUBLISH packets sent, by QoS.
    pub publishes_sent: [u64; 3],
    /// PUBLISH packets of no interest to anybody.
    pub publishes_unmatched: u64,
    /// Messages sent to another core for delivery there.
    pub messages_crossed: u64,
    /// Times a queue or a page of retained messages waited until it was read from the disk.
    pub disk_waits: u64,
    /// Bytes received.
    pub bytes_received: u64,
    /// Bytes given to the kernel.
    pub bytes_sent: u64,
    /// Look-ups answered from the match cache.
    pub match_hits: u64,
    /// Look-ups that asked the routes.
    pub match_misses: u64,
    /// Requests to other cores that were repeated (`request_timeout_ms`).
    pub requests_repeated: u64,
    /// Connections closed because a part of a publish was not answered (`request_timeout_ms`).
    pub answers_overdue: u64,
    /// Times a 3.x client was sent again what it had not acknowledged (`tenant.resend_seconds`).
    pub resends: u64,
    /// Times a publisher was slowed because a receiver's queue was filling.
    pub publishers_slowed: u64,
    /// Clients not let in for what they have shown, by [`Doubt`].
    pub doubted: [u64; Doubt::ALL.len()],
    /// How often a setting refused a client something, by [`Limit`].
    pub limited: ByLimit,
    /// Messages not delivered, by [`DropReason`].
    pub dropped: [u64; DROP_REASONS],
}

/// A count for each [`Limit`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ByLimit(pub [u64; Limit::ALL.len()]);

impl Default for ByLimit {
    fn default() -> ByLimit {
        ByLimit([0; Limit::ALL.len()])
    }
}

impl Counters {
    /// Counts that a setting refused a client something.
    pub fn limit(&mut self, limit: Limit) {
        self.limited.0[limit as usize] += 1;
    }

    /// How often this setting did.
    #[must_use]
    pub fn limited(&self, limit: Limit) -> u64 {
        self.limited.0[limit as usize]
    }

    /// Counts a client that is not let in for what it has shown.
    pub fn doubt(&mut self, doubt: Doubt) {
        self.doubted[doubt as usize] += 1;
    }

    /// How many were not for this.
    #[must_use]
    pub fn doubted(&self, doubt: Doubt) -> u64 {
        self.doubted[doubt as usize]
    }

    /// Counts messages not delivered.
    pub fn drop_messages(&mut self, reason: DropReason, messages: u64) {
        self.dropped[reason as usize] += messages;
    }

    /// Every counter under its name in metrics and logs, in the order above; those by QoS, setting and reason one by
    /// one.
    #[must_use]
    pub fn named(&self) -> Vec<(String, u64)> {
        // Taken apart, so that no new counter is left out.
        let Counters {
            connections_accepted,
            connections_refused,
            clients_greeted,
            handovers,
            protocol_errors,
            clients_banned,
            credentials_expired,
            keep_alive_expired,
            connect_timeouts,
            take_overs,
            publishes_received,
            publishes_sent,
            publishes_unmatched,
            messages_crossed,
            disk_waits,
            bytes_received,
            bytes_sent,
            match_hits,
            match_misses,
            requests_repeated,
            answers_overdue,
            resends,
            publishers_slowed,
            doubted,
            limited,
            dropped,
        } = self;
        let by_qos = |name, counts: &[u64; 3]| [0, 1, 2].map(|qos| (format!("{name}_qos{qos}"), counts[qos]));
        let one = |name: &str, count: &u64| (name.to_owned(), *count);
        let mut named = vec![
            one("connections_accepted", connections_accepted),
            one("connections_refused", connections_refused),
            one("clients_greeted", clients_greeted),
            one("handovers", handovers),
            one("protocol_errors", protocol_errors),
            one("clients_banned", clients_banned),
            one("credentials_expired", credentials_expired),
            one("keep_alive_expired", keep_alive_expired),
            one("connect_timeouts", connect_timeouts),
            one("take_overs", take_overs),
        ];
        named.extend(by_qos("publishes_received", publishes_received));
        named.extend(by_qos("publishes_sent", publishes_sent));
        named.extend([
            one("publishes_unmatched", publishes_unmatched),
            one("messages_crossed", messages_crossed),
            one("disk_waits", disk_waits),
            one("bytes_received", bytes_received),
            one("bytes_sent", bytes_sent),
            one("match_hits", match_hits),
            one("match_misses", match_misses),
            one("requests_repeated", requests_repeated),
            one("answers_overdue", answers_overdue),
            one("resends", resends),
            one("publishers_slowed", publishers_slowed),
        ]);
        let doubted = Doubt::ALL.iter().zip(doubted);
        named.extend(doubted.map(|(doubt, count)| (format!("doubted_{}", doubt.name()), *count)));
        let limited = Limit::ALL.iter().zip(&limited.0);
        named.extend(limited.map(|(limit, count)| (format!("limited_{}", limit.name()), *count)));
        let dropped = DropReason::ALL.iter().zip(dropped);
        named.extend(dropped.map(|(reason, count)| (format!("dropped_{}", reason.name()), *count)));
        named
    }

    /// How many messages were not delivered for this reason.
    #[must_use]
    pub fn dropped(&self, reason: DropReason) -> u64 {
        self.dropped[reason as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each reason stands at its own index, under a name of its own.
    #[test]
    fn reasons_are_distinct() {
        let mut names: Vec<_> = DropReason::ALL.iter().map(|reason| reason.name()).collect();
        assert!(DropReason::ALL.iter().enumerate().all(|(index, reason)| *reason as usize == index));
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), DROP_REASONS);
    }

    /// Every counter has a name of its own, and those of several have one for each.
    #[test]
    fn counters_are_named() {
        let mut counters = Counters { publishes_sent: [1, 2, 3], messages_crossed: 4, ..Counters::default() };
        counters.drop_messages(DropReason::Away, 5);
        let mut named = counters.named();
        let counted: Vec<_> = named.iter().filter(|(_, count)| *count > 0).cloned().collect();
        let expected = [
            ("publishes_sent_qos0", 1),
            ("publishes_sent_qos1", 2),
            ("publishes_sent_qos2", 3),
            ("messages_crossed", 4),
            ("dropped_away", 5),
        ];
        assert_eq!(counted, expected.map(|(name, count)| (name.to_owned(), count)));
        named.sort_unstable();
        named.dedup_by(|a, b| a.0 == b.0);
        assert_eq!(named.len(), size_of::<Counters>() / size_of::<u64>());
    }
}
