//! Until when the process that served a data directory last was there: so the next one knows since when its clients
//! are away, and time in which there is no process counts for session expiry and will delay.
//!
//! ```text
//! <data>/alive                           the boot of the machine, and milliseconds since 1970, written again and again
//! ```
//!
//! Nothing waits for a disk: what a process has written stays readable after its end, as long as the machine runs.
//! What a former boot wrote may be older than the truth, and is not believed; sessions would end before their time.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::thread;
use std::time::Duration;

use broker_core::time::Wall;

use crate::clock::Clock;

const NAME: &str = "alive";

/// Changes with each boot: `random(4)`.
const BOOT: &str = "/proc/sys/kernel/random/boot_id";

/// How often it is written.
const INTERVAL: Duration = Duration::from_millis(500);

/// A process may have lived so much longer than it says, milliseconds: some intervals, should its thread or the file
/// system be slow.
const GRACE_MS: u64 = 2_000;

/// When the last process was gone, at the latest; now, if nobody knows.
pub(super) fn ended(data: &Path, now: Wall) -> Wall {
    let text = fs::read_to_string(data.join(NAME)).unwrap_or_default();
    boot().ok().and_then(|boot| parse(&text, &boot)).map_or(now, |at| at.min(now))
}

/// Says from now on that this process is there.
///
/// # Errors
/// The file cannot be written, or there is no thread for it.
pub(super) fn start(data: &Path) -> io::Result<()> {
    let (path, boot) = (data.join(NAME), boot()?);
    let file = File::options().create(true).truncate(false).write(true).open(&path)?;
    say(&file, &boot)?;
    let run = move || {
        while let Ok(()) = say(&file, &boot) {
            thread::park_timeout(INTERVAL);
        }
        // What it says would soon be wrong.
        let _ = fs::remove_file(&path);
        tracing::warn!("{} cannot be written: the next start will count from itself", path.display());
    };
    thread::Builder::new().name(NAME.to_owned()).spawn(run).map(drop)
}

fn boot() -> io::Result<String> {
    Ok(fs::read_to_string(BOOT)?.trim().to_owned())
}

/// Always as long as before, so that it needs no space.
fn say(file: &File, boot: &str) -> io::Result<()> {
    file.write_all_at(format!("{boot} {:020}\n", Clock::wall().0).as_bytes(), 0)
}

/// When a process that wrote this was gone, at the latest; None unless it was of this boot.
fn parse(text: &str, boot: &str) -> Option<Wall> {
    let at: u64 = text.strip_suffix('\n')?.strip_prefix(boot)?.strip_prefix(' ')?.parse().ok()?;
    Some(Wall(at.checked_add(GRACE_MS)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is of this boot and whole is believed, and nothing else; nobody ends in the future.
    #[test]
    fn what_is_believed() {
        assert_eq!(parse("a-b 00000000000000001000\n", "a-b"), Some(Wall(3_000)));
        for text in
            ["", "a-b", "a-b 1000", "a-c 1000\n", "a-bc 1000\n", "a-b -1\n", "a-b 18446744073709551615\n"]
        {
            assert_eq!(parse(text, "a-b"), None, "{text:?}");
        }
        let data = tempfile::TempDir::new().expect("a folder");
        assert_eq!(ended(data.path(), Wall(7)), Wall(7));
        let before = Clock::wall().0;
        start(data.path()).expect("the folder can be written to");
        let ended_at = ended(data.path(), Wall(u64::MAX)).0;
        assert!((before + GRACE_MS..=Clock::wall().0 + GRACE_MS).contains(&ended_at));
        assert_eq!(ended(data.path(), Wall(before)), Wall(before));
    }
}
