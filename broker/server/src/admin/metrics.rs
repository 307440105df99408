//! `/metrics`: what the node has counted and holds, in Prometheus' text format.
//!
//! Labels are bounded: cores, QoS, directions, reasons and settings are few, and of tenants only
//! `admin.metrics_tenants_max` are named; what the others come to stands under `(others)`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::extract::State as From;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use broker_core::access::Doubt;
use broker_core::counters::{Counters, DropReason};
use broker_core::limit::Limit;
use broker_core::sight::{Flow, Traffic};

use super::State;
use super::door;
use super::exposition::{Exposition, Kind};
use super::gate::Problem;
use super::gather::{self, CoreNumbers, Numbers, TenantNumbers};
use super::log_metrics;
use super::process::Process;
use crate::admission::{Bite, Gate};
use crate::auth::Logins;
use crate::events::{AllCounts, Counts};
use crate::watchdog::TurnHistogram;

/// Of the tenants that are not named. No tenant can be called so.
const OTHERS: &str = "(others)";

const QOS: [&str; 3] = ["0", "1", "2"];

pub(super) async fn answer(From(state): From<Arc<State>>) -> Result<impl IntoResponse, Problem> {
    let numbers = gather::numbers(&state).await?;
    let mut page = Exposition::default();
    of_process(&mut page, &state);
    of_cores(&mut page, &numbers.cores);
    of_listeners(&mut page, &state.gates);
    of_logins(&mut page, &state.logins);
    of_events(&mut page, &state.events);
    of_administration(&mut page, &state.door);
    turns(&mut page, &state);
    log_metrics::write(&mut page, &numbers.cores);
    of_tenants(&mut page, &numbers, state.settings.metrics_tenants_max as usize);
    Ok(([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], page.into_text()))
}

fn of_process(page: &mut Exposition, state: &State) {
    page.family(Kind::Gauge, "hermod_build_info", "1, with the version of the broker.")
        .sample(&[("version", env!("CARGO_PKG_VERSION"))], 1);
    let started_ms = state.facts.started_ms;
    let started = format!("{}.{:03}", started_ms / 1000, started_ms % 1000);
    page.single(Kind::Gauge, "hermod_start_time_seconds", "When the process started, since 1970.", started);
    let process = Process::read();
    if let Some(seconds) = process.cpu_seconds {
        page.single(Kind::Counter, "hermod_cpu_seconds_total", "CPU time of all threads.", seconds);
    }
    if let Some(bytes) = process.resident_bytes {
        page.single(Kind::Gauge, "hermod_resident_bytes", "Memory of the process that is in RAM.", bytes);
    }
    if let Some(files) = process.open_files {
        page.single(Kind::Gauge, "hermod_open_files", "Descriptors that the process has open.", files);
    }
}

/// One number for each core.
fn by_core<'a, T: std::fmt::Display>(
    page: &mut Exposition,
    cores: &'a [CoreNumbers],
    (kind, name, help): (Kind, &'static str, &str),
    of: impl Fn(&'a CoreNumbers) -> T,
) {
    let mut family = page.family(kind, name, help);
    for numbers in cores {
        family.sample(&[("core", &numbers.core.0.to_string())], of(numbers));
    }
}

fn of_cores(page: &mut Exposition, cores: &[CoreNumbers]) {
    let mut gauge = |name, help, of: &dyn Fn(&CoreNumbers) -> u64| {
        by_core(page, cores, (Kind::Gauge, name, help), of);
    };
    gauge("hermod_connections", "Connections of clients, greeted or not.", &|core| {
        core.totals.usage.connections as u64
    });
    gauge("hermod_tenants", "Tenants that the core has met.", &|core| core.totals.usage.tenants as u64);
    gauge("hermod_subscriptions", "Subscriptions of sessions.", &|core| core.census.subscriptions);
    gauge("hermod_queue_messages", "Messages queued for clients, those in flight included.", &|core| {
        core.census.queued_messages
    });
    gauge("hermod_queue_bytes", "The same in bytes of topics, properties and payloads.", &|core| {
        core.census.queued_bytes
    });
    gauge("hermod_retained_messages", "Retained messages.", &|core| core.totals.usage.retained as u64);
    gauge("hermod_match_cache_topics", "Topics in the match cache.", &|core| {
        core.totals.usage.cached_topics as u64
    });
    gauge("hermod_timers", "Timers armed.", &|core| core.totals.usage.timers as u64);
    gauge(
        "hermod_postponed_messages",
        "Messages that have not reached all their sessions on the core yet.",
        &|core| core.totals.usage.postponed as u64,
    );
    gauge(
        "hermod_open_requests",
        "Requests to other cores without an answer yet, and answers owed.",
        &|core| core.totals.usage.requests as u64,
    );
    gauge("hermod_mailbox_batches", "Batches of messages between cores that wait at the core.", &|core| {
        core.mailbox_batches as u64
    });
    gauge(
        "hermod_mailbox_unprocessed_bytes",
        "Bytes of messages that other cores have not processed.",
        &|core| core.totals.usage.unprocessed_bytes,
    );
    gauge(
        "hermod_unfinished_bytes",
        "Bytes of large packets that have not come whole (unfinished_bytes_max).",
        &|core| core.totals.usage.unfinished_bytes,
    );
    let mut sessions =
        page.family(Kind::Gauge, "hermod_sessions", "Sessions, by whether their client is there.");
    for CoreNumbers { core, census, .. } in cores {
        let core = core.0.to_string();
        sessions.sample(&[("core", &core), ("state", "online")], census.online);
        sessions.sample(&[("core", &core), ("state", "away")], census.away);
    }
    counters(page, cores);
    traffic(page, ("hermod_messages_total", "hermod_payload_bytes_total"), "core", || {
        cores.iter().map(|core| (core.core.0.to_string(), core.traffic))
    });
}

/// Every counter of the core is here: taken apart, so that none is forgotten.
fn counters(page: &mut Exposition, cores: &[CoreNumbers]) {
    macro_rules! simple {
        ($($field:ident: $name:literal, $help:literal;)*) => {
            const _: fn(Counters) = |counters| {
                let Counters {
                    $($field: _,)*
                    publishes_received: _, publishes_sent: _, bytes_received: _, bytes_sent: _, limited: _, dropped: _,
                    doubted: _,
                } = counters;
            };
            $(by_core(page, cores, (Kind::Counter, $name, $help), |core| core.totals.counters.$field);)*
        };
    }
    simple! {
        connections_accepted: "hermod_connections_accepted_total", "Sockets accepted.";
        connections_refused: "hermod_connections_refused_total", "Sockets closed when accepted (connections_max).";
        clients_greeted: "hermod_clients_greeted_total", "Clients let in.";
        handovers: "hermod_handovers_total", "Connections given to the core where their client is at home.";
        protocol_errors: "hermod_protocol_errors_total", "Connections closed for what they sent or failed to send.";
        clients_banned: "hermod_clients_banned_total", "Connections refused or closed because of a ban.";
        credentials_expired: "hermod_credentials_expired_total", "Connections closed because what they had shown ran out.";
        keep_alive_expired: "hermod_keep_alive_expired_total", "Connections closed for silence.";
        connect_timeouts: "hermod_connect_timeouts_total", "Connections without a CONNECT in time (connect_timeout_ms).";
        take_overs: "hermod_take_overs_total", "Sessions taken over by another connection of their client.";
        publishes_unmatched: "hermod_messages_unmatched_total", "Messages from clients that nobody subscribes to.";
        messages_crossed: "hermod_messages_crossed_total", "Messages sent to another core for delivery there.";
        disk_waits: "hermod_disk_waits_total", "Times a queue or a page of retained messages waited until it was read from the disk.";
        match_hits: "hermod_match_cache_hits_total", "Look-ups of topics answered from the match cache.";
        match_misses: "hermod_match_cache_misses_total", "Look-ups of topics that asked the routes.";
        requests_repeated: "hermod_requests_repeated_total", "Requests to other cores repeated (request_timeout_ms).";
        answers_overdue: "hermod_answers_overdue_total", "Connections closed because another core did not answer.";
        resends: "hermod_resends_total", "Times a 3.x client was sent again what it had not acknowledged.";
        publishers_slowed: "hermod_publishers_slowed_total", "Times a publisher was read later for a full receiver.";
    }
    let mut bytes =
        page.family(Kind::Counter, "hermod_bytes_total", "Bytes received from and sent to clients.");
    for core in cores {
        let (id, counters) = (core.core.0.to_string(), &core.totals.counters);
        bytes.sample(&[("core", &id), ("direction", "in")], counters.bytes_received);
        bytes.sample(&[("core", &id), ("direction", "out")], counters.bytes_sent);
    }
    let help = "Messages not delivered to somebody who should have had them, by reason.";
    let mut dropped = page.family(Kind::Counter, "hermod_messages_dropped_total", help);
    for core in cores {
        let (id, counters) = (core.core.0.to_string(), &core.totals.counters);
        for reason in DropReason::ALL {
            dropped.sample(&[("core", &id), ("reason", reason.name())], counters.dropped(reason));
        }
    }
    let help = "Clients not let in for what they have shown of themselves, by what is wrong with it.";
    let mut doubted = page.family(Kind::Counter, "hermod_clients_refused_total", help);
    for core in cores {
        let (id, counters) = (core.core.0.to_string(), &core.totals.counters);
        for doubt in Doubt::ALL {
            doubted.sample(&[("core", &id), ("reason", doubt.name())], counters.doubted(*doubt));
        }
    }
    let help = "Times a setting refused a client something, by the setting.";
    let mut limited = page.family(Kind::Counter, "hermod_limited_total", help);
    for core in cores {
        let (id, counters) = (core.core.0.to_string(), &core.totals.counters);
        for limit in Limit::ALL {
            limited.sample(&[("core", &id), ("setting", limit.name())], counters.limited(*limit));
        }
    }
}

/// Messages and their bytes by QoS and direction, for each of some places.
fn traffic<I: Iterator<Item = (String, Traffic)>>(
    page: &mut Exposition,
    (messages, bytes): (&'static str, &'static str),
    label: &str,
    places: impl Fn() -> I,
) {
    type Count = fn(&Flow) -> [u64; 3];
    let families: [(&'static str, &str, Count); 2] = [
        (messages, "PUBLISH packets from (in) and to (out) clients, by QoS.", |flow| flow.messages),
        (bytes, "Bytes of their payloads.", |flow| flow.payload_bytes),
    ];
    for (name, help, count) in families {
        let mut family = page.family(Kind::Counter, name, help);
        for (place, Traffic { received, sent, .. }) in places() {
            for (direction, flow) in [("in", received), ("out", sent)] {
                for (qos, count) in QOS.into_iter().zip(count(&flow)) {
                    family.sample(&[(label, &place), ("direction", direction), ("qos", qos)], count);
                }
            }
        }
    }
}

/// What the listeners' limits see.
fn of_listeners(page: &mut Exposition, gates: &[Gate]) {
    type Gauge = fn(&Gate) -> u64;
    let gauges: [(&'static str, &str, Gauge); 2] = [
        ("hermod_listener_connections", "Connections that came through the listener.", |gate| {
            u64::from(gate.connections())
        }),
        ("hermod_listener_handshakes", "Those of them that are not greeted yet.", |gate| {
            u64::from(gate.handshakes())
        }),
    ];
    for (name, help, of) in gauges {
        let mut family = page.family(Kind::Gauge, name, help);
        for (listener, gate) in gates.iter().enumerate() {
            family.sample(&[("listener", &listener.to_string())], of(gate));
        }
    }
    let help = "Times a setting of the listener kept somebody waiting or out, by the setting.";
    let mut family = page.family(Kind::Counter, "hermod_listener_limited_total", help);
    for (listener, gate) in gates.iter().enumerate() {
        for bite in Bite::ALL {
            family
                .sample(&[("listener", &listener.to_string()), ("setting", bite.name())], gate.counted(bite));
        }
    }
}

/// What the administration's own limits see.
fn of_administration(page: &mut Exposition, door: &door::Counts) {
    let help = "Connections of the administration.";
    page.single(Kind::Gauge, "hermod_admin_connections", help, door.connections());
    let help = "Times a setting of the administration kept somebody waiting or out, by the setting.";
    let mut family = page.family(Kind::Counter, "hermod_admin_limited_total", help);
    for (setting, count) in door.limited() {
        family.sample(&[("setting", setting)], count);
    }
}

/// What became of those who said who they are.
fn of_logins(page: &mut Exposition, logins: &Logins) {
    let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
    let help = "Logins that wait to be checked, or are being checked.";
    page.single(Kind::Gauge, "hermod_logins_waiting", help, count(&logins.waiting));
    let help = "Logins by what became of them: checked, whatever came of it; refused, for too many wait \
                (login_queue_max); given up before they were checked (connect_timeout_ms).";
    let mut family = page.family(Kind::Counter, "hermod_logins_total", help);
    let all = [("checked", &logins.checked), ("busy", &logins.busy), ("late", &logins.late)];
    for (result, it) in all {
        family.sample(&[("result", result)], count(it));
    }
    let help = "Questions to auth.webhook_url and webhook_acl_url: asked, answered by an earlier answer, and of those \
                that were asked without an answer that could be understood.";
    let mut family = page.family(Kind::Counter, "hermod_login_questions_total", help);
    let all = [
        ("asked", &logins.webhook_asked),
        ("cached", &logins.webhook_cached),
        ("failed", &logins.webhook_failed),
    ];
    for (result, it) in all {
        family.sample(&[("result", result)], count(it));
    }
}

/// What became of events.
fn of_events(page: &mut Exposition, counts: &AllCounts) {
    type Count = fn(&Counts) -> u64;
    let families: [(&'static str, &str, Count); 3] = [
        ("hermod_events_total", "Events handed over to where they go.", Counts::taken),
        ("hermod_events_lost_total", "Those for which there was no room, or that nobody took.", Counts::lost),
        ("hermod_events_failures_total", "Requests to the webhook that failed.", Counts::failed),
    ];
    let AllCounts { file, webhook, topics } = counts;
    for (name, help, of) in families {
        let mut family = page.family(Kind::Counter, name, help);
        for (sink, counts) in [("file", file), ("webhook", webhook), ("topics", topics)] {
            family.sample(&[("sink", sink)], of(counts));
        }
    }
}

/// The length of turns: buckets double from a microsecond on.
fn turns(page: &mut Exposition, state: &State) {
    let help = "How long a core's turns took: for so long a client may have waited.";
    let mut family = page.family(Kind::Histogram, "hermod_turn_seconds", help);
    for (core, histogram) in state.cores.ids().zip(&state.histograms) {
        let core = core.0.to_string();
        let mut count = 0;
        for (upper_us, turns) in histogram.buckets() {
            count += turns;
            let upper = upper_us.map_or_else(|| "+Inf".to_owned(), seconds);
            family.sample_of("_bucket", &[("core", &core), ("le", &upper)], count);
        }
        family.sample_of("_sum", &[("core", &core)], seconds(histogram.total_us()));
        family.sample_of("_count", &[("core", &core)], count);
    }
    type Longest = fn(&TurnHistogram) -> u64;
    let families: [(&'static str, &str, Longest); 2] = [
        ("hermod_turn_longest_seconds", "A core's longest turn since the start.", TurnHistogram::longest_us),
        (
            "hermod_turn_longest_running_seconds",
            "The same without the time in which the core waited for its CPU.",
            TurnHistogram::longest_running_us,
        ),
    ];
    for (name, help, of) in families {
        let mut family = page.family(Kind::Gauge, name, help);
        for (core, histogram) in state.cores.ids().zip(&state.histograms) {
            family.sample(&[("core", &core.0.to_string())], seconds(of(histogram)));
        }
    }
}

/// Microseconds as seconds, exactly.
fn seconds(us: u64) -> String {
    format!("{}.{:06}", us / 1_000_000, us % 1_000_000)
}

fn of_tenants(page: &mut Exposition, numbers: &Numbers, tenants_max: usize) {
    let mut tenants: Vec<(String, TenantNumbers)> = Vec::new();
    let mut others = TenantNumbers::default();
    for (name, numbers) in &numbers.tenants {
        if tenants.len() < tenants_max {
            tenants.push((name.to_string(), *numbers));
        } else {
            others.add(numbers);
        }
    }
    if numbers.tenants.len() > tenants_max {
        tenants.push((OTHERS.to_owned(), others));
    }
    let mut gauge = |name, help, of: fn(&TenantNumbers) -> u64| {
        let mut family = page.family(Kind::Gauge, name, help);
        for (tenant, numbers) in &tenants {
            family.sample(&[("tenant", tenant)], of(numbers));
        }
    };
    gauge("hermod_tenant_clients", "The tenant's clients that are online.", |it| it.census.online);
    gauge("hermod_tenant_sessions_away", "Its sessions that wait for their client.", |it| it.census.away);
    gauge("hermod_tenant_subscriptions", "Its subscriptions.", |it| it.census.subscriptions);
    gauge(
        "hermod_tenant_queue_messages",
        "Messages queued for its clients, those in flight included.",
        |it| it.census.queued_messages,
    );
    gauge("hermod_tenant_queue_bytes", "The same in bytes.", |it| it.census.queued_bytes);
    gauge("hermod_tenant_retained_messages", "Its retained messages.", |it| it.retained);
    let help = "Messages not delivered to somebody of the tenant who should have had them, by reason.";
    let mut dropped = page.family(Kind::Counter, "hermod_tenant_messages_dropped_total", help);
    for (tenant, numbers) in &tenants {
        for (reason, count) in DropReason::ALL.iter().zip(numbers.traffic.dropped) {
            // Most are 0 for ever, and there may be many tenants.
            if count > 0 {
                dropped.sample(&[("tenant", tenant), ("reason", reason.name())], count);
            }
        }
    }
    traffic(page, ("hermod_tenant_messages_total", "hermod_tenant_payload_bytes_total"), "tenant", || {
        tenants.iter().map(|(tenant, numbers)| (tenant.clone(), numbers.traffic))
    });
}
