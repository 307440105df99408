//! A small service: queues of messages, registers with conditional writes, and a count of all commands.
//!
//! Keys: `0` the count and the time, `1 register`, `2 queue bucket`, big-endian. A queue's messages stand in buckets by
//! their log index, so that a command knows which key a message is under from nothing but its own id.

use std::collections::BTreeMap;

use range::checkpoint::{Chunk, RestoreError};
use range::{Apply, Command, Effects, LogIndex, MessageId, RangeId, StateMachine};

/// Log indexes per bucket.
const BUCKET: u64 = 64;

/// What the tests propose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Appends the payload to these queues, ascending.
    Enqueue(Vec<u16>),
    /// Removes the queue's messages up to this one.
    Ack(u16, LogIndex, u32),
    /// Sets a register that is not there.
    Create(u8, u64),
    /// Removes a register that has this value.
    DeleteIf(u8, u64),
}

impl Op {
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Op::Enqueue(queues) => {
                out.push(1);
                queues.iter().for_each(|queue| out.extend_from_slice(&queue.to_be_bytes()));
            }
            Op::Ack(queue, index, ordinal) => {
                out.push(2);
                out.extend_from_slice(&queue.to_be_bytes());
                out.extend_from_slice(&index.0.to_be_bytes());
                out.extend_from_slice(&ordinal.to_be_bytes());
            }
            Op::Create(register, value) => {
                out.extend_from_slice(&[3, *register]);
                out.extend_from_slice(&value.to_be_bytes());
            }
            Op::DeleteIf(register, value) => {
                out.extend_from_slice(&[4, *register]);
                out.extend_from_slice(&value.to_be_bytes());
            }
        }
        out
    }

    pub fn decode(bytes: &[u8]) -> Op {
        match bytes[0] {
            1 => Op::Enqueue(
                bytes[1..].chunks(2).map(|queue| u16::from_be_bytes([queue[0], queue[1]])).collect(),
            ),
            2 => Op::Ack(
                u16::from_be_bytes(bytes[1..3].try_into().unwrap()),
                LogIndex(u64::from_be_bytes(bytes[3..11].try_into().unwrap())),
                u32::from_be_bytes(bytes[11..15].try_into().unwrap()),
            ),
            3 => Op::Create(bytes[1], u64::from_be_bytes(bytes[2..10].try_into().unwrap())),
            4 => Op::DeleteIf(bytes[1], u64::from_be_bytes(bytes[2..10].try_into().unwrap())),
            kind => panic!("no command {kind}"),
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Queues {
    pub range: RangeId,
    pub count: u64,
    /// Time of the last command.
    pub wall: u64,
    pub registers: BTreeMap<u8, u64>,
    /// Queue and bucket → index and ordinal.
    pub messages: BTreeMap<(u16, u64), Vec<(u64, u32)>>,
}

fn bucket_key(queue: u16, bucket: u64) -> [u8; 11] {
    let mut key = [2; 11];
    key[1..3].copy_from_slice(&queue.to_be_bytes());
    key[3..].copy_from_slice(&bucket.to_be_bytes());
    key
}

impl Queues {
    pub fn new(range: RangeId) -> Queues {
        Queues { range, ..Queues::default() }
    }

    fn id(&self, index: u64, ordinal: u32) -> MessageId {
        MessageId { origin: self.range, index: LogIndex(index), ordinal }
    }

    /// The ids in a queue, in order.
    pub fn queue(&self, queue: u16) -> Vec<MessageId> {
        let buckets = self.messages.range((queue, 0)..=(queue, u64::MAX));
        buckets.flat_map(|(_, ids)| ids).map(|(index, ordinal)| self.id(*index, *ordinal)).collect()
    }

    fn ack(&mut self, apply: &Apply<'_>, queue: u16, up_to: (u64, u32), effects: &mut Effects<MessageId>) {
        let range = self.range;
        let buckets = self.messages.range_mut((queue, 0)..=(queue, up_to.0 / BUCKET));
        for ((_, bucket), ids) in buckets {
            if apply.has(&bucket_key(queue, *bucket)) {
                continue;
            }
            let count = ids.partition_point(|id| *id <= up_to);
            for (index, ordinal) in ids.drain(..count) {
                effects.release(MessageId { origin: range, index: LogIndex(index), ordinal });
            }
        }
        self.messages.retain(|_, ids| !ids.is_empty());
    }
}

impl StateMachine for Queues {
    type Effect = MessageId;
    type Outcome = u64;

    fn apply(&mut self, apply: &Apply<'_>, command: &Command<'_>, effects: &mut Effects<MessageId>) -> u64 {
        if !apply.has(&[0]) {
            self.count += 1;
            assert!(apply.wall.0 >= self.wall, "time does not go back, whoever leads");
            self.wall = apply.wall.0;
        }
        let register = |register: u8| [1, register];
        match Op::decode(command.body) {
            Op::Enqueue(queues) => {
                let MessageId { index, ordinal, .. } = command.id;
                for queue in queues {
                    let bucket = index.0 / BUCKET;
                    if !apply.has(&bucket_key(queue, bucket)) {
                        self.messages.entry((queue, bucket)).or_default().push((index.0, ordinal));
                        effects.retain(command.id);
                    }
                }
            }
            Op::Ack(queue, index, ordinal) => self.ack(apply, queue, (index.0, ordinal), effects),
            Op::Create(name, value) => {
                if !apply.has(&register(name)) {
                    self.registers.entry(name).or_insert(value);
                }
            }
            Op::DeleteIf(name, value) => {
                if !apply.has(&register(name)) && self.registers.get(&name) == Some(&value) {
                    self.registers.remove(&name);
                }
            }
        }
        effects.push(command.id);
        self.count
    }

    fn references(&self, each: &mut dyn FnMut(MessageId)) {
        for (index, ordinal) in self.messages.values().flatten() {
            each(self.id(*index, *ordinal));
        }
    }

    fn checkpoint(&self, after: Option<&[u8]>, chunk: &mut Chunk) -> bool {
        let mut put = |key: &[u8], value: &[u8]| {
            if after.is_some_and(|after| key <= after) {
                return true;
            }
            if chunk.is_full() {
                return false;
            }
            chunk.put(key, value);
            true
        };
        if !put(&[0], &[self.count.to_le_bytes(), self.wall.to_le_bytes()].concat()) {
            return false;
        }
        for (name, value) in &self.registers {
            if !put(&[1, *name], &value.to_le_bytes()) {
                return false;
            }
        }
        let mut from = (0, 0);
        if let Some(after) = after.filter(|after| after[0] == 2) {
            from = (
                u16::from_be_bytes(after[1..3].try_into().unwrap()),
                u64::from_be_bytes(after[3..].try_into().unwrap()),
            );
        }
        for ((queue, bucket), ids) in self.messages.range(from..) {
            let mut value = Vec::new();
            for (index, ordinal) in ids {
                value.extend_from_slice(&index.to_le_bytes());
                value.extend_from_slice(&ordinal.to_le_bytes());
            }
            if !put(&bucket_key(*queue, *bucket), &value) {
                return false;
            }
        }
        true
    }

    fn restore(&mut self, key: &[u8], value: &[u8]) -> Result<(), RestoreError> {
        let u64_at = |bytes: &[u8]| u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes"));
        match key[0] {
            0 => (self.count, self.wall) = (u64_at(value), u64_at(&value[8..])),
            1 => {
                self.registers.insert(key[1], u64_at(value));
            }
            2 => {
                let queue = u16::from_be_bytes(key[1..3].try_into().unwrap());
                let bucket = u64::from_be_bytes(key[3..].try_into().unwrap());
                let id = |id: &[u8]| (u64_at(id), u32::from_le_bytes(id[8..].try_into().unwrap()));
                self.messages.insert((queue, bucket), value.chunks(12).map(id).collect());
            }
            _ => return Err(RestoreError::Value),
        }
        Ok(())
    }
}
