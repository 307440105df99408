//! The checks, one file per area. Each takes the host's facts and what is wanted, adds its findings, and
//! does no I/O.

mod disk;
mod interfaces;
mod limits;
mod memory;
mod processors;
mod ring;
mod sockets;
mod sysctl;
mod tcp_memory;

pub(crate) use disk::check as disk;
pub(crate) use interfaces::check as interfaces;
pub(crate) use limits::check as limits;
pub(crate) use memory::check as memory;
pub(crate) use processors::check as processors;
pub(crate) use ring::check as ring;
pub(crate) use sockets::check as sockets;
pub(crate) use tcp_memory::check as tcp_memory;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// Bytes in the largest binary unit of which there is at least one.
fn bytes(bytes: u64) -> String {
    match bytes {
        GIB.. => format!("{:.1} GiB", bytes as f64 / GIB as f64),
        MIB.. => format!("{:.1} MiB", bytes as f64 / MIB as f64),
        KIB.. => format!("{:.1} KiB", bytes as f64 / KIB as f64),
        _ => format!("{bytes} B"),
    }
}

/// The number, and the noun in the form that goes with it.
fn counted(count: impl Into<u64>, noun: &str) -> String {
    match count.into() {
        1 => format!("1 {noun}"),
        many => format!("{many} {noun}s"),
    }
}

/// Adds a directive to the broker's unit, in a file of its own below the unit's drop-ins.
fn unit_remedy(file: &str, directive: &str) -> String {
    let directory = "/etc/systemd/system/hermod.service.d";
    format!(
        "mkdir -p {directory} && printf '[Service]\\n{directive}\\n' > {directory}/{file}.conf \
         && systemctl daemon-reload && systemctl restart hermod"
    )
}
