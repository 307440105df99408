//! Requests about the routes hosted here, and how much of a turn they may take: a topic that thousands of filters match
//! costs its match, and a flood of such topics would be one turn.
//!
//! - What a look at routes costs is charged to the turn's budget (`turn_deliveries_max`).
//! - What the budget leaves over is served in later turns, of each core in the order in which it was sent: who asks for a
//!   topic, then for a new route, is answered without that route, and who has a route removed is matched until then.
//!   Cores are served in turn. Who asked has its credit back only then.
//! - An answer may so be newer than the question, never older than an `Invalidate` sent before it: holders are told
//!   of a change by the state in which the question was answered, not asked.

use std::collections::VecDeque;

use super::Core;
use crate::identity::CoreId;
use crate::input::Outputs;
use crate::peer::Body;
use crate::time::Now;

/// Routes that cost a turn as much as one delivery does, each to be visited, copied and merged (10 to 25 ns).
const ROUTES_PER_DELIVERY: usize = 8;

/// What was left over.
pub(super) struct RouteRequests {
    /// By the core that asked.
    from: Vec<VecDeque<Body>>,
    /// All of them.
    len: usize,
    /// Which core's turn it is.
    next: usize,
}

impl RouteRequests {
    pub(super) fn new(cores: u16) -> RouteRequests {
        RouteRequests { from: (0..cores).map(|_| VecDeque::new()).collect(), len: 0, next: 0 }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn push(&mut self, from: CoreId, body: Body) {
        self.from[from.index()].push_back(body);
        self.len += 1;
    }

    /// The oldest of the core whose turn it is.
    fn pop(&mut self) -> Option<(CoreId, Body)> {
        if self.len == 0 {
            return None;
        }
        loop {
            let at = self.next;
            self.next = (at + 1) % self.from.len();
            if let Some(body) = self.from[at].pop_front() {
                self.len -= 1;
                return Some((CoreId(u16::try_from(at).expect("as many as cores")), body));
            }
        }
    }
}

impl Core {
    /// So many routes were visited or copied.
    pub(super) fn charge_routes(&mut self, routes: usize) {
        let deliveries = u32::try_from(routes / ROUTES_PER_DELIVERY).unwrap_or(u32::MAX);
        self.deliveries_left = self.deliveries_left.saturating_sub(deliveries);
    }

    /// A core asks for what the routes say, or for another route.
    pub(super) fn on_route_request(&mut self, now: Now, from: CoreId, body: Body, out: &mut Outputs) {
        if self.deliveries_left > 0 && self.route_requests.from[from.index()].is_empty() {
            return self.serve_route_request(now, from, body, out);
        }
        self.peers.owe(from, body.data_bytes());
        self.route_requests.push(from, body);
    }

    /// Goes on with what was left over, under a budget of its own: first the questions, then the answers.
    pub(super) fn process_routes(&mut self, now: Now, out: &mut Outputs) {
        self.deliveries_left = self.config.turn_deliveries_max;
        while self.deliveries_left > 0 {
            let Some((from, body)) = self.route_requests.pop() else { break };
            self.peers.repay(from, body.data_bytes());
            self.serve_route_request(now, from, body, out);
        }
        self.finish_lookups(now, out);
    }

    fn serve_route_request(&mut self, now: Now, from: CoreId, body: Body, out: &mut Outputs) {
        self.deliveries_left = self.deliveries_left.saturating_sub(1);
        match body {
            Body::Match { lookup, tenant, topic } => {
                self.route_changes.add_holder(&tenant, from);
                let destinations = self.match_routes(&tenant, &topic);
                self.post(from, Body::Matched { lookup, destinations });
            }
            Body::AddRoute { tenant, filter, route, change } => {
                self.on_route(from, &tenant, &filter, (route, true), change);
            }
            Body::RemoveRoute { tenant, filter, route, change } => {
                self.on_route(from, &tenant, &filter, (route, false), change);
            }
            Body::PassOn { message, group } => self.on_pass_on(now, &group, &message, out),
            _ => unreachable!("not about routes"),
        }
    }
}
