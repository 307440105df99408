//! Commits on a thread of their own.

use std::fs::File;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use wal::{CommitNumber, FlushError, files};

use super::Answer;

/// One write; without bytes, a sync of what was stored before.
pub struct Job {
    pub file: Arc<File>,
    pub offset: u64,
    pub bytes: Vec<u8>,
}

/// Ends when it is dropped. At most two commits are under way, so its queues are bounded by the log.
pub struct Thread {
    jobs: Sender<(CommitNumber, Vec<Job>)>,
    answers: Receiver<Answer>,
    in_flight: u32,
}

impl Thread {
    #[cfg_attr(test, expect(clippy::disallowed_methods, reason = "in a broker the shell starts it"))]
    pub fn start() -> Thread {
        let (jobs, todo) = channel::<(CommitNumber, Vec<Job>)>();
        let (done, answers) = channel();
        std::thread::spawn(move || {
            for (number, jobs) in todo {
                if done.send((number, jobs.iter().try_for_each(carry_out))).is_err() {
                    return;
                }
            }
        });
        Thread { jobs, answers, in_flight: 0 }
    }

    pub fn submit(&mut self, number: CommitNumber, jobs: Vec<Job>) {
        self.jobs.send((number, jobs)).expect("the thread lives as long as its owner");
        self.in_flight += 1;
    }

    pub fn reap(&mut self, wait: bool, out: &mut Vec<Answer>) {
        if wait && self.in_flight > 0 {
            out.push(self.answers.recv().expect("the thread answers every commit"));
            self.in_flight -= 1;
        }
        for answer in self.answers.try_iter() {
            out.push(answer);
            self.in_flight -= 1;
        }
    }
}

fn carry_out(job: &Job) -> Result<(), FlushError> {
    if job.bytes.is_empty() {
        let errno = |error: std::io::Error| FlushError::Sync(error.raw_os_error().unwrap_or(0));
        return job.file.sync_data().map_err(errno);
    }
    files::write_and_sync(&job.file, job.offset, &job.bytes)
}
