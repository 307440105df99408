//! The border between a core and the disk of its logs.

use std::sync::Arc;

use broker_core::Core;
use broker_core::config::Config;
use broker_core::identity::CoreId;
use broker_core::input::{Input, Outputs};
use broker_core::storage::{LogConfig, StorageAnswer, StorageRequest, StoredLog};
use broker_core::time::{Mono, Now, Wall};
use range::catalog::Catalog;
use wal::{ClusterId, Completion, LogId, NodeId, Request};

const NOW: Now = Now { monotonic: Mono(1_000_000), wall: Wall(1_700_000_000_000) };

/// A core with one empty log.
fn core() -> Core {
    let mut range = 0;
    let catalog = Catalog::bootstrap(1, || {
        range += 1;
        range
    });
    let log = StoredLog::new(&LogConfig::new(ClusterId(1), NodeId(2), 3), &catalog, LogId(0));
    Core::open(Arc::new(Config::default()), CoreId(0), 1, 2, vec![log], NOW.wall, NOW)
}

fn turn(core: &mut Core) -> Vec<StorageRequest> {
    let mut out = Outputs::new(1);
    core.on_timeout(NOW, &mut out);
    core.end_turn(NOW, &mut out);
    out.storage
}

/// What a log refuses for want of a segment made its core turn without rest until there was one. Method: the disk
/// answers nothing, then each request.
#[test]
fn a_core_that_waits_for_its_disk_sleeps() {
    let mut core = core();
    let mut requests = turn(&mut core);
    assert!(requests.iter().any(|it| matches!(it, StorageRequest::Log(_, Request::AllocateSegment { .. }))));
    let more: usize = (0..4).map(|_| turn(&mut core).len()).sum();
    assert_eq!(more, 0, "each thing is asked once, while the start comes to its end");
    assert_eq!(core.next_timeout(), None);
    for _ in 0..8 {
        for request in std::mem::take(&mut requests) {
            let StorageRequest::Log(log, request) = request else { continue };
            let completion = match request {
                Request::AllocateSegment { segment, .. } => Completion::SegmentReady(segment),
                Request::Flush(commit) => Completion::Flushed(commit.number, Ok(())),
                _ => continue,
            };
            let answer = StorageAnswer::Log(log, completion);
            core.on_input(NOW, Input::Storage(answer), &mut Outputs::new(1));
        }
        requests = turn(&mut core);
    }
    assert!(!core.is_poisoned());
    assert_eq!(core.next_timeout(), None);
}
