//! Network interfaces: their queues, the interrupts of those, and where both go.

use std::path::Path;

use super::tree::{Tree, processor_list};
use super::{Interface, Interrupt};

/// Interfaces with a device behind them that are not down: bridges, tunnels and the loopback have no
/// queues of their own.
pub(super) fn interfaces(proc: &Tree, sys: &Tree) -> Vec<Interface> {
    let interrupts = proc.text("interrupts").unwrap_or_default();
    sys.names("class/net")
        .into_iter()
        .filter(|name| sys.at("class/net").join(name).join("device").exists())
        .filter(|name| {
            sys.text(Path::new("class/net").join(name).join("operstate")).as_deref() != Some("down")
        })
        .map(|name| interface(proc, sys, name, &interrupts))
        .collect()
}

fn interface(proc: &Tree, sys: &Tree, name: String, interrupts: &str) -> Interface {
    let directory = Path::new("class/net").join(&name);
    let queues = sys.names(directory.join("queues"));
    let count = |prefix: &str| queues.iter().filter(|queue| queue.starts_with(prefix)).count() as u32;
    let spread = queues.iter().filter(|queue| {
        let mask = sys.text(directory.join("queues").join(queue).join("rps_cpus"));
        mask.is_some_and(|mask| mask.contains(|digit| !matches!(digit, '0' | ',')))
    });
    let device = sys.at(directory.join("device")).canonicalize().ok();
    let device = device.as_deref().and_then(Path::file_name).and_then(|device| device.to_str());
    Interface {
        receive_queues: count("rx-"),
        transmit_queues: count("tx-"),
        spread_queues: spread.count() as u32,
        interrupts: queue_interrupts(interrupts, &name, device.unwrap_or(&name))
            .map(|number| Interrupt { number, processors: interrupt_processors(proc, number) })
            .collect(),
        numa_node: sys.number(directory.join("device/numa_node")).and_then(|node| node.try_into().ok()),
        name,
    }
}

/// Numbers of the interrupts whose action carries the interface's name (`eth0-TxRx-0`) or the device's
/// (`virtio2-input.0`, `mlx5_comp0@pci:0000:3b:00.0`), without those that carry no packets.
fn queue_interrupts<'a>(
    interrupts: &'a str,
    name: &'a str,
    device: &'a str,
) -> impl Iterator<Item = u32> + 'a {
    const NOT_QUEUES: [&str; 6] = ["config", "control", "async", "mgmt", "misc", "event"];
    interrupts.lines().filter_map(move |line| {
        let (number, rest) = line.split_once(':')?;
        let number = number.trim().parse().ok()?;
        let mut actions = rest.split_whitespace().skip_while(|word| word.parse::<u64>().is_ok());
        let is_queue = actions.any(|action| {
            (contains_name(action, name) || contains_name(action, device))
                && !NOT_QUEUES.iter().any(|other| action.contains(other))
        });
        is_queue.then_some(number)
    })
}

/// Whether `text` contains `name` as a whole, so that eth1 is not found in eth10.
fn contains_name(text: &str, name: &str) -> bool {
    text.match_indices(name).any(|(start, _)| {
        let before = text[..start].chars().next_back();
        let after = text[start + name.len()..].chars().next();
        !before.is_some_and(char::is_alphanumeric) && !after.is_some_and(char::is_alphanumeric)
    })
}

/// Where an interrupt goes now; where it may go, on kernels that do not tell.
fn interrupt_processors(proc: &Tree, number: u32) -> Vec<u16> {
    let directory = Path::new("irq").join(number.to_string());
    let effective = proc.text(directory.join("effective_affinity_list")).filter(|list| !list.is_empty());
    effective
        .or_else(|| proc.text(directory.join("smp_affinity_list")))
        .map(|list| processor_list(&list))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: find the interrupts of an interface whatever its driver calls them. Method: lines of four
    /// drivers.
    #[test]
    fn interrupts_by_interface_or_device() {
        let text = "           CPU0       CPU1\n\
            30:          1          0  PCI-MSIX-0000:00:03.0   0-edge      virtio2-config\n\
            31:          1          0  PCI-MSIX-0000:00:03.0   1-edge      virtio2-input.0\n\
            32:          0          9  PCI-MSIX-0000:00:03.0   2-edge      virtio2-output.0\n\
            40:          0          9  PCI-MSI 1-edge      eth1-TxRx-0\n\
            41:          0          9  PCI-MSI 1-edge      i40e-eth10-TxRx-0\n\
            50:          0          9  IR-PCI-MSI 1-edge      mlx5_comp0@pci:0000:3b:00.0\n\
            51:          0          9  IR-PCI-MSI 1-edge      mlx5_async0@pci:0000:3b:00.0\n\
            NMI:         0          0   Non-maskable interrupts\n";
        let numbers = |name, device| queue_interrupts(text, name, device).collect::<Vec<_>>();
        assert_eq!(numbers("eth0", "virtio2"), [31, 32]);
        assert_eq!(numbers("eth1", "0000:01:00.0"), [40]);
        assert_eq!(numbers("eth10", "0000:02:00.0"), [41]);
        assert_eq!(numbers("eth2", "0000:3b:00.0"), [50]);
    }
}
