//! io_uring: whether this process gets a ring, and if not, who refuses it.

use super::sysctl;
use crate::{Finding, Host, Level, RingProbe, Wanted};

/// COOP_TASKRUN: completions do not interrupt the thread.
const COOPERATIVE_SINCE: (u32, u32) = (5, 19);
/// SINGLE_ISSUER and DEFER_TASKRUN: completions wait until the thread asks for them.
const DEFERRED_SINCE: (u32, u32) = (6, 1);

pub(crate) fn check(host: &Host, _wanted: &Wanted, findings: &mut Vec<Finding>) {
    findings.extend(host.ring.map(|probe| ring(host, probe)));
    findings.extend(disabled(host));
    findings.extend(host.kernel.map(kernel));
}

fn ring(host: &Host, probe: RingProbe) -> Finding {
    const CHECK: &str = "io_uring";
    const WHY: &str = "Each core waits for its sockets and its peers in one ring. Without it the broker runs on \
                       epoll: it works, with more system calls.";
    match probe {
        RingProbe::Deferred => Finding::ok(CHECK, "a ring was set up", WHY),
        RingProbe::Plain => {
            let found = "a ring was set up, but not with DEFER_TASKRUN (Linux 6.1)";
            Finding::new(CHECK, Level::Advice, found, WHY)
        }
        RingProbe::Refused(errno) => {
            let (reason, remedy) = refusal(host, errno);
            let finding =
                Finding::new(CHECK, Level::Warning, format!("refused, error {errno}: {reason}"), WHY);
            remedy.into_iter().fold(finding, Finding::remedy)
        }
    }
}

/// Who refuses a ring with that errno, and what mends it.
fn refusal(host: &Host, errno: i32) -> (&'static str, Option<String>) {
    match errno {
        libc::ENOMEM => ("the limit on locked memory is used up, see there", None),
        libc::EPERM if is_disabled(host) => ("kernel.io_uring_disabled forbids it, see there", None),
        libc::EPERM => (
            "a seccomp filter forbids it, as those of container runtimes do",
            Some(
                "docker run --security-opt seccomp=unconfined hermod   # or a profile that allows \
                 io_uring_setup, io_uring_enter and io_uring_register"
                    .to_owned(),
            ),
        ),
        libc::ENOSYS => ("the kernel was built without it, or a seccomp filter hides it", None),
        _ => ("see io_uring_setup(2)", None),
    }
}

fn is_disabled(host: &Host) -> bool {
    host.sysctl("kernel.io_uring_disabled").is_some_and(|value| value != "0")
}

fn disabled(host: &Host) -> Option<Finding> {
    const CHECK: &str = "kernel.io_uring_disabled";
    const WHY: &str = "Hardened hosts forbid rings: 2 to everyone, 1 to all but CAP_SYS_ADMIN and the group \
                       of kernel.io_uring_group.";
    let value = host.sysctl(CHECK)?;
    let finding = match value {
        "0" => Finding::ok(CHECK, "0: everyone may", WHY),
        "1" => {
            let group = host.sysctl("kernel.io_uring_group").unwrap_or("-1");
            let found = format!("1: only CAP_SYS_ADMIN and group {group} may");
            // A ring was just set up, so this process is one of those that may; a service may not be.
            let works = matches!(host.ring, Some(RingProbe::Deferred | RingProbe::Plain));
            let level = if works { Level::Advice } else { Level::Warning };
            Finding::new(CHECK, level, found, WHY)
                .remedy("sysctl -w \"kernel.io_uring_group=$(getent group hermod | cut -d: -f3)\"")
        }
        other => Finding::new(CHECK, Level::Warning, format!("{other}: nobody may"), WHY)
            .remedy(sysctl::set(CHECK, 0)),
    };
    Some(finding)
}

fn kernel(version: (u32, u32)) -> Finding {
    const CHECK: &str = "kernel version";
    const WHY: &str = "Linux 6.1 lets one thread own a ring and defer its completions (SINGLE_ISSUER, \
                       DEFER_TASKRUN), 5.19 at least spares the interrupts (COOP_TASKRUN). The broker does \
                       without either where it must.";
    let (major, minor) = version;
    let found = format!("{major}.{minor}");
    if version >= DEFERRED_SINCE {
        Finding::ok(CHECK, found, WHY)
    } else if version >= COOPERATIVE_SINCE {
        Finding::new(CHECK, Level::Advice, format!("{found}, 6.1 or later wanted"), WHY)
    } else {
        Finding::new(CHECK, Level::Warning, format!("{found}, 5.19 at least wanted"), WHY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(ring: RingProbe, disabled: Option<&str>) -> Host {
        let mut host = Host { ring: Some(ring), ..Host::default() };
        host.sysctls.extend(disabled.map(|value| ("kernel.io_uring_disabled", value.to_owned())));
        host
    }

    fn findings(host: &Host) -> Vec<Finding> {
        let mut findings = Vec::new();
        check(host, &Wanted::new(1, 1), &mut findings);
        findings
    }

    /// Goal: name who refuses the ring. Method: each errno, with and without the sysctl.
    #[test]
    fn refusals_name_their_cause() {
        let found = |errno, disabled| findings(&host(RingProbe::Refused(errno), disabled)).remove(0).found;
        assert!(found(libc::EPERM, None).contains("seccomp"));
        assert!(found(libc::EPERM, Some("2")).contains("io_uring_disabled"));
        assert!(found(libc::ENOMEM, Some("0")).contains("locked memory"));
        assert!(found(libc::ENOSYS, None).contains("built without"));
    }

    /// Goal: the sysctl is judged by what it does to this process. Method: its three values.
    #[test]
    fn disabled_in_three_degrees() {
        let level = |ring, value| findings(&host(ring, Some(value)))[1].level;
        assert_eq!(level(RingProbe::Deferred, "0"), Level::Ok);
        assert_eq!(level(RingProbe::Deferred, "1"), Level::Advice);
        assert_eq!(level(RingProbe::Refused(libc::EPERM), "1"), Level::Warning);
        assert_eq!(level(RingProbe::Refused(libc::EPERM), "2"), Level::Warning);
    }

    /// Goal: the versions at which rings get better. Method: both sides of each.
    #[test]
    fn kernel_versions() {
        let level = |version| kernel(version).level;
        assert_eq!([level((6, 18)), level((6, 1))], [Level::Ok, Level::Ok]);
        assert_eq!([level((6, 0)), level((5, 19))], [Level::Advice, Level::Advice]);
        assert_eq!([level((5, 15)), level((4, 18))], [Level::Warning, Level::Warning]);
    }
}
