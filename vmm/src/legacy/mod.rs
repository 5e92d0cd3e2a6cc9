//! Devices that are older than virtio, as few as a kernel needs: a serial port to speak before it has
//! drivers, and registers to end by.

mod power;
mod serial;

pub use power::{Power, SLEEP_TYPE_OFF, Wish};
pub use serial::{Input, Serial};
