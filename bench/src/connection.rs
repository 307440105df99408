//! Hot path. One TCP connection: bytes out of a queue, bytes in through the thread's buffer.
//!
//! A connection that waits holds no buffer: the queue and the tail of a packet cut short borrow
//! theirs from the thread's pool and give them back when empty.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_io::{AsyncRead, AsyncWrite};
use glommio::net::TcpStream;

/// Buffers kept for the next who needs one.
const POOLED_MAX: usize = 4096;
/// Capacity above which a buffer is not kept.
const POOLED_BYTES_MAX: usize = 256 << 10;

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
    /// Bytes to send; those before `written` are gone.
    queue: Vec<u8>,
    written: usize,
    /// The head of a packet whose rest has not come.
    partial: Vec<u8>,
}

impl Connection {
    /// Takes over a stream.
    pub(crate) fn new(stream: TcpStream) -> Connection {
        Connection { stream, queue: Vec::new(), written: 0, partial: Vec::new() }
    }

    /// Bytes that wait to be sent.
    pub(crate) fn queued(&self) -> usize {
        self.queue.len() - self.written
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

    /// Receives into `scratch`, behind the head of a packet kept from last time, and says how many
    /// bytes lie there now. `Ok(0)`: the broker closed the connection.
    pub(crate) fn poll_receive(
        &mut self,
        context: &mut Context<'_>,
        scratch: &mut [u8],
        pool: &mut BufferPool,
    ) -> Poll<io::Result<usize>> {
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

    /// Keeps the head of a packet until the rest comes.
    pub(crate) fn keep(&mut self, head: &[u8], pool: &mut BufferPool) {
        if !head.is_empty() {
            self.partial = pool.take();
            self.partial.extend_from_slice(head);
        }
    }
}
