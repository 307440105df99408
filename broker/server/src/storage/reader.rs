//! Pages of sealed segments, read into the kernel's memory before a core touches them. One thread per core, and not
//! the one that makes segments: clients wait for this, and writing zeros takes its time.

use std::io;
use std::path::Path;

use broker_core::storage::StorageAnswer;
use crossbeam_channel::{Receiver, Sender, unbounded};
use wal::{Completion, LogId, Pages, files};

use super::{Answers, Done, start_thread};

/// Starts the thread, which ends when the way to it is dropped. A log asks for a piece of a segment once at a time.
pub(super) fn start(data: &Path, answers: Answers, cpus: &[usize]) -> io::Result<Sender<(LogId, Pages)>> {
    let (wanted, incoming) = unbounded();
    let data = data.to_owned();
    start_thread("log-reader", cpus, move || run(&data, &incoming, &answers))?;
    Ok(wanted)
}

fn run(data: &Path, wanted: &Receiver<(LogId, Pages)>, answers: &Answers) {
    for (log, pages) in wanted {
        match read_in(data, log, pages) {
            Ok(()) => {}
            // The log needs it no more: nobody waits.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                let segment = pages.segment;
                tracing::warn!("log {}: segment {segment} cannot be read ahead: {error}", log.0);
            }
        }
        // In any case: whoever reads now waits for the disk, or finds the damage.
        let completion = Completion::Prefetched(pages);
        if !answers.send(Done::Answer(StorageAnswer::Log(log, completion))) {
            return;
        }
    }
}

fn read_in(data: &Path, log: LogId, pages: Pages) -> io::Result<()> {
    let bytes = files::map_segment(&files::log_directory(data, log)?, pages.segment)?;
    let size = |bytes: u64| usize::try_from(bytes).expect("64-bit");
    bytes.prefetch(size(pages.offset), size(pages.bytes))
}
