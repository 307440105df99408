//! Logs: structured lines to stderr, written by a thread of their own. A core that logs copies a line into
//! a bounded queue and goes on; when the queue is full the line is lost, because a core must not wait.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::{self, IsTerminal};

use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;

/// Lines that may wait for the writer; beyond, they are lost.
const QUEUE_LINES_MAX: usize = 16 * 1024;

/// Starts the writer. What is queued when the guard is dropped is still written.
pub(crate) fn start(filter: EnvFilter) -> WorkerGuard {
    let (writer, guard) = NonBlockingBuilder::default()
        .lossy(true)
        .buffered_lines_limit(QUEUE_LINES_MAX)
        .thread_name("log")
        .finish(io::stderr());
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(writer)
        .with_ansi(io::stderr().is_terminal())
        .with_target(false)
        .init();
    std::panic::set_hook(Box::new(|panic| {
        let thread = std::thread::current();
        let thread = thread.name().unwrap_or("?");
        match Backtrace::capture() {
            backtrace if backtrace.status() == BacktraceStatus::Captured => {
                tracing::error!("thread {thread} {panic}\n{backtrace}");
            }
            _ => tracing::error!("thread {thread} {panic}"),
        }
    }));
    guard
}
