//! Questions to the cores and their answers: bounded channels both ways, a core's eventfd and the runtime's own to
//! wake who waits. Whoever asks gives up after a while; a core that does not answer is named.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use broker_core::bans::Ban;
use broker_core::identity::CoreId;
use broker_core::sight::{Answer, Ask, Said, What};
use crossbeam_channel::{Receiver, Sender, bounded};
use tokio::sync::{Notify, Semaphore, mpsc, oneshot};
use tokio::time::timeout;

use crate::node::Control;
use crate::sys::EventFd;

/// Questions that one core may have and not have answered. It answers one a turn.
const UNANSWERED_MAX: usize = 16;

/// Answers that may wait for the administration's thread: what all cores together may be asked, with room for those
/// that nobody waits for any more.
const ANSWERS_MAX: usize = 4096;

/// Bans of who came too often that may wait to be kept.
const BANS_MAX: usize = 16_384;

/// How long an answer is waited for: a core that takes longer is stuck.
const PATIENCE: Duration = Duration::from_secs(5);

/// What a core answers, as it leaves its thread.
#[derive(Debug)]
pub(crate) struct FromCore {
    pub(crate) answer: Answer,
    /// Batches from other cores that wait for this one, and of this one for which others have no room.
    pub(crate) mailbox_batches: usize,
}

/// Where cores leave their answers.
#[derive(Clone)]
pub(crate) struct Answers {
    sender: Sender<FromCore>,
    wake: Arc<Notify>,
    bans: Sender<Ban>,
    bans_wake: Arc<Notify>,
}

impl Answers {
    /// Leaves one. It is lost if the administration's thread is stuck: a core does not wait for it.
    pub(crate) fn leave(&self, answer: FromCore) {
        if self.sender.try_send(answer).is_ok() {
            self.wake.notify_one();
        }
    }

    /// Has a ban outlive the process. Of too many at a time some do not; they hold as long as the process lives.
    pub(crate) fn keep(&self, ban: Ban) {
        if self.bans.try_send(ban).is_ok() {
            self.bans_wake.notify_one();
        }
    }
}

/// The other end.
pub(crate) struct Incoming {
    receiver: Receiver<FromCore>,
    wake: Arc<Notify>,
    bans: Receiver<Ban>,
    bans_wake: Arc<Notify>,
}

/// Bans that are to outlive the process.
pub(super) struct Banned {
    receiver: Receiver<Ban>,
    wake: Arc<Notify>,
}

impl Banned {
    /// The next ones; never none.
    pub(super) async fn next(&self) -> Vec<Ban> {
        loop {
            let bans: Vec<_> = self.receiver.try_iter().collect();
            if !bans.is_empty() {
                return bans;
            }
            self.wake.notified().await;
        }
    }
}

/// Both ends of the way from the cores to the administration's thread.
pub(crate) fn channel() -> (Answers, Incoming) {
    let (sender, receiver) = bounded(ANSWERS_MAX);
    let (bans_sender, bans) = bounded(BANS_MAX);
    let [wake, bans_wake] = [(); 2].map(|()| Arc::new(Notify::new()));
    let answers =
        Answers { sender, wake: Arc::clone(&wake), bans: bans_sender, bans_wake: Arc::clone(&bans_wake) };
    (answers, Incoming { receiver, wake, bans, bans_wake })
}

/// The way to one core.
#[derive(Clone)]
pub(crate) struct ToCore {
    pub(crate) control: Sender<Control>,
    pub(crate) wake: Arc<EventFd>,
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unanswered(pub(crate) CoreId);

impl fmt::Display for Unanswered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "core {} does not answer", self.0.0)
    }
}

/// What a core says to a question.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) said: Said,
    pub(crate) mailbox_batches: usize,
}

struct Request {
    core: CoreId,
    what: What,
    reply: oneshot::Sender<Reply>,
}

/// The cores, as those who ask see them.
pub(crate) struct Cores {
    requests: mpsc::UnboundedSender<Request>,
    /// By core.
    unanswered: Vec<Semaphore>,
}

impl Cores {
    /// On the administration's runtime.
    pub(crate) fn start(cores: Vec<ToCore>, incoming: Incoming) -> (Cores, Banned) {
        // Bounded by those who ask: each waits for its answer.
        let (requests, asked) = mpsc::unbounded_channel();
        let unanswered = cores.iter().map(|_| Semaphore::new(UNANSWERED_MAX)).collect();
        let banned = Banned { receiver: incoming.bans.clone(), wake: Arc::clone(&incoming.bans_wake) };
        tokio::spawn(carry(cores, asked, incoming));
        (Cores { requests, unanswered }, banned)
    }

    /// The cores there are.
    pub(crate) fn ids(&self) -> impl Iterator<Item = CoreId> + use<> {
        (0..u16::try_from(self.unanswered.len()).unwrap_or(u16::MAX)).map(CoreId)
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.unanswered.len()
    }

    /// Asks a core.
    pub(crate) async fn ask(&self, core: CoreId, what: What) -> Result<Reply, Unanswered> {
        let late = Unanswered(core);
        let answered = async {
            let _permit = self.unanswered[core.index()].acquire().await.map_err(|_| late)?;
            let (reply, replied) = oneshot::channel();
            self.requests.send(Request { core, what, reply }).map_err(|_| late)?;
            replied.await.map_err(|_| late)
        };
        timeout(PATIENCE, answered).await.unwrap_or(Err(late))
    }
}

/// Carries questions to the cores and answers back.
async fn carry(cores: Vec<ToCore>, mut asked: mpsc::UnboundedReceiver<Request>, answers: Incoming) {
    let mut waiting: BTreeMap<u64, oneshot::Sender<Reply>> = BTreeMap::new();
    let mut number = 0;
    loop {
        tokio::select! {
            request = asked.recv() => {
                let Some(Request { core, what, reply }) = request else { return };
                // Those who have given up.
                waiting.retain(|_, reply| !reply.is_closed());
                number += 1;
                let core = &cores[core.index()];
                if core.control.try_send(Control::Ask(Box::new(Ask { number, what }))).is_ok() {
                    waiting.insert(number, reply);
                }
                core.wake.signal();
            }
            () = answers.wake.notified() => {
                for FromCore { answer, mailbox_batches } in answers.receiver.try_iter() {
                    if let Some(reply) = waiting.remove(&answer.number) {
                        let _ = reply.send(Reply { said: answer.said, mailbox_batches });
                    }
                }
            }
        }
    }
}
