//! Which CPUs become cores: the inherited affinity mask, cut to the CPU quota of the control group, or
//! what `--cores` names. It pins nothing and starts nothing.

use std::fmt;
use std::fs;
use std::io;
use std::path::Path;
use std::str::FromStr;

use crate::sys;

/// CPUs as they are written on the command line: `0,2-5`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CpuList(pub(crate) Vec<usize>);

/// Why there are no cores to start.
#[derive(Debug)]
pub(crate) enum CoresError {
    /// Not a list of CPUs.
    Syntax(String),
    /// The same CPU twice.
    Twice(usize),
    /// A CPU that this process may not use, and those it may.
    Outside {
        /// The CPU asked for.
        cpu: usize,
        /// The inherited affinity mask.
        mask: Vec<usize>,
    },
    /// The affinity mask cannot be read.
    Mask(io::Error),
}

impl std::error::Error for CoresError {}

impl fmt::Display for CoresError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CoresError::Syntax(entry) => write!(f, "'{entry}' is not a CPU or a range such as 0-3"),
            CoresError::Twice(cpu) => write!(f, "CPU {cpu} is named twice"),
            CoresError::Outside { cpu, mask } => write!(
                f,
                "--cores: CPU {cpu} is outside the CPUs this process may use ({}); \
                 see taskset(1), and AllowedCPUs= or CPUAffinity= of its service",
                CpuList(mask.clone())
            ),
            CoresError::Mask(error) => write!(f, "cannot read the CPU affinity mask: {error}"),
        }
    }
}

impl FromStr for CpuList {
    type Err = CoresError;

    fn from_str(text: &str) -> Result<CpuList, CoresError> {
        let mut cpus = Vec::new();
        for entry in text.split(',').map(str::trim) {
            let syntax = || CoresError::Syntax(entry.to_owned());
            let cpu = |text: &str| text.trim().parse::<u16>().map(usize::from).map_err(|_| syntax());
            let (first, last) = match entry.split_once('-') {
                Some((first, last)) => (cpu(first)?, cpu(last)?),
                None => (cpu(entry)?, cpu(entry)?),
            };
            if first > last {
                return Err(syntax());
            }
            for cpu in first..=last {
                if cpus.contains(&cpu) {
                    return Err(CoresError::Twice(cpu));
                }
                cpus.push(cpu);
            }
        }
        Ok(CpuList(cpus))
    }
}

impl fmt::Display for CpuList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0.as_slice();
        while let [first, ..] = rest {
            let run = rest.iter().zip(*first..).take_while(|(cpu, expected)| *cpu == expected).count();
            let comma = if rest.len() == self.0.len() { "" } else { "," };
            match run {
                1 => write!(f, "{comma}{first}")?,
                _ => write!(f, "{comma}{first}-{}", first + run - 1)?,
            }
            rest = &rest[run..];
        }
        Ok(())
    }
}

/// The CPUs to start a core on each, in order.
pub(crate) fn choose(wanted: Option<&CpuList>) -> Result<CpuList, CoresError> {
    let mask = sys::affinity().map_err(CoresError::Mask)?;
    let membership = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    select(wanted, mask, quota(Path::new("/sys/fs/cgroup"), &membership))
}

/// What [`choose`] decides, from what it has read. A list on the command line overrules the quota: the
/// user may know better, and the mask is the one thing that nobody can overrule.
fn select(
    wanted: Option<&CpuList>,
    mut mask: Vec<usize>,
    quota: Option<usize>,
) -> Result<CpuList, CoresError> {
    if let Some(CpuList(wanted)) = wanted {
        return match wanted.iter().find(|cpu| !mask.contains(cpu)) {
            Some(&cpu) => Err(CoresError::Outside { cpu, mask }),
            None => Ok(CpuList(wanted.clone())),
        };
    }
    mask.truncate(quota.unwrap_or(usize::MAX).max(1));
    Ok(CpuList(mask))
}

/// CPUs' worth of time that the control group of this process and its ancestors allow, rounded up; `None`
/// without a limit. `membership` is the text of `/proc/self/cgroup`: lines `id:controllers:path`, where
/// version 2 has id 0 and no controllers.
fn quota(root: &Path, membership: &str) -> Option<usize> {
    let limits = membership.lines().flat_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next().unwrap_or_default(), fields.next().unwrap_or_default());
        let (root, read): (_, fn(&Path) -> Option<usize>) = match controllers {
            "" => (root.to_owned(), quota_v2),
            list if list.split(',').any(|name| name == "cpu") => {
                // Mounted under the controllers' names, which are often a link to `cpu,cpuacct`.
                let named = root.join(list);
                (if named.is_dir() { named } else { root.join("cpu") }, quota_v1)
            }
            _ => return Vec::new(),
        };
        // In a container the path is that of the host and may not exist; the ancestors end at the root.
        let relative = Path::new(path.trim_start_matches('/'));
        relative.ancestors().filter_map(|ancestor| read(&root.join(ancestor))).collect()
    });
    limits.min()
}

/// `cpu.max` of version 2: `<quota or "max"> <period>` in microseconds.
fn quota_v2(group: &Path) -> Option<usize> {
    let text = fs::read_to_string(group.join("cpu.max")).ok()?;
    let mut fields = text.split_ascii_whitespace();
    cpus(fields.next()?.parse().ok()?, fields.next()?.parse().ok()?)
}

/// `cpu.cfs_quota_us` and `cpu.cfs_period_us` of version 1; a quota of −1 is none.
fn quota_v1(group: &Path) -> Option<usize> {
    let value = |file: &str| fs::read_to_string(group.join(file)).ok()?.trim().parse::<i64>().ok();
    cpus(value("cpu.cfs_quota_us")?, value("cpu.cfs_period_us")?)
}

fn cpus(quota_us: i64, period_us: i64) -> Option<usize> {
    let (quota_us, period_us) = (u64::try_from(quota_us).ok()?, u64::try_from(period_us).ok()?);
    if period_us == 0 { None } else { usize::try_from(quota_us.div_ceil(period_us)).ok() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(text: &str) -> CpuList {
        text.parse().unwrap()
    }

    /// Lists are read as people write them, and written the short way.
    #[test]
    fn lists_are_read_and_written() {
        assert_eq!(list("0"), CpuList(vec![0]));
        assert_eq!(list("0,2-4, 7").to_string(), "0,2-4,7");
        assert_eq!(list("3,1,2").to_string(), "3,1-2");
        for wrong in ["", "a", "1-", "-1", "3-1", "1,,2", "1-2-3", "99999999"] {
            assert!(matches!(wrong.parse::<CpuList>(), Err(CoresError::Syntax(_))), "{wrong}");
        }
        assert!(matches!("1,0-2".parse::<CpuList>(), Err(CoresError::Twice(1))));
    }

    /// The mask bounds what is asked for, the quota what is taken unasked.
    #[test]
    fn mask_and_quota_bound_the_cores() {
        let mask = || vec![1, 2, 3, 5];
        assert_eq!(select(None, mask(), None).unwrap(), list("1-3,5"));
        assert_eq!(select(None, mask(), Some(2)).unwrap(), list("1-2"));
        assert_eq!(select(None, mask(), Some(9)).unwrap(), list("1-3,5"));
        assert_eq!(select(Some(&list("5,1,2")), mask(), Some(2)).unwrap(), list("5,1-2"));
        let error = select(Some(&list("2,4")), mask(), None).unwrap_err();
        assert!(error.to_string().contains("CPU 4 is outside"), "{error}");
        assert!(error.to_string().contains("1-3,5"), "{error}");
    }

    /// The smallest limit of the group and its ancestors counts, in both versions, rounded up.
    #[test]
    fn quota_of_both_versions() {
        let root = std::env::temp_dir().join(format!("hermod-cgroup-{}", std::process::id()));
        let write = |path: &str, text: &str| {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("a/cpu.max", "250000 100000\n");
        write("a/b/cpu.max", "max 100000\n");
        write("free/cpu.max", "max 100000\n");
        write("cpu,cpuacct/c/cpu.cfs_quota_us", "50000\n");
        write("cpu,cpuacct/c/cpu.cfs_period_us", "100000\n");
        write("cpu,cpuacct/cpu.cfs_quota_us", "-1\n");
        write("cpu,cpuacct/cpu.cfs_period_us", "100000\n");
        assert_eq!(quota(&root, "0::/a/b\n"), Some(3));
        assert_eq!(quota(&root, "0::/free\n"), None);
        assert_eq!(quota(&root, "0::/\n"), None);
        assert_eq!(quota(&root, "4:memory:/c\n3:cpu,cpuacct:/c\n"), Some(1));
        assert_eq!(quota(&root, "3:cpu,cpuacct:/not/here\n"), None);
        assert_eq!(quota(&root, ""), None);
        fs::remove_dir_all(&root).unwrap();
    }
}
