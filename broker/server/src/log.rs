//! Logs: structured lines to stderr, written by a thread of their own. A core that logs copies a line into
//! a bounded queue and goes on; when the queue is full the line is lost, because a core must not wait.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::{self, IsTerminal};

use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::{EnvFilter, reload};

use crate::configuration::Filter;

/// Lines that may wait for the writer; beyond, they are lost.
const QUEUE_LINES_MAX: usize = 16 * 1024;

/// What is logged, which may change while the process runs.
pub(crate) struct Log {
    set: Box<dyn Fn(EnvFilter) -> Result<(), reload::Error>>,
}

impl Log {
    /// Logs what a filter says from now on.
    pub(crate) fn set(&self, filter: &Filter) {
        if let Err(error) = (self.set)(parsed(filter)) {
            tracing::error!("log.filter stays as it was: {error}");
        }
    }
}

fn parsed(filter: &Filter) -> EnvFilter {
    // Checked when it was read.
    EnvFilter::try_new(&filter.0).unwrap_or_default()
}

/// Starts the writer. What is queued when the guard is dropped is still written.
pub(crate) fn start(filter: &Filter) -> (Log, WorkerGuard) {
    let (writer, guard) = NonBlockingBuilder::default()
        .lossy(true)
        .buffered_lines_limit(QUEUE_LINES_MAX)
        .thread_name("log")
        .finish(io::stderr());
    let lines = tracing_subscriber::fmt()
        .with_writer(writer)
        .with_ansi(io::stderr().is_terminal())
        .with_target(false)
        .with_env_filter(parsed(filter))
        .with_filter_reloading();
    let handle = lines.reload_handle();
    lines.init();
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
    (Log { set: Box::new(move |filter| handle.reload(filter)) }, guard)
}
