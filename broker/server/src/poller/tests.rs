//! Both pollers, driven over socket pairs: a report per arrival and none besides, until forgotten; and what
//! only the ring has to bear, a completion queue that overflows and names that come back late.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread;

use super::*;
use crate::sys::EventFd;

/// How long a test that has failed waits.
const DEADLINE: Duration = Duration::from_secs(60);

/// Polls after which what has not been reported never is: the kernel says all it knows in a few.
const POLLS_MAX: u32 = 1000;

fn both() -> [Poller; 2] {
    [Io::Uring, Io::Epoll].map(|io| Poller::new(io).unwrap().0)
}

fn small_ring() -> Poller {
    Poller::Ring(Box::new(Ring::with_completions(8).unwrap()))
}

/// Two ends, neither of which blocks.
fn pair() -> (UnixStream, UnixStream) {
    let (ours, other) = UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    other.set_nonblocking(true).unwrap();
    (ours, other)
}

fn connection(slot: u32, generation: u32) -> Source {
    Source::Connection(ConnectionId { slot, generation })
}

fn now(poller: &mut Poller) -> Vec<Report> {
    let mut reports = Vec::new();
    poller.poll(Duration::ZERO, &mut reports);
    reports
}

/// What there is when something has happened. The kernel may wake a sleeper for nothing, too.
fn next(poller: &mut Poller) -> Vec<Report> {
    let mut reports = Vec::new();
    for _ in 0..10 {
        poller.poll(DEADLINE, &mut reports);
        if !reports.is_empty() {
            break;
        }
    }
    reports
}

/// How often a source was reported readable, and how often to be hung up.
fn readable(reports: &[Report], source: Source) -> (usize, usize) {
    let readiness =
        reports.iter().filter(|report| report.source == source).filter_map(|report| match report.what {
            What::Ready(readiness) if readiness.readable => Some(readiness),
            _ => None,
        });
    readiness.fold((0, 0), |(all, hung_up), readiness| (all + 1, hung_up + usize::from(readiness.hung_up)))
}

/// Reads until nothing is there: how many bytes, and whether the stream has ended.
fn drain(mut stream: &UnixStream) -> (usize, bool) {
    let (mut bytes, mut buffer) = (0, [0; 4096]);
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return (bytes, true),
            Ok(read) => bytes += read,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                return (bytes, false);
            }
        }
    }
}

/// Each arrival is reported once, without anything being asked for in between; what was there before the
/// watch began is reported, too, and what is left lying is not.
#[test]
fn arrivals_are_reported_once() {
    for mut poller in both() {
        let (ours, mut other) = pair();
        let source = connection(7, 1);
        other.write_all(&[0]).unwrap();
        poller.watch(source, ours.as_fd()).unwrap();
        for _ in 0..3 {
            assert_eq!(readable(&next(&mut poller), source), (1, 0));
            assert_eq!(readable(&now(&mut poller), source), (0, 0), "reported again without an arrival");
            other.write_all(&[0]).unwrap();
        }
        assert_eq!(readable(&next(&mut poller), source), (1, 0));
        assert_eq!(drain(&ours), (4, false));
    }
}

/// A call reports all that has happened, however many there are: the kernel brings about 20 completions into
/// a ring at a time.
#[test]
fn one_call_reports_everything() {
    for mut poller in both() {
        let mut pairs: Vec<_> = (0..300).map(|_| pair()).collect();
        for (slot, (ours, _)) in (0..).zip(&pairs) {
            poller.watch(connection(slot, 0), ours.as_fd()).unwrap();
        }
        now(&mut poller);
        for (_, other) in &mut pairs {
            other.write_all(&[0]).unwrap();
        }
        let reports = now(&mut poller);
        for slot in 0..300 {
            assert_eq!(readable(&reports, connection(slot, 0)), (1, 0), "slot {slot}");
        }
    }
}

/// The end of a stream is told with what came before it, or by itself, whether the other end has closed or
/// only shut down; and it is told once: a stream that has ended stays readable for ever.
#[test]
fn hang_up_is_told_once() {
    for mut poller in both() {
        for (slot, before) in [(0, 0), (1, 100)] {
            let ((ours, mut other), source) = (pair(), connection(slot, 0));
            poller.watch(source, ours.as_fd()).unwrap();
            now(&mut poller);
            other.write_all(&vec![0; before]).unwrap();
            other.shutdown(Shutdown::Write).unwrap();
            let (all, hung_up) = readable(&next(&mut poller), source);
            assert!(all > 0 && hung_up > 0);
            assert_eq!(readable(&now(&mut poller), source), (0, 0), "reported for ever");
            assert_eq!(drain(&ours), (before, true));
            drop(other);
            let (_, hung_up) = readable(&next(&mut poller), source);
            assert!(hung_up > 0);
            assert_eq!(readable(&now(&mut poller), source), (0, 0), "reported for ever");
            poller.forget(source, ours.as_fd());
        }
    }
}

/// Room to send is reported when there is some again, and not before.
#[test]
fn room_to_send_is_reported() {
    let writable = |reports: &[Report]| {
        reports.iter().any(|report| matches!(report.what, What::Ready(Readiness { writable: true, .. })))
    };
    for mut poller in both() {
        let (mut ours, other) = pair();
        let id = ConnectionId { slot: 3, generation: 9 };
        poller.watch(Source::Connection(id), ours.as_fd()).unwrap();
        now(&mut poller);
        for _ in 0..3 {
            while ours.write(&[0; 4096]).is_ok() {}
            poller.watch_writable(id, ours.as_fd());
            assert!(!writable(&now(&mut poller)));
            drain(&other);
            let reports = next(&mut poller);
            assert!(
                writable(&reports) && reports.iter().all(|report| report.source == Source::Connection(id))
            );
        }
    }
}

/// A descriptor that is forgotten and closed is closed for the other end, too: nothing in the kernel holds it
/// open. Even if a report of it is on its way, and however late it was begun to be waited on.
#[test]
fn forgotten_descriptor_is_let_go() {
    for mut poller in both() {
        for (round, on_its_way) in [false, true].into_iter().enumerate() {
            for watched in [false, true] {
                let ((ours, mut other), source) = (pair(), connection(5, u32::try_from(round).unwrap()));
                poller.watch(source, ours.as_fd()).unwrap();
                if watched {
                    now(&mut poller);
                }
                if on_its_way {
                    other.write_all(&[0]).unwrap();
                }
                poller.forget(source, ours.as_fd());
                drain(&ours);
                drop(ours);
                let mut polls = 0;
                while !drain(&other).1 {
                    now(&mut poller);
                    polls += 1;
                    assert!(polls < POLLS_MAX, "still open: on its way {on_its_way}, watched {watched}");
                }
            }
        }
    }
}

/// A report that comes late does not reach the next connection in the slot: it has the old name.
#[test]
fn late_report_has_the_old_name() {
    for mut poller in both() {
        for generation in 0..100 {
            let (old, new) = (connection(5, generation), connection(5, generation + 1));
            let (first, mut other_of_first) = pair();
            poller.watch(old, first.as_fd()).unwrap();
            now(&mut poller);
            other_of_first.write_all(&[0]).unwrap();
            poller.forget(old, first.as_fd());
            drop(first);
            let (second, mut other) = pair();
            poller.watch(new, second.as_fd()).unwrap();
            assert_eq!(readable(&now(&mut poller), new), (0, 0));
            other.write_all(&[0]).unwrap();
            let mut reports = Vec::new();
            while reports.is_empty() {
                reports = next(&mut poller);
                reports.retain(|report| report.source != old);
            }
            assert_eq!(readable(&reports, new), (1, 0));
            poller.forget(new, second.as_fd());
        }
    }
}

/// More descriptors than the submission queue takes, and more arrivals than the completion queue holds: polls
/// lapse, say so, and once watched again miss nothing.
#[test]
fn overflow_loses_nothing() {
    const SLOTS: u32 = 100;
    let mut poller = small_ring();
    let mut pairs: Vec<_> = (0..SLOTS).map(|_| pair()).collect();
    for (slot, (ours, _)) in (0..).zip(&pairs) {
        poller.watch(connection(slot, 0), ours.as_fd()).unwrap();
    }
    let mut lapsed = 0;
    for _ in 0..10 {
        // Nobody looks in between, so that these are too many for the queue.
        for (_, other) in &mut pairs {
            other.write_all(&[0]).unwrap();
        }
        let (mut left, mut polls) = (SLOTS, 0);
        while left > 0 {
            for report in now(&mut poller) {
                let Source::Connection(ConnectionId { slot, .. }) = report.source else {
                    panic!("{report:?}")
                };
                let (ours, _) = &pairs[slot as usize];
                match report.what {
                    What::Ready(_) => left -= u32::from(drain(ours).0 == 1),
                    What::Lapsed => {
                        lapsed += 1;
                        poller.watch(report.source, ours.as_fd()).unwrap();
                    }
                    What::Failed(_) => panic!("{report:?}"),
                }
            }
            polls += 1;
            assert!(polls < POLLS_MAX, "{left} arrivals were never reported");
        }
    }
    assert!(lapsed > 0, "the queue did not overflow: nothing was tested");
}

/// What cannot be polled is said to have failed, or refused at once.
#[test]
fn unwatchable_descriptor_fails() {
    let path = OpenOptions::new().read(true).custom_flags(libc::O_PATH).open("/").unwrap();
    let [mut ring, mut epoll] = both();
    let source = connection(1, 1);
    ring.watch(source, path.as_fd()).unwrap();
    assert_eq!(now(&mut ring), [Report { source, what: What::Failed(libc::EBADF) }]);
    assert_eq!(epoll.watch(source, path.as_fd()).unwrap_err().raw_os_error(), Some(libc::EBADF));
}

/// Another thread wakes a core that sleeps, again and again, although nobody reads the counter; and without
/// that a sleep ends by itself.
#[test]
fn eventfd_wakes_each_time() {
    for mut poller in both() {
        let event = Arc::new(EventFd::new().unwrap());
        poller.watch(Source::Wake, event.as_fd()).unwrap();
        for _ in 0..100 {
            let signal = Arc::clone(&event);
            let other = thread::Builder::new().spawn(move || signal.signal()).unwrap();
            assert_eq!(readable(&next(&mut poller), Source::Wake), (1, 0));
            other.join().unwrap();
        }
        let mut reports = Vec::new();
        poller.poll(Duration::from_millis(1), &mut reports);
        assert!(reports.is_empty());
    }
}

/// Every name survives the kernel's 64 bits.
#[test]
fn tokens_name_their_source() {
    for source in [
        Source::Wake,
        Source::Listener(0),
        Source::Listener(u16::MAX),
        connection(0, 0),
        connection((1 << 29) - 1, u32::MAX),
    ] {
        assert_eq!(Token::of(source).source(), Some(source));
    }
    let id = ConnectionId { slot: 1, generation: 2 };
    assert_eq!(Token::of_writable(id).source(), Some(Source::Connection(id)));
    assert_ne!(Token::of_writable(id), Token::of(Source::Connection(id)));
    assert_eq!(Token::NOBODY.source(), None);
}
