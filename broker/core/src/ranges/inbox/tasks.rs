//! What is to be done elsewhere because of a client: on the ranges of routes, of retained messages, of others.

use std::collections::VecDeque;

use super::client::Will;
use super::groups::GroupNumber;
use crate::delivery::DeliveryOptions;
use crate::identity::Incarnation;
use crate::ranges::MessageId;
use crate::time::Wall;

/// Something to be done elsewhere because of a client, until [`TaskDone`](super::command::TaskDone): done
/// again after a restart, so it has to be safe to repeat.
#[derive(Debug)]
pub struct Task {
    /// Its name within the client.
    pub number: u64,
    /// What.
    pub work: Work,
}

/// What there is to do elsewhere.
#[derive(Debug)]
pub enum Work {
    /// A route to a session of the client is to stand, with these options.
    Route(Incarnation, Box<str>, DeliveryOptions),
    /// A route to a former or present session of the client is to go.
    Unroute(Incarnation, Box<str>),
    /// The will of a former or present session of the client is to be published, as of this moment.
    Publish(Incarnation, Box<Will>, Wall),
    /// A message of a shared subscription is to go to another member.
    PassOn(GroupNumber, MessageId),
    /// Ranges are to forget what QoS 2 messages a former session published.
    Forget(Incarnation),
}

/// The tasks of one client, oldest first.
#[derive(Debug)]
pub struct Tasks {
    /// Most clients have none.
    #[expect(clippy::box_collection, reason = "8 bytes in each client instead of 32")]
    tasks: Option<Box<VecDeque<Task>>>,
    /// Greater than the number of any task this client ever had, also before it was forgotten and came again.
    next: u64,
}

impl Tasks {
    /// Of a client that the entry at `index` brings.
    pub(super) fn new(index: u64) -> Tasks {
        // Room for 2^20 tasks per entry before a number could come again.
        Tasks { tasks: None, next: index << 20 }
    }

    /// Of a client from a checkpoint, until [`Tasks::restore`] has added them.
    pub(super) fn restored(next: u64) -> Tasks {
        Tasks { tasks: None, next }
    }

    /// Adds a task from a checkpoint; in the order of their numbers.
    pub(super) fn restore(&mut self, number: u64, work: Work) {
        self.tasks.get_or_insert_default().push_back(Task { number, work });
    }

    /// The number that the next task will have.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tasks.is_none()
    }

    /// What there is to do.
    pub fn iter(&self) -> impl Iterator<Item = &Task> {
        self.tasks.iter().flat_map(|tasks| tasks.iter())
    }

    /// A task by its number, if it is not done.
    #[must_use]
    pub fn get(&self, number: u64) -> Option<&Work> {
        let tasks = self.tasks.as_ref()?;
        let at = tasks.binary_search_by_key(&number, |task| task.number).ok()?;
        Some(&tasks[at].work)
    }

    /// Adds a task; answers its number.
    pub(super) fn push(&mut self, work: Work) -> u64 {
        let number = self.next;
        self.next += 1;
        self.tasks.get_or_insert_default().push_back(Task { number, work });
        number
    }

    /// A task is done.
    pub(super) fn remove(&mut self, number: u64) -> Option<Work> {
        let tasks = self.tasks.as_mut()?;
        let at = tasks.binary_search_by_key(&number, |task| task.number).ok()?;
        let task = tasks.remove(at)?;
        if tasks.is_empty() {
            self.tasks = None;
        }
        Some(task.work)
    }
}
