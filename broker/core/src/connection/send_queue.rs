//! Hot path. A connection's unsent bytes: small packets copied into one buffer, large payloads shared.
//!
//! The buffer exists only while it holds something; it comes from the core's [`BufferPool`] and goes back.

use std::collections::VecDeque;
use std::iter;

use bytes::Bytes;

/// Payloads up to this many bytes are copied into the queue, larger ones are shared: below it the copy is
/// cheaper than the bookkeeping of another slice (DESIGN section 7 has the same figure for the log).
pub const COPIED_BYTES_MAX: usize = 4096;

/// Buffers between uses, so that a connection that sends now and then does not allocate each time.
#[derive(Debug, Default)]
pub struct BufferPool {
    free: Vec<Vec<u8>>,
    /// Capacity of all of them.
    bytes: usize,
}

/// What a core keeps between uses, and the largest buffer that it keeps.
const POOL_BYTES_MAX: usize = 16 * 1024 * 1024;
const POOL_BUFFER_BYTES_MAX: usize = 64 * 1024;

/// What a new buffer holds before it grows.
const BUFFER_BYTES: usize = 1024;

/// Bytes from which on a buffer is left as it is and another begun: one that doubled would take up twice what is in it,
/// and many that do so at once are a turn of copying.
const CHUNK_BYTES: usize = 248 * 1024;
/// What the other one holds, with room for the packet that goes beyond.
const CHUNK_CAPACITY: usize = 256 * 1024;

impl BufferPool {
    /// An empty buffer.
    pub fn take(&mut self) -> Vec<u8> {
        match self.free.pop() {
            Some(buffer) => {
                self.bytes -= buffer.capacity();
                buffer
            }
            None => Vec::with_capacity(BUFFER_BYTES),
        }
    }

    /// Takes a buffer back.
    pub fn give(&mut self, mut buffer: Vec<u8>) {
        let capacity = buffer.capacity();
        let kept = (BUFFER_BYTES..=POOL_BUFFER_BYTES_MAX).contains(&capacity);
        if kept && self.bytes + capacity <= POOL_BYTES_MAX {
            buffer.clear();
            self.bytes += capacity;
            self.free.push(buffer);
        }
    }
}

/// The unsent bytes of one connection, in order.
#[derive(Debug, Default)]
pub struct SendQueue {
    /// The first chunk, without allocation of its own while empty.
    first: Vec<u8>,
    /// Bytes of the first chunk that are sent.
    sent: usize,
    /// What follows; there only while a large payload is in the queue, or much else, so a pointer is all that others pay.
    #[expect(clippy::box_collection, reason = "8 bytes in each connection instead of 32")]
    rest: Option<Box<VecDeque<Chunk>>>,
    /// All unsent bytes.
    bytes: usize,
}

#[derive(Debug)]
enum Chunk {
    Copied(Vec<u8>),
    Shared(Bytes),
}

impl Chunk {
    fn as_slice(&self) -> &[u8] {
        match self {
            Chunk::Copied(bytes) => bytes,
            Chunk::Shared(bytes) => bytes,
        }
    }
}

impl SendQueue {
    /// Unsent bytes.
    pub fn len(&self) -> usize {
        self.bytes
    }

    /// Nothing unsent?
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Appends what `write` appends to the buffer it is given; returns what `write` returns.
    pub fn append<R>(&mut self, pool: &mut BufferPool, write: impl FnOnce(&mut Vec<u8>) -> R) -> R {
        let tail = match &mut self.rest {
            None if self.first.len() < CHUNK_BYTES => &mut self.first,
            rest => {
                let rest = rest.get_or_insert_default();
                match rest.back() {
                    Some(Chunk::Copied(tail)) if tail.len() < CHUNK_BYTES => {}
                    Some(Chunk::Shared(_)) => rest.push_back(Chunk::Copied(pool.take())),
                    _ => rest.push_back(Chunk::Copied(Vec::with_capacity(CHUNK_CAPACITY))),
                }
                match rest.back_mut() {
                    Some(Chunk::Copied(tail)) => tail,
                    _ => unreachable!("pushed above"),
                }
            }
        };
        if tail.capacity() == 0 {
            *tail = pool.take();
        }
        let before = tail.len();
        let result = write(tail);
        self.bytes += tail.len() - before;
        result
    }

    /// Appends bytes without copying them.
    pub fn append_shared(&mut self, bytes: Bytes) {
        if !bytes.is_empty() {
            self.bytes += bytes.len();
            self.rest.get_or_insert_default().push_back(Chunk::Shared(bytes));
        }
    }

    /// The unsent bytes, in order.
    pub fn slices(&self) -> impl Iterator<Item = &[u8]> {
        let rest = self.rest.iter().flat_map(|rest| rest.iter().map(Chunk::as_slice));
        // Only the chunk in front is partly sent.
        let mut sent = self.sent;
        iter::once(self.first.as_slice())
            .chain(rest)
            .map(move |slice| {
                let skip = sent.min(slice.len());
                sent -= skip;
                &slice[skip..]
            })
            .filter(|slice| !slice.is_empty())
    }

    /// The first `bytes` unsent bytes are sent; empty buffers return to the pool.
    pub fn advance(&mut self, bytes: usize, pool: &mut BufferPool) {
        assert!(bytes <= self.bytes, "more sent than there was");
        self.bytes -= bytes;
        self.sent += bytes;
        if self.bytes == 0 {
            return self.clear(pool);
        }
        while self.sent >= self.first.len() {
            let Some(rest) = &mut self.rest else { break };
            if !self.first.is_empty() {
                self.sent -= self.first.len();
                pool.give(std::mem::take(&mut self.first));
                continue;
            }
            match rest.front() {
                Some(Chunk::Copied(_)) => {
                    if let Some(Chunk::Copied(bytes)) = rest.pop_front() {
                        self.first = bytes;
                    }
                }
                Some(Chunk::Shared(bytes)) if self.sent >= bytes.len() => {
                    self.sent -= bytes.len();
                    rest.pop_front();
                }
                _ => break,
            }
            if rest.is_empty() {
                self.rest = None;
            }
        }
        self.compact();
    }

    /// Gives all memory back.
    pub fn clear(&mut self, pool: &mut BufferPool) {
        pool.give(std::mem::take(&mut self.first));
        for chunk in self.rest.take().into_iter().flat_map(|rest| rest.into_iter()) {
            if let Chunk::Copied(bytes) = chunk {
                pool.give(bytes);
            }
        }
        self.sent = 0;
        self.bytes = 0;
    }

    /// Keeps a queue that never quite empties from growing: what is sent leaves the buffer when it is the
    /// larger part of it, so each byte moves at most once on average.
    fn compact(&mut self) {
        if self.sent > 64 * 1024 && self.sent * 2 > self.first.len() && self.sent <= self.first.len() {
            self.first.drain(..self.sent);
            self.sent = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whatever is appended comes out, in order, under any pattern of partial sends.
    #[test]
    fn bytes_come_out_in_order() {
        for step in [1, 3, 7, 4096, 100_000] {
            let mut pool = BufferPool::default();
            let mut queue = SendQueue::default();
            let mut expected = Vec::new();
            let mut seen = Vec::new();
            for round in 0..50u32 {
                let small = vec![round as u8; 10 + round as usize];
                queue.append(&mut pool, |tail| tail.extend_from_slice(&small));
                expected.extend_from_slice(&small);
                if round % 3 == 0 {
                    let large = Bytes::from(vec![!(round as u8); 5000]);
                    queue.append_shared(large.clone());
                    expected.extend_from_slice(&large);
                }
                let mut left = step;
                while left > 0 && !queue.is_empty() {
                    let slice = queue.slices().next().unwrap();
                    let taken = slice.len().min(left);
                    seen.extend_from_slice(&slice[..taken]);
                    queue.advance(taken, &mut pool);
                    left -= taken;
                }
            }
            while !queue.is_empty() {
                let all: Vec<u8> = queue.slices().flatten().copied().collect();
                assert_eq!(all.len(), queue.len());
                seen.extend_from_slice(&all);
                queue.advance(all.len(), &mut pool);
            }
            assert!(seen == expected, "step {step}");
            assert_eq!(queue.first.capacity(), 0, "an empty queue holds no buffer");
            assert!(queue.rest.is_none());
        }
    }

    /// Small packets that wait take little more room than they have bytes, and all of them come out: 50 clients that took
    /// nothing had 375 MB for the 200 that `send_bytes_max` allows, and 50 ms were spent on making their buffers larger.
    #[test]
    fn a_long_queue_takes_little_more_than_its_bytes() {
        let (mut pool, mut queue) = (BufferPool::default(), SendQueue::default());
        let (mut expected, mut seen) = (Vec::new(), Vec::<u8>::new());
        for round in 0..60_000_u32 {
            let small = [&round.to_le_bytes()[..], &[7; 66]].concat();
            queue.append(&mut pool, |tail| tail.extend_from_slice(&small));
            expected.extend_from_slice(&small);
            if round % 4 == 0 {
                let taken = queue.slices().next().map_or(0, |slice| slice.len().min(50));
                seen.extend(queue.slices().flatten().take(taken));
                queue.advance(taken, &mut pool);
            }
        }
        let held = |queue: &SendQueue| {
            let rest = queue.rest.iter().flat_map(|rest| rest.iter());
            let rest = rest.map(|chunk| match chunk {
                Chunk::Copied(bytes) => bytes.capacity(),
                Chunk::Shared(_) => unreachable!("none was appended"),
            });
            queue.first.capacity() + rest.sum::<usize>()
        };
        assert!(queue.len() > 3_000_000 && held(&queue) < queue.len() + queue.len() / 8 + 2 * CHUNK_CAPACITY);
        seen.extend(queue.slices().flatten());
        assert!(seen == expected);
        queue.advance(queue.len(), &mut pool);
        assert_eq!(held(&queue), 0);
    }
}
