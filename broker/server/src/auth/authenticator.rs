//! A core's way to answers: at once where that can be, otherwise by a thread. Between two steps of an exchange it keeps
//! what the next one needs.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use broker_core::access::{Decided, Doubt, Question, Step};
use broker_core::config::Config;
use broker_core::identity::ConnectionId;
use broker_core::time::Mono;
use mqtt::ReasonCode;

use super::scram::Exchange;
use super::workers::{Busy, Desk, Job};
use super::{Knowledge, refuse};

/// Answers one core's questions. Lives on the core.
pub(crate) struct Authenticator {
    knowledge: Arc<Knowledge>,
    config: Arc<Config>,
    desk: Desk,
    /// Logins for which the desk has no room yet: those that one turn brought beyond it, for then no further ones are
    /// read.
    waiting: VecDeque<Box<Job>>,
    /// Exchanges whose client has the next word.
    exchanges: BTreeMap<ConnectionId, Exchange>,
}

/// What a thread has found: an answer, and an exchange that goes on.
pub(super) type Answer = (Decided, Option<Exchange>);

impl Authenticator {
    /// For the core whose desk it is.
    pub(crate) fn new(knowledge: Arc<Knowledge>, config: Arc<Config>, desk: Desk) -> Authenticator {
        Authenticator { knowledge, config, desk, waiting: VecDeque::new(), exchanges: BTreeMap::new() }
    }

    /// The configuration has changed.
    pub(crate) fn configure(&mut self, config: &Arc<Config>) {
        self.config = Arc::clone(config);
    }

    /// Files were read anew.
    pub(crate) fn learn(&mut self, knowledge: Arc<Knowledge>) {
        self.knowledge = knowledge;
    }

    /// The answer to a question, if it can be had at once; otherwise it comes by [`Authenticator::next`].
    pub(crate) fn ask(&mut self, now: Mono, question: Question) -> Option<Decided> {
        let connection = question.connection;
        let exchange = self.exchanges.remove(&connection);
        if let Some(verdict) = self.knowledge.decide_at_once(&self.config, &question) {
            return Some(Decided { connection, verdict });
        }
        let job = Job {
            asked: now,
            question,
            exchange,
            knowledge: Arc::clone(&self.knowledge),
            config: Arc::clone(&self.config),
        };
        match self.desk.take(job) {
            Ok(()) => None,
            // Nobody waits who is online: nothing keeps such clients from asking again and again.
            Err(Busy(job)) if job.question.step == Step::Reauthenticate => {
                self.desk.count_busy();
                let verdict = refuse(ReasonCode::SERVER_BUSY, Some(Doubt::QueueFull));
                Some(Decided { connection, verdict })
            }
            Err(Busy(job)) => {
                self.waiting.push_back(job);
                None
            }
        }
    }

    /// How many further logins there is room for. While there is none, those who have not been let in are not read from,
    /// nor others accepted: they wait in the kernel.
    pub(crate) fn room(&mut self) -> usize {
        while let Some(job) = self.waiting.pop_front() {
            if let Err(Busy(job)) = self.desk.take(*job) {
                self.waiting.push_front(job);
                return 0;
            }
        }
        self.desk.room()
    }

    /// The next answer that a thread has found. Of a connection that is gone nothing is kept.
    pub(crate) fn next(&mut self, is_there: impl FnOnce(ConnectionId) -> bool) -> Option<Decided> {
        let (decided, exchange) = self.desk.next()?;
        if let Some(exchange) = exchange
            && is_there(decided.connection)
        {
            self.exchanges.insert(decided.connection, exchange);
        }
        Some(decided)
    }

    /// A connection is gone.
    pub(crate) fn forget(&mut self, connection: ConnectionId) {
        self.exchanges.remove(&connection);
    }
}
