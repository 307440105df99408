//! The disk under the data directory: mount, room, device, and how long a flush takes.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::tree::Tree;
use super::{Device, Disk, Flush, system_calls};

pub(super) fn read(proc: &Tree, sys: &Tree, path: &Path) -> Disk {
    let exists = path.is_dir();
    let mut disk = Disk { path: path.to_owned(), exists, ..Disk::default() };
    let Some(present) = nearest_directory(path) else { return disk };
    if let Some(mount) = proc.text("self/mountinfo").and_then(|mounts| Mount::of(&mounts, &present)) {
        disk.device = device(sys, &mount);
        disk.file_system = mount.file_system;
        disk.options = mount.options;
    }
    disk.free_bytes = system_calls::free_bytes(&present).ok();
    if exists {
        match time_flushes(&present) {
            Ok(flush) => disk.flush = Some(flush),
            Err(error) => disk.write_error = Some(error.to_string()),
        }
    }
    disk
}

/// The path itself or the closest parent that exists, without symbolic links.
fn nearest_directory(path: &Path) -> Option<PathBuf> {
    let path = std::path::absolute(path).ok()?;
    path.ancestors().find_map(|path| path.canonicalize().ok().filter(|path| path.is_dir()))
}

/// One line of `/proc/self/mountinfo`.
struct Mount {
    /// `major:minor` of the device; major 0 where the file system has no single one.
    device: String,
    file_system: String,
    source: String,
    options: Vec<String>,
}

impl Mount {
    /// The mount that holds `path`: the one with the longest mount point, of equals the latest, which lies
    /// on top.
    fn of(mounts: &str, path: &Path) -> Option<Mount> {
        let candidates = mounts.lines().filter_map(|line| {
            let (left, right) = line.split_once(" - ")?;
            let left: Vec<&str> = left.split(' ').collect();
            let right: Vec<&str> = right.split(' ').collect();
            let [_, _, device, _, point, options, ..] = left[..] else { return None };
            let [file_system, source, ref rest @ ..] = right[..] else { return None };
            let point = PathBuf::from(unescape(point));
            let all = options.split(',').chain(rest.iter().flat_map(|options| options.split(',')));
            path.starts_with(&point).then(|| {
                let mount = Mount {
                    device: device.to_owned(),
                    file_system: file_system.to_owned(),
                    source: unescape(source),
                    options: all.map(str::to_owned).collect(),
                };
                (point.as_os_str().len(), mount)
            })
        });
        candidates.max_by_key(|(length, _)| *length).map(|(_, mount)| mount)
    }
}

/// The kernel writes blanks in paths as `\040` and the like.
fn unescape(text: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(text.to_owned(), |text, (escaped, plain)| text.replace(escaped, plain))
}

/// The queue of the mount's device; of the whole disk where the mount is a partition, which has none.
fn device(sys: &Tree, mount: &Mount) -> Option<Device> {
    let by_number = sys.at("dev/block").join(&mount.device);
    let by_source = sys.at("class/block").join(Path::new(&mount.source).file_name()?);
    let directory = by_number.canonicalize().or_else(|_| by_source.canonicalize()).ok()?;
    let whole = if directory.join("partition").exists() { directory.parent()? } else { &directory };
    let queue = Tree(whole.join("queue"));
    Some(Device {
        name: whole.file_name()?.to_str()?.to_owned(),
        scheduler: queue.choice("scheduler"),
        write_cache: queue.text("write_cache"),
        rotational: queue.number("rotational") == Some(1),
    })
}

/// Bounds on the measurement: whichever comes first.
const FLUSHES_MAX: u32 = 64;
const FLUSHING_MAX: Duration = Duration::from_secs(2);

const BLOCK: [u8; 4096] = [0xa5; 4096];
/// Blocks of the file, written in turn.
const BLOCKS: u64 = 16;

/// Times what a commit costs: 4 KiB into a file that already has its blocks, as the log's segments do, and
/// one `fdatasync`.
#[expect(clippy::disallowed_methods, reason = "times the disk, on a thread that is no core")]
fn time_flushes(directory: &Path) -> io::Result<Flush> {
    let scratch = Scratch::create(directory)?;
    for block in 0..BLOCKS {
        scratch.file.write_all_at(&BLOCK, block * BLOCK.len() as u64)?;
    }
    scratch.file.sync_all()?;
    let start = Instant::now();
    let mut times = Vec::new();
    for sample in 0..FLUSHES_MAX {
        let begin = Instant::now();
        scratch.file.write_all_at(&BLOCK, u64::from(sample) % BLOCKS * BLOCK.len() as u64)?;
        scratch.file.sync_data()?;
        times.push(begin.elapsed());
        if start.elapsed() > FLUSHING_MAX {
            break;
        }
    }
    times.sort_unstable();
    let microseconds = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    Ok(Flush {
        samples: times.len() as u32,
        median_us: microseconds(times[times.len() / 2]),
        longest_us: microseconds(times[times.len() - 1]),
    })
}

/// A file that is gone when the measurement ends, however it ends.
struct Scratch {
    file: File,
    path: PathBuf,
}

impl Scratch {
    fn create(directory: &Path) -> io::Result<Self> {
        let path = directory.join(format!(".hermod-doctor-{}", std::process::id()));
        let file = OpenOptions::new().write(true).create_new(true).open(&path)?;
        Ok(Self { file, path })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Nothing to be done about a failure: the report has the error that came first.
        let _ = fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "27 1 254:0 / / rw,relatime - ext4 /dev/vda rw,discard\n\
        30 27 0:30 / /var/lib rw,noatime - btrfs /dev/nvme0n1p2 rw,nobarrier\n\
        31 27 0:31 / /mnt/a\\040b rw - tmpfs none rw\n\
        32 27 0:32 / /var/lib rw - xfs /dev/sdb rw\n";

    /// Goal: the mount a directory is really on. Method: nested, escaped, shadowed and sibling mount
    /// points.
    #[test]
    fn the_longest_and_latest_mount_holds_a_path() {
        let of = |path: &str| Mount::of(MOUNTS, Path::new(path)).unwrap().file_system;
        assert_eq!(of("/var/lib/hermod"), "xfs");
        assert_eq!(of("/var/library"), "ext4");
        assert_eq!(of("/mnt/a b/data"), "tmpfs");
        let root = Mount::of(MOUNTS, Path::new("/")).unwrap();
        assert_eq!((root.device.as_str(), root.source.as_str()), ("254:0", "/dev/vda"));
        assert_eq!(root.options, ["rw", "relatime", "rw", "discard"]);
    }
}
