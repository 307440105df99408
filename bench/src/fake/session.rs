//! One connection of the fake: its socket, what it owes, and what it remembers of the last topic.

use std::io::{self, Read, Write};
use std::net::TcpStream;

use mqtt::{PacketId, Version};

use super::routes::RouteId;
use crate::transport::Layers;

/// A send queue's room kept while it is empty.
const QUEUE_KEPT_BYTES: usize = 64 << 10;
/// Bytes that go through layers at a time.
const LAYERED_BYTES_MAX: usize = 64 << 10;

/// One connection.
#[derive(Debug)]
pub(super) struct Session {
    /// Non-blocking.
    pub(super) stream: TcpStream,
    /// None: it is plain.
    layers: Option<Box<Layers>>,
    /// `None` before CONNECT.
    pub(super) version: Option<Version>,
    /// Bytes to send.
    pub(super) queue: Vec<u8>,
    written: usize,
    /// The head of a packet whose rest has not come.
    pub(super) partial: Vec<u8>,
    /// In the list of those to be flushed this turn.
    pub(super) dirty: bool,
    /// The socket took no more and is watched for room.
    pub(super) waits_for_room: bool,
    /// Has published.
    pub(super) publishes: bool,
    /// A delivery held back to be swapped with the next.
    pub(super) held: Vec<u8>,
    /// The topic published last and where it goes.
    pub(super) last_topic: String,
    /// See `last_topic`.
    pub(super) last_routes: Vec<RouteId>,
    /// The generation of the routing table `last_routes` is of.
    pub(super) last_generation: u64,
    /// Where it is subscribed.
    pub(super) routes: Vec<RouteId>,
    next_id: u16,
}

impl Session {
    /// Before CONNECT.
    pub(super) fn new(stream: TcpStream, layers: Option<Box<Layers>>) -> Session {
        Session {
            stream,
            layers,
            version: None,
            queue: Vec::new(),
            written: 0,
            partial: Vec::new(),
            dirty: false,
            waits_for_room: false,
            publishes: false,
            held: Vec::new(),
            last_topic: String::new(),
            last_routes: Vec::new(),
            last_generation: 0,
            routes: Vec::new(),
            next_id: 0,
        }
    }

    /// Bytes that wait.
    pub(super) fn queued(&self) -> usize {
        self.queue.len() - self.written
    }

    /// An identifier for a delivery. The harness acknowledges at once: none is in use that long.
    pub(super) fn next_id(&mut self) -> PacketId {
        self.next_id = self.next_id.checked_add(1).unwrap_or(1);
        PacketId::new(self.next_id).expect("counts from 1")
    }

    /// Receives into `scratch` behind the kept head; `None`: nothing there.
    pub(super) fn receive(&mut self, scratch: &mut [u8]) -> io::Result<Option<usize>> {
        if self.layers.is_some() {
            return self.receive_layers(scratch);
        }
        let kept = self.partial.len();
        scratch[..kept].copy_from_slice(&self.partial);
        match self.stream.read(&mut scratch[kept..]) {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => {
                self.partial.clear();
                Ok(Some(kept + count))
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn receive_layers(&mut self, scratch: &mut [u8]) -> io::Result<Option<usize>> {
        let count = match self.stream.read(&mut scratch[..LAYERED_BYTES_MAX]) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(error),
        };
        let layers = self.layers.as_mut().expect("it has some");
        layers.receive(&scratch[..count], &mut self.partial)?;
        let length = self.partial.len();
        scratch[..length].copy_from_slice(&self.partial);
        self.partial.clear();
        Ok((length > 0).then_some(length))
    }

    /// Sends what is queued; `true`: all of it.
    pub(super) fn flush(&mut self) -> io::Result<bool> {
        if self.layers.is_some() {
            return self.flush_layers();
        }
        while self.written < self.queue.len() {
            match self.stream.write(&self.queue[self.written..]) {
                Ok(count) => self.written += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        self.written = 0;
        self.queue.clear();
        self.queue.shrink_to(QUEUE_KEPT_BYTES);
        Ok(true)
    }

    fn flush_layers(&mut self) -> io::Result<bool> {
        let layers = self.layers.as_mut().expect("it has some");
        loop {
            while !layers.wire().is_empty() {
                match self.stream.write(layers.wire()) {
                    Ok(count) => layers.advance(count),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                    Err(error) => return Err(error),
                }
            }
            // Nothing is owed to whom nothing can be sent yet.
            if self.queue.is_empty() || !layers.send(&self.queue) {
                return Ok(true);
            }
            self.queue.clear();
        }
    }
}
