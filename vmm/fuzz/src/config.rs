//! Command lines. What is accepted has passed every check, so it holds every limit; what is refused
//! says why in one line.

use vmm::config::vfkit::Devices;
use vmm::config::xhyve::Xhyve;
use vmm::{ConfigError, Console, Disk, MemorySize, Net, Share, VmConfig};

fn text(data: &[u8]) -> Option<&str> {
    std::str::from_utf8(data).ok()
}

fn is_told(error: &ConfigError) {
    let message = error.to_string();
    assert!(!message.is_empty());
}

/// hyperkit's and xhyve's.
pub fn xhyve(data: &[u8]) {
    let Some(text) = text(data) else { return };
    match Xhyve::parse(text) {
        Ok(xhyve) => {
            if let Err(error) = xhyve.config.validate() {
                is_told(&error);
            }
        }
        Err(error) => is_told(&error),
    }
}

/// vfkit's devices.
pub fn vfkit(data: &[u8]) {
    let Some(text) = text(data) else { return };
    if let Err(error) = Devices::parse(text.lines()) {
        is_told(&error);
    }
}

/// Our own.
pub fn options(data: &[u8]) {
    let Some(text) = text(data) else { return };
    let mut config = VmConfig::new("kernel");
    for line in text.lines() {
        config.shares.extend(line.parse::<Share>().inspect_err(is_told));
        config.disks.extend(line.parse::<Disk>().inspect_err(is_told));
        config.net = line.parse::<Net>().inspect_err(is_told).ok().or(config.net);
        config.console = line.parse::<Console>().inspect_err(is_told).unwrap_or_default();
        config.memory = line.parse::<MemorySize>().inspect_err(is_told).unwrap_or(config.memory);
    }
    _ = config.validate().inspect_err(is_told);
}
