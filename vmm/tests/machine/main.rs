//! Small bare guests on the host's real hypervisor: what makes a processor leave the guest, interrupts,
//! notifications, several processors, and how all of it is stopped. They need less than a kernel does,
//! so they run also where none boots.
//!
//! Where the host has no KVM, or gives no right to it, a test says so and ends.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

mod exits;
mod guest;
mod interrupts;
mod whole;
