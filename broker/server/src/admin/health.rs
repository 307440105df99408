//! `/healthz`: every core answers. `/readyz`: and the node is not stopping. `/status`: the node at a glance.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::Json;
use axum::extract::State as From;
use axum::http::StatusCode;
use serde::Serialize;

use super::gate::Problem;
use super::process::Process;
use super::{State, gather};
use crate::clock::Clock;

/// A dead core must not look alive: all are asked.
pub(super) async fn healthz(From(state): From<Arc<State>>) -> Result<&'static str, Problem> {
    gather::totals(&state).await?;
    Ok("ok\n")
}

pub(super) async fn readyz(From(state): From<Arc<State>>) -> Result<&'static str, Problem> {
    if state.stopping.load(Ordering::Relaxed) {
        let message = "the node tells its clients to go elsewhere";
        return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "stopping", message));
    }
    healthz(From(state)).await
}

/// The node at a glance.
#[derive(Debug, Serialize)]
pub(super) struct Status {
    version: &'static str,
    pid: u32,
    /// Of the start, milliseconds since 1970.
    started_ms: u64,
    uptime_seconds: u64,
    stopping: bool,
    env: String,
    roles: Vec<&'static str>,
    listeners: Vec<String>,
    connections: usize,
    sessions: usize,
    retained: usize,
    resident_bytes: Option<u64>,
    cpu_seconds: Option<f64>,
    cores: Vec<Core>,
}

#[derive(Debug, Serialize)]
struct Core {
    id: u16,
    cpu: usize,
    connections: usize,
    sessions: usize,
    turns: u64,
    turn_us_p50: u64,
    turn_us_p99: u64,
    turn_us_max: u64,
}

pub(super) async fn status(From(state): From<Arc<State>>) -> Result<Json<Status>, Problem> {
    let cores = gather::totals(&state).await?;
    let (process, facts) = (Process::read(), state.facts.clone());
    let sum = |of: fn(&broker_core::Usage) -> usize| cores.iter().map(|core| of(&core.totals.usage)).sum();
    Ok(Json(Status {
        version: env!("CARGO_PKG_VERSION"),
        pid: std::process::id(),
        started_ms: facts.started_ms,
        uptime_seconds: Clock::wall().0.saturating_sub(facts.started_ms) / 1000,
        stopping: state.stopping.load(Ordering::Relaxed),
        env: facts.env,
        roles: facts.roles,
        listeners: facts.listeners,
        connections: sum(|usage| usage.connections),
        sessions: sum(|usage| usage.sessions),
        retained: sum(|usage| usage.retained),
        resident_bytes: process.resident_bytes,
        cpu_seconds: process.cpu_seconds,
        cores: cores
            .iter()
            .zip(&state.histograms)
            .zip(&facts.cpus)
            .map(|((core, turns), cpu)| Core {
                id: core.core.0,
                cpu: *cpu,
                connections: core.totals.usage.connections,
                sessions: core.totals.usage.sessions,
                turns: turns.turns(),
                turn_us_p50: turns.quantile_us(0.5),
                turn_us_p99: turns.quantile_us(0.99),
                turn_us_max: turns.longest_us(),
            })
            .collect(),
    }))
}
