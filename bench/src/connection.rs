//! Hot path. One connection: bytes out of a queue, bytes in through the thread's buffer, both through its transport's
//! layers if it is not plain.
//!
//! A plain connection that waits holds no buffer: the queue and the tail of a packet cut short borrow
//! theirs from the thread's pool and give them back when empty.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_io::{AsyncRead, AsyncWrite};
use glommio::net::TcpStream;

use crate::transport::Layers;

/// Buffers kept for the next who needs one.
const POOLED_MAX: usize = 4096;
/// Capacity above which a buffer is not kept.
const POOLED_BYTES_MAX: usize = 256 << 10;
/// Bytes that go through layers at a time.
const LAYERED_BYTES_MAX: usize = 64 << 10;

/// Buffers of one thread that hold nothing.
#[derive(Debug, Default)]
pub(crate) struct BufferPool {
    free: Vec<Vec<u8>>,
}

impl BufferPool {
    fn take(&mut self) -> Vec<u8> {
        self.free.pop().unwrap_or_default()
    }

    fn give(&mut self, mut buffer: Vec<u8>) {
        if buffer.capacity() == 0 || buffer.capacity() > POOLED_BYTES_MAX || self.free.len() == POOLED_MAX {
            return;
        }
        buffer.clear();
        self.free.push(buffer);
    }
}

/// The transport of one client.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    /// None: it is plain.
    layers: Option<Box<Layers>>,
    /// Bytes to send; those before `written` are gone.
    queue: Vec<u8>,
    written: usize,
    /// The head of a packet whose rest has not come.
    partial: Vec<u8>,
}

impl Connection {
    /// Takes over a stream.
    pub(crate) fn new(stream: TcpStream, layers: Option<Box<Layers>>) -> Connection {
        Connection { stream, layers, queue: Vec::new(), written: 0, partial: Vec::new() }
    }

    /// Bytes that wait to be sent.
    pub(crate) fn queued(&self) -> usize {
        self.queue.len() - self.written + self.layers.as_ref().map_or(0, |layers| layers.wire().len())
    }

    /// Where packets to send are appended.
    pub(crate) fn queue(&mut self, pool: &mut BufferPool) -> &mut Vec<u8> {
        if self.queue.capacity() == 0 {
            self.queue = pool.take();
        }
        &mut self.queue
    }

    /// Sends what is queued. `Pending`: the rest waits for the socket.
    pub(crate) fn poll_flush(
        &mut self,
        context: &mut Context<'_>,
        pool: &mut BufferPool,
    ) -> Poll<io::Result<()>> {
        if self.layers.is_some() {
            return self.poll_flush_layers(context, pool);
        }
        while self.written < self.queue.len() {
            match Pin::new(&mut self.stream).poll_write(context, &self.queue[self.written..]) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(count)) => self.written += count,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            }
        }
        self.written = 0;
        pool.give(std::mem::take(&mut self.queue));
        Poll::Ready(Ok(()))
    }

    fn poll_flush_layers(
        &mut self,
        context: &mut Context<'_>,
        pool: &mut BufferPool,
    ) -> Poll<io::Result<()>> {
        let layers = self.layers.as_mut().expect("it has some");
        loop {
            while !layers.wire().is_empty() {
                match Pin::new(&mut self.stream).poll_write(context, layers.wire()) {
                    Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                    Poll::Ready(Ok(count)) => layers.advance(count),
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Pending => return Poll::Pending,
                }
            }
            if self.queue.is_empty() {
                return Poll::Ready(Ok(()));
            }
            // Not before the broker has answered, which is received.
            if !layers.send(&self.queue) {
                return Poll::Pending;
            }
            pool.give(std::mem::take(&mut self.queue));
        }
    }

    /// Receives into `scratch`, behind the head of a packet kept from last time, and says how many
    /// bytes lie there now. `Ok(0)`: the broker closed the connection.
    pub(crate) fn poll_receive(
        &mut self,
        context: &mut Context<'_>,
        scratch: &mut [u8],
        pool: &mut BufferPool,
    ) -> Poll<io::Result<usize>> {
        if self.layers.is_some() {
            return self.poll_receive_layers(context, scratch, pool);
        }
        let kept = self.partial.len();
        match Pin::new(&mut self.stream).poll_read(context, &mut scratch[kept..]) {
            Poll::Ready(Ok(0)) => Poll::Ready(Ok(0)),
            Poll::Ready(Ok(count)) => {
                scratch[..kept].copy_from_slice(&self.partial);
                pool.give(std::mem::take(&mut self.partial));
                Poll::Ready(Ok(kept + count))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => Poll::Pending,
        }
    }

    fn poll_receive_layers(
        &mut self,
        context: &mut Context<'_>,
        scratch: &mut [u8],
        pool: &mut BufferPool,
    ) -> Poll<io::Result<usize>> {
        loop {
            let received = Pin::new(&mut self.stream).poll_read(context, &mut scratch[..LAYERED_BYTES_MAX]);
            let count = match received {
                Poll::Ready(Ok(count)) if count > 0 => count,
                other => return other,
            };
            let mut plain = std::mem::take(&mut self.partial);
            if plain.capacity() == 0 {
                plain = pool.take();
            }
            let layers = self.layers.as_mut().expect("it has some");
            layers.receive(&scratch[..count], &mut plain)?;
            let length = plain.len();
            scratch[..length].copy_from_slice(&plain);
            pool.give(plain);
            if length > 0 {
                return Poll::Ready(Ok(length));
            }
            // A handshake goes on, or is over.
            if let Poll::Ready(Err(error)) = self.poll_flush_layers(context, pool) {
                return Poll::Ready(Err(error));
            }
        }
    }

    /// Keeps the head of a packet until the rest comes.
    pub(crate) fn keep(&mut self, head: &[u8], pool: &mut BufferPool) {
        if !head.is_empty() {
            self.partial = pool.take();
            self.partial.extend_from_slice(head);
        }
    }
}
