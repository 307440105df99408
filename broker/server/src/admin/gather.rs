//! The whole node in numbers: what all cores say, added up. A page of the sessions' census costs a core a part of a
//! millisecond; with very many sessions there are very many pages, so it is not taken more often than it is worth.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use broker_core::identity::CoreId;
use broker_core::sight::{Census, Said, Totals, Traffic, What};
use broker_core::time::Mono;
use tokio::sync::Mutex;
use tokio::task::JoinSet;

use super::State;
use super::asking::Unanswered;

/// How long a census is good for.
const CENSUS_LIFETIME: Duration = Duration::from_secs(5);

/// One core's answer to everything.
#[derive(Clone, Debug)]
pub(super) struct CoreNumbers {
    pub(super) core: CoreId,
    pub(super) totals: Totals,
    /// Batches from other cores that wait for it, and of its own for which others have no room.
    pub(super) mailbox_batches: usize,
    /// What its tenants' traffic comes to.
    pub(super) traffic: Traffic,
    pub(super) census: Census,
}

/// One tenant, on all cores.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct TenantNumbers {
    pub(super) traffic: Traffic,
    pub(super) retained: u64,
    pub(super) census: Census,
}

impl TenantNumbers {
    pub(super) fn add(&mut self, other: &TenantNumbers) {
        self.traffic.add(&other.traffic);
        self.retained += other.retained;
        self.census.add(other.census);
    }
}

/// Everything.
#[derive(Clone, Debug, Default)]
pub(super) struct Numbers {
    /// In the order of the cores.
    pub(super) cores: Vec<CoreNumbers>,
    pub(super) tenants: BTreeMap<Box<str>, TenantNumbers>,
}

/// What the cores' sessions came to a moment ago.
#[derive(Debug, Default)]
struct Censuses {
    taken: Option<Mono>,
    by_core: Vec<Census>,
    by_tenant: BTreeMap<Box<str>, Census>,
}

/// Remembers the last census, and lets only one be taken at a time.
#[derive(Debug, Default)]
pub(super) struct Gatherer {
    censuses: Mutex<Censuses>,
}

/// All cores' answers to the same task, in their order.
async fn of_all<T, F>(state: &Arc<State>, ask: impl Fn(Arc<State>, CoreId) -> F) -> Result<Vec<T>, Unanswered>
where
    T: Send + 'static,
    F: Future<Output = Result<T, Unanswered>> + Send + 'static,
{
    let mut asked = JoinSet::new();
    for core in state.cores.ids() {
        let answer = ask(Arc::clone(state), core);
        asked.spawn(async move { (core, answer.await) });
    }
    let mut answers = asked.join_all().await;
    answers.sort_by_key(|(core, _)| *core);
    answers.into_iter().map(|(_, answer)| answer).collect()
}

/// What each core holds and has counted, without the census.
pub(super) async fn totals(state: &Arc<State>) -> Result<Vec<CoreNumbers>, Unanswered> {
    of_all(state, |state, core| async move {
        let reply = state.cores.ask(core, What::Totals).await?;
        let Said::Totals(totals) = reply.said else { unreachable!("the answer to the question") };
        let mailbox_batches = reply.mailbox_batches;
        let (traffic, census) = (Traffic::default(), Census::default());
        Ok(CoreNumbers { core, totals: *totals, mailbox_batches, traffic, census })
    })
    .await
}

/// Everything.
pub(super) async fn numbers(state: &Arc<State>) -> Result<Numbers, Unanswered> {
    let mut numbers = Numbers { cores: totals(state).await?, tenants: BTreeMap::new() };
    add_traffic(state, &mut numbers).await?;
    let mut censuses = state.gatherer.censuses.lock().await;
    let now = state.clock.monotonic();
    if censuses.taken.is_none_or(|taken| now.since(taken) >= CENSUS_LIFETIME) {
        *censuses = take_census(state).await?;
        censuses.taken = Some(now);
    }
    for (core, census) in numbers.cores.iter_mut().zip(&censuses.by_core) {
        core.census = *census;
    }
    for (tenant, census) in &censuses.by_tenant {
        numbers.tenants.entry(tenant.clone()).or_default().census = *census;
    }
    Ok(numbers)
}

async fn add_traffic(state: &Arc<State>, numbers: &mut Numbers) -> Result<(), Unanswered> {
    let cores = of_all(state, |state, core| async move {
        let (mut all, mut from) = (Vec::new(), Some(0));
        while let Some(place) = from {
            let reply = state.cores.ask(core, What::Tenants { from: place }).await?;
            let Said::Tenants(page) = reply.said else { unreachable!("the answer to the question") };
            all.extend(page.items);
            from = page.next;
        }
        Ok(all)
    });
    for (core, items) in numbers.cores.iter_mut().zip(cores.await?) {
        for item in items {
            core.traffic.add(&item.traffic);
            let tenant = numbers.tenants.entry(item.tenant).or_default();
            tenant.traffic.add(&item.traffic);
            tenant.retained += item.retained;
        }
    }
    Ok(())
}

async fn take_census(state: &Arc<State>) -> Result<Censuses, Unanswered> {
    let cores = of_all(state, |state, core| async move {
        let (mut sum, mut by_tenant, mut from) = (Census::default(), BTreeMap::new(), Some(0));
        while let Some(place) = from {
            let reply = state.cores.ask(core, What::Census { from: place }).await?;
            let Said::Census(page) = reply.said else { unreachable!("the answer to the question") };
            for item in page.items {
                sum.add(item.census);
                by_tenant.entry(item.tenant).or_insert_with(Census::default).add(item.census);
            }
            from = page.next;
        }
        Ok((sum, by_tenant))
    });
    let mut censuses = Censuses::default();
    for (sum, by_tenant) in cores.await? {
        censuses.by_core.push(sum);
        for (tenant, census) in by_tenant {
            censuses.by_tenant.entry(tenant).or_default().add(census);
        }
    }
    Ok(censuses)
}
