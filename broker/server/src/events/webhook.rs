//! Events to a service of the operator's: a POST of a JSON array, by a thread of its own. What comes meanwhile waits
//! in the queue, as far as that goes; what is not taken after some tries is given up and counted.
//!
//! ```text
//! POST webhook_url  [{"at_ms", "core", "type", "event", …}, …]
//!      2xx: they are taken
//! ```

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError};
use rustls::ClientConfig;

use super::Counts;
use super::record::Record;
use crate::clock::Clock;
use crate::http::{Connection, Patience, Url};

/// How long the first pause after a failure is; the next are twice as long each, up to the most.
const PAUSE: Duration = Duration::from_millis(250);
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// How often in a row nothing is said of failures, but for the first.
const WARN_EVERY: u64 = 100;

/// Whom to tell, and how.
pub(super) struct Webhook {
    pub(super) url: Url,
    pub(super) tls: Option<Arc<ClientConfig>>,
    pub(super) clock: Clock,
    /// Of one request.
    pub(super) timeout: Duration,
    /// After the first.
    pub(super) retries_max: u32,
    /// Events of one request.
    pub(super) batch_max: usize,
    /// How long the first of them waits for others.
    pub(super) linger: Duration,
}

impl Webhook {
    /// Tells until there is nobody left to send anything.
    pub(super) fn tell_all(&self, records: &Receiver<Arc<Record>>, counts: &Counts) {
        let (mut connection, mut failures) = (Connection::default(), 0);
        while let Ok(first) = records.recv() {
            let (batch, ends) = self.gather(first, records);
            let described: Vec<_> = batch.iter().map(|record| record.describe()).collect();
            let body = serde_json::to_vec(&described).expect("plain fields");
            // Whoever ends the process does not wait for a service that is away.
            let retries = if ends { 0 } else { self.retries_max };
            let taken = (0..=retries).any(|attempt| {
                if attempt > 0 {
                    thread::park_timeout(PAUSE.saturating_mul(1 << (attempt - 1).min(16)).min(PAUSE_MAX));
                }
                let taken = self.post(&mut connection, &body);
                if let Err(error) = &taken {
                    if failures % WARN_EVERY == 0 {
                        tracing::warn!("events.webhook_url: {error}, {} times so far", failures + 1);
                    }
                    failures += 1;
                    counts.fail();
                }
                taken.is_ok()
            });
            if !taken {
                counts.lose(batch.len() as u64);
            }
        }
    }

    /// What comes soon after the first; and whether nothing comes after that.
    fn gather(&self, first: Arc<Record>, records: &Receiver<Arc<Record>>) -> (Vec<Arc<Record>>, bool) {
        let mut batch = vec![first];
        let until = self.clock.instant(self.clock.monotonic().after(self.linger));
        while batch.len() < self.batch_max {
            match records.recv_deadline(until) {
                Ok(record) => batch.push(record),
                Err(RecvTimeoutError::Timeout) => break,
                Err(RecvTimeoutError::Disconnected) => return (batch, true),
            }
        }
        (batch, false)
    }

    fn post(&self, connection: &mut Connection, body: &[u8]) -> Result<(), String> {
        let patience = Patience { clock: self.clock, until: self.clock.monotonic().after(self.timeout) };
        match connection.post(&self.url, self.tls.as_ref(), body, patience) {
            Ok((200..300, _)) => Ok(()),
            Ok((status, _)) => Err(format!("it answers {status}")),
            Err(error) => Err(error.to_string()),
        }
    }
}
