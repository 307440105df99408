//! Answers to what an operator asks. Each takes a small part of a turn, however much there is: with 100 000 sessions of
//! 1 000 tenants, none of which is in the CPU's caches, 0.42 ms for the slowest page, 0.19 ms for one of `/metrics`
//! (`cargo bench -p broker_core --bench sight`). A look at all of them is 290 such turns.

mod act;
mod find;
mod nodes;
mod view;

use std::collections::BTreeMap;

use super::Core;
use crate::input::Outputs;
use crate::sight::{Answer, Ask, Census, Page, Said, TenantCensus, TenantTraffic, Totals, What};
use crate::time::Now;

/// Tenants of one page.
const TENANTS_MAX: usize = 128;

/// Places in the table of sessions that one page looks at.
const SESSIONS_LOOKS_MAX: u32 = 512;

/// Bytes of names that one page looks through or has.
const NAMES_BYTES_MAX: usize = 256 * 1024;

/// What one page may still look at.
#[derive(Debug)]
struct Looks {
    /// Sessions or subscriptions.
    items: u32,
    /// Of their names: a client's id and a filter may have 64 KiB each.
    bytes: usize,
}

impl Default for Looks {
    fn default() -> Looks {
        Looks { items: SESSIONS_LOOKS_MAX, bytes: NAMES_BYTES_MAX }
    }
}

impl Looks {
    fn are_spent(&self) -> bool {
        self.items == 0 || self.bytes == 0
    }

    /// One look, at so many bytes.
    fn spend(&mut self, bytes: usize) {
        self.items = self.items.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes);
    }
}

impl Core {
    pub(super) fn on_ask(&mut self, now: Now, ask: Ask, out: &mut Outputs) {
        let Ask { number, what } = ask;
        if let Some(said) = self.answer_to(now, number, what, out) {
            out.answers.push(Answer { number, said });
        }
    }

    /// The answer; None: it comes when it is done.
    fn answer_to(&mut self, now: Now, number: u64, what: What, out: &mut Outputs) -> Option<Said> {
        Some(match what {
            What::Totals => Said::Totals(Box::new(self.totals())),
            What::Tenants { from } => Said::Tenants(self.tenant_traffic(from)),
            What::Census { from } => Said::Census(self.census(from)),
            What::Sessions(find) => Said::Sessions(self.find_sessions(&find)),
            What::Session { tenant, client } => Said::Session(self.session_details(&tenant, &client)),
            What::Subscriptions(find) => Said::Subscriptions(self.find_subscriptions(&find)),
            What::Retained { tenant, filter, after } => {
                Said::Retained(self.find_retained(now, &tenant, &filter, after.as_deref()))
            }
            What::Disconnect(disconnect) => Said::Done(self.disconnect_client(now, &disconnect, out)),
            What::DisconnectAll { tenant, user, farewell, from } => {
                Said::Counted(self.disconnect_clients(now, (&tenant, user.as_deref()), &farewell, from, out))
            }
            What::Publish(publish) => Said::Done(self.publish_for(now, *publish, out)),
            What::Subscribe(subscribe) => {
                return self
                    .subscribe_for(number, &subscribe, out)
                    .err()
                    .map(|refusal| Said::Done(Err(refusal)));
            }
            What::Unsubscribe(unsubscribe) => {
                let refused = self.unsubscribe_for(number, &unsubscribe, out).err();
                return refused.map(|refusal| Said::Done(Err(refusal)));
            }
            What::ExpireSessions { tenant, away_seconds, from } => {
                Said::Counted(self.expire_sessions(now, &tenant, away_seconds, from, out))
            }
            What::Ban(ban) => Said::Agreed(self.ban_for(now, *ban)),
            What::Unban(target) => Said::Agreed(self.unban_for(&target)),
            What::Bans { after } => Said::Bans(self.find_bans(now, after.as_ref())),
            What::Ranges => Said::Ranges(self.log_states()),
            What::StartTrace(trace) => Said::Agreed(self.start_trace(*trace)),
            What::StopTrace { number, remove } => Said::Agreed(self.stop_trace(number, remove)),
            What::Traces => Said::Traces(self.traces()),
            What::TraceLines { number, from } => Said::TraceLines(self.trace_lines(number, from)),
            What::ClearRetained { tenant, filter, after } => {
                Said::Cleared(self.clear_retained(now, &tenant, &filter, after.as_deref()))
            }
        })
    }

    fn totals(&self) -> Totals {
        let logs = self.storage.slots().map(|slot| self.storage.log(slot).totals());
        Totals { counters: self.counters.clone(), usage: self.usage(), logs: logs.collect() }
    }

    fn tenant_traffic(&self, from: u32) -> Page<TenantTraffic> {
        let tenants = self.tenants.from(from).take(TENANTS_MAX);
        let items: Vec<_> = tenants
            .map(|tenant| TenantTraffic {
                tenant: (*tenant.name).into(),
                traffic: tenant.traffic,
                retained: self.storage.retained_of(&tenant.name) as u64,
            })
            .collect();
        let next = (items.len() == TENANTS_MAX).then(|| from + TENANTS_MAX as u32);
        Page { items, next }
    }

    fn census(&self, from: u32) -> Page<TenantCensus> {
        let mut by_tenant: BTreeMap<&str, Census> = BTreeMap::new();
        let (sessions, next) = self.sessions_from(from);
        for session in &sessions {
            let online = u64::from(session.here.is_some());
            let (messages, queued_bytes) = session.queued();
            by_tenant.entry(session.tenant).or_default().add(Census {
                online,
                away: 1 - online,
                subscriptions: session.subscriptions().map_or(0, |subscriptions| subscriptions.len() as u64),
                queued_messages: u64::from(messages),
                queued_bytes,
            });
        }
        let items = by_tenant
            .into_iter()
            .map(|(tenant, census)| TenantCensus { tenant: tenant.into(), census })
            .collect();
        Page { items, next }
    }
}
