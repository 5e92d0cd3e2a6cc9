//! How often a virtio device has interrupted this guest.

use std::fs;

use anyhow::{Context, Result};

const DEVICES: &str = "/sys/bus/virtio/devices";

/// Up to now, of the device that is the `rank`th of its driver's, in the order of the machine.
pub fn interrupts(driver: &str, rank: usize) -> Result<f64> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(DEVICES).context(DEVICES)? {
        let entry = entry?;
        // A device that no driver has taken has no such link.
        let link = fs::read_link(entry.path().join("driver")).unwrap_or_default();
        if link.ends_with(driver) {
            let name = entry.file_name().to_string_lossy().into_owned();
            numbers.push(name.trim_start_matches("virtio").parse::<u32>()?);
        }
    }
    numbers.sort_unstable();
    let number = numbers.get(rank).with_context(|| format!("the guest has no {driver} {rank}"))?;
    Ok(count(&fs::read_to_string("/proc/interrupts")?, *number))
}

/// Of all processors and queues: a line is `25:  0  276  PCI-MSI 16385-edge  virtio0-virtqueues`.
fn count(table: &str, device: u32) -> f64 {
    let begins = format!("virtio{device}-");
    let lines = table.lines().filter(|line| {
        line.split_whitespace().last().is_some_and(|name| name.starts_with(&begins))
    });
    let counts = lines.flat_map(|line| {
        line.split_whitespace().skip(1).map_while(|word| word.parse::<f64>().ok())
    });
    counts.sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interrupts_of_all_queues_on_all_processors_are_counted() {
        let table = "      CPU0  CPU1\n 25:  3  276  PCI-MSI 16385-edge  virtio0-virtqueues\n \
            27:  1  0  PCI-MSI 32769-edge  virtio1-hiprio\n \
            28:  4  5  PCI-MSI 32770-edge  virtio1-requests.0\n \
            29:  9  9  PCI-MSI 1-edge  virtio10-req.0\nNMI:  7  7  Non-maskable interrupts\n";
        for (device, found) in [(0, 279.0), (1, 10.0), (10, 18.0), (2, 0.0)] {
            assert_eq!(count(table, device), found, "virtio{device}");
        }
    }
}
