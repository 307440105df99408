//! Who comes to the administration: so many connections at a time, and so long for each to say what it wants and to take
//! its answer. One more waits in the kernel's queue, and who takes too long is closed.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::extract::{ConnectInfo, Request};
use axum::middleware::Next;
use axum::response::Response;
use axum::serve::{IncomingStream, Listener};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Sleep, sleep};

/// How soon it is tried again when the process has no room for another descriptor.
const ACCEPT_RETRY: Duration = Duration::from_secs(1);

/// What the limits saw, for `/metrics`.
#[derive(Debug, Default)]
pub(super) struct Counts {
    connections: AtomicU64,
    /// Times somebody waited for a place.
    full: AtomicU64,
    /// Connections closed, or requests refused, for taking too long.
    slow: AtomicU64,
}

impl Counts {
    pub(super) fn connections(&self) -> u64 {
        self.connections.load(Ordering::Relaxed)
    }

    /// How often each limit did something, by its setting.
    pub(super) fn limited(&self) -> [(&'static str, u64); 2] {
        [
            ("connections_max", self.full.load(Ordering::Relaxed)),
            ("request_timeout_ms", self.slow.load(Ordering::Relaxed)),
        ]
    }

    pub(super) fn count_slow(&self) {
        self.slow.fetch_add(1, Ordering::Relaxed);
    }
}

/// The listener, with its limits.
pub(super) struct Door {
    listener: TcpListener,
    places: Arc<Semaphore>,
    patience: Duration,
    counts: Arc<Counts>,
    /// Somebody waits for a place, and that was said.
    is_full: bool,
}

impl Door {
    pub(super) fn new(
        listener: TcpListener,
        connections_max: u32,
        patience: Duration,
        counts: Arc<Counts>,
    ) -> Door {
        let places = Arc::new(Semaphore::new(connections_max as usize));
        Door { listener, places, patience, counts, is_full: false }
    }

    /// A place for another connection, as soon as there is one.
    async fn place(&mut self) -> OwnedSemaphorePermit {
        if let Ok(place) = Arc::clone(&self.places).try_acquire_owned() {
            self.is_full = false;
            return place;
        }
        self.counts.full.fetch_add(1, Ordering::Relaxed);
        if !std::mem::replace(&mut self.is_full, true) {
            tracing::warn!("the administration has admin.connections_max connections: others wait");
        }
        Arc::clone(&self.places).acquire_owned().await.expect("nobody closes it")
    }
}

impl Listener for Door {
    type Io = Visit;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Visit, SocketAddr) {
        loop {
            let accepted = self.listener.accept().await;
            match accepted {
                Ok((stream, peer)) => {
                    // It holds a descriptor while it waits, one at a time.
                    let place = self.place().await;
                    return (Visit::new(stream, self.patience, Arc::clone(&self.counts), place), peer);
                }
                Err(error) if is_of_the_connection(&error) => {}
                Err(error) => {
                    tracing::warn!("the administration cannot accept, trying again soon: {error}");
                    sleep(ACCEPT_RETRY).await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// Whether what failed is the new connection, and another may be accepted at once.
fn is_of_the_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

/// Whose turn it is on a connection: the client has a time for each thing that is asked of it, we have not.
#[derive(Clone, Debug, Default)]
pub(super) struct Turn(Arc<Turns>);

#[derive(Debug, Default)]
struct Turns {
    /// A request is being worked on.
    is_ours: AtomicBool,
    /// Which turn it is.
    number: AtomicU64,
}

impl Turn {
    fn set(&self, is_ours: bool) {
        self.0.is_ours.store(is_ours, Ordering::Relaxed);
        self.0.number.fetch_add(1, Ordering::Relaxed);
    }
}

impl Connected<IncomingStream<'_, Door>> for Turn {
    fn connect_info(stream: IncomingStream<'_, Door>) -> Turn {
        stream.io().turn.clone()
    }
}

/// Works on a request without a limit of time: the client has sent what there is before its body, and when it has the
/// answer, or the first of it, its time begins anew.
pub(super) async fn work(ConnectInfo(turn): ConnectInfo<Turn>, request: Request, next: Next) -> Response {
    turn.set(true);
    let response = next.run(request).await;
    turn.set(false);
    response
}

/// A connection, closed when its client takes longer than its patience.
pub(super) struct Visit {
    stream: TcpStream,
    turn: Turn,
    patience: Duration,
    /// The end of the client's time, and of which turn.
    until: Option<(u64, Pin<Box<Sleep>>)>,
    /// The turn in which something of it came.
    heard: u64,
    counts: Arc<Counts>,
    _place: OwnedSemaphorePermit,
}

impl Visit {
    fn new(stream: TcpStream, patience: Duration, counts: Arc<Counts>, place: OwnedSemaphorePermit) -> Visit {
        counts.connections.fetch_add(1, Ordering::Relaxed);
        Visit { stream, turn: Turn::default(), patience, until: None, heard: 0, counts, _place: place }
    }

    /// The client is waited for: ready with an error when its time is over. Who has had an answer and asks for nothing
    /// more has not met a limit.
    fn poll_patience<T>(&mut self, context: &mut Context<'_>, reads: bool) -> Poll<io::Result<T>> {
        if self.turn.0.is_ours.load(Ordering::Relaxed) {
            self.until = None;
            return Poll::Pending;
        }
        let number = self.turn.0.number.load(Ordering::Relaxed);
        let (_, until) = match &mut self.until {
            Some(until) if until.0 == number => until,
            until => until.insert((number, Box::pin(sleep(self.patience)))),
        };
        ready!(until.as_mut().poll(context));
        let is_idle = reads && number > 0 && self.heard != number;
        if !is_idle {
            self.counts.count_slow();
        }
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        self.counts.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

impl AsyncRead for Visit {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.stream).poll_read(context, buffer) {
            Poll::Pending => self.poll_patience(context, true),
            ready => {
                self.heard = self.turn.0.number.load(Ordering::Relaxed);
                ready
            }
        }
    }
}

impl AsyncWrite for Visit {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match Pin::new(&mut self.stream).poll_write(context, bytes) {
            Poll::Pending => self.poll_patience(context, false),
            ready => ready,
        }
    }

    /// What follows an answer: the client's time begins here, for nobody reads before there is something to be read.
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_flush(context))?;
        match self.poll_patience(context, true) {
            Poll::Pending => Poll::Ready(Ok(())),
            over => over,
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match Pin::new(&mut self.stream).poll_write_vectored(context, slices) {
            Poll::Pending => self.poll_patience(context, false),
            ready => ready,
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
