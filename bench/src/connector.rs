//! Which clients a thread has, and opening them: at a rate, or as fast as the handshakes allow.

use std::rc::Rc;
use std::time::Duration;

use glommio::timer::Timer;

use crate::client::Role;
use crate::clock;
use crate::connection::Connection;
use crate::dial::dial;
use crate::getter::Getter;
use crate::pace::Pace;
use crate::persistent::Stage;
use crate::plan::{Plan, Shape};
use crate::publisher::Publisher;
use crate::shared::Phase;
use crate::subscriber::Subscriber;
use crate::worker::Worker;

/// One client to open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Job {
    /// Stays connected; the number counts connections over the whole run, here and below.
    Idle { number: u32 },
    /// Subscriber or getter `index` of a flow.
    Subscriber { number: u32, flow: usize, index: u32 },
    /// Publisher `index` of a flow, the `turn`-th of its thread.
    Publisher { number: u32, flow: usize, index: u32, turn: u64 },
}

/// The clients of thread `thread` of `threads`: of every kind in turn, so that publisher i and
/// subscriber i share a thread. Subscribers come first.
pub(crate) fn jobs(plan: &Plan, thread: usize, threads: usize) -> Vec<Job> {
    let mut jobs = Vec::new();
    let mut number = 0;
    let mine = |index: u32| index as usize % threads == thread;
    for (flow, settings) in plan.flows.iter().enumerate() {
        for index in 0..settings.subscribers {
            if mine(index) && plan.stage.has_subscribers() {
                jobs.push(Job::Subscriber { number, flow, index });
            }
            number += 1;
        }
    }
    for (flow, settings) in plan.flows.iter().enumerate() {
        let mut turn = 0;
        for index in 0..settings.publishing() {
            if mine(index) && plan.stage.has_publishers() {
                jobs.push(Job::Publisher { number, flow, index, turn });
                turn += 1;
            }
            number += 1;
        }
    }
    for index in 0..plan.idle {
        if mine(index) {
            jobs.push(Job::Idle { number });
        }
        number += 1;
    }
    jobs
}

/// Opens all clients of a thread, each driven by a task of its own.
pub(crate) async fn connect_all(worker: Rc<Worker>, jobs: Vec<Job>) {
    let rate = worker.shared.plan.connect_rate.map(|rate| rate / worker.shared.threads as f64);
    let pace = rate.map(|rate| Pace::new(clock::now(), rate));
    for (slot, job) in jobs.into_iter().enumerate() {
        if let Some(pace) = pace {
            wait_until(pace.at(slot as u64)).await;
        }
        if worker.shared.phase() == Phase::Close {
            return;
        }
        worker.begin_handshake().await;
        let (number, role) = role(&worker, job);
        let target = &worker.shared.target;
        match dial(target.address, number) {
            Ok(stream) => {
                let connection = Connection::new(stream, target.begin(number));
                let client = Rc::clone(&worker).run_client(connection, role, slot, number);
                glommio::spawn_local(client).detach();
            }
            Err(error) => worker.on_not_dialled(role, error),
        }
    }
}

async fn wait_until(time: u64) {
    let wait = time.saturating_sub(clock::now());
    if wait > 0 {
        Timer::new(Duration::from_nanos(wait)).await;
    }
}

fn role(worker: &Worker, job: Job) -> (u32, Role) {
    match job {
        Job::Idle { number } => (number, Role::Idle),
        Job::Publisher { number, flow, index, turn } => {
            (number, Role::Publisher(Box::new(Publisher::new(worker, flow, index, turn))))
        }
        Job::Subscriber { number, flow, index } => {
            let role = match worker.shared.plan.flows[flow].shape {
                _ if worker.shared.plan.stage == Stage::Clear => Role::Idle,
                Shape::RetainedGet => Role::Getter(Box::new(Getter::new(worker, flow, index))),
                _ => Role::Subscriber(Box::new(Subscriber::new(worker, flow, index))),
            };
            (number, role)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two threads share all connections without overlap, and a pair stays together.
    #[test]
    fn threads_share_the_clients() {
        let plan = crate::scenario::find("mixed").unwrap().plan();
        let (one, two) = (jobs(&plan, 0, 2), jobs(&plan, 1, 2));
        assert_eq!((one.len() + two.len()) as u32, plan.connections());
        assert!(one.iter().all(|job| !two.contains(job)));
        let mut numbers: Vec<u32> = one.iter().chain(&two).map(|job| number_of(*job)).collect();
        numbers.sort_unstable();
        assert_eq!(numbers, (0..plan.connections()).collect::<Vec<_>>());
        assert!(one.iter().all(|job| match job {
            Job::Publisher { index, .. } | Job::Subscriber { index, .. } => index % 2 == 0,
            Job::Idle { .. } => true,
        }));
    }

    fn number_of(job: Job) -> u32 {
        match job {
            Job::Idle { number } | Job::Subscriber { number, .. } | Job::Publisher { number, .. } => number,
        }
    }
}
