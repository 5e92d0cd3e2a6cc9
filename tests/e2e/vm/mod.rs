//! `osxfs vm run` for real: a stock kernel with two processors in our monitor, on a stock kernel with
//! KVM, on an emulated processor. So it runs on any machine with QEMU.
//!
//! ```text
//! this program ─▶ lab: QEMU, the host's kernel
//!                   └─▶ this program again ─▶ host: osxfs vm run, the guest's kernel
//!                                               └─▶ and once more, where a test needs it ─▶ guest
//! ```
//!
//! | module | shows |
//! | --- | --- |
//! | [`commands`] | output, input, exit status, signals; power-off and reboot; what cannot be booted |
//! | [`consoles`] | the serial port and hvc0, to a file and a pseudo terminal |
//! | [`foreign`] | command lines of hyperkit and vfkit |
//! | [`network`] | an address by DHCP, and services of the host |
//! | [`sleep`] | the clock is right after the host has slept |
//! | [`disks`] | what a guest wrote to a qcow2 disk is there after a restart, and the image is whole |
//! | [`sockets`] | many connections at once, in both directions, with half-closes |
//! | [`files`] | many files, whole; programs that judge file systems find no fault |
//! | [`other`] | the vsock device under another monitor |
//! | [`services`] | the agent as a service of systemd and of OpenRC |
//! | [`events`] | the table of events, with the watcher in the guest |

mod commands;
mod consoles;
mod disks;
mod events;
mod files;
mod foreign;
mod guest;
mod host;
mod lab;
mod network;
mod other;
mod services;
mod sleep;
mod sockets;

use std::time::Duration;

/// How long a host may take, however slow the machine is.
const LIMIT: Duration = Duration::from_secs(900);
/// The same for one that does what takes minutes.
const SLOW_LIMIT: Duration = Duration::from_secs(3600);

/// Each of these functions as a test in a host of its own.
macro_rules! in_hosts {
    ($($module:ident: $check:ident),+ $(,)?; $why:literal) => { $(
        #[test]
        #[ignore = $why]
        fn $check() {
            in_hosts!(@run $module, $check, SLOW_LIMIT);
        }
    )+ };
    (@run $module:ident, $check:ident, $limit:ident) => {
        let name = concat!(module_path!(), "::", stringify!($check));
        let (_, name) = name.split_once("::").expect("the name of this program before it");
        $crate::vm::lab::in_a_host(name, $crate::vm::$limit, $crate::vm::$module::$check);
    };
    ($($module:ident: $check:ident),+ $(,)?) => { $(
        #[test]
        fn $check() {
            in_hosts!(@run $module, $check, LIMIT);
        }
    )+ };
}

in_hosts! {
    commands: commands_end_as_on_the_host,
    disks: a_disk_keeps_what_was_written,
    sockets: many_connections_carry_their_data,
    events: a_watcher_in_the_guest_hears_what_a_local_one_hears,
}

/// What takes minutes, emulated twice: only `cargo xtask test vm` runs it.
mod slow {
    in_hosts! {
        commands: a_machine_reboots_and_powers_off,
        consoles: consoles_come_to_a_file_and_to_a_pseudo_terminal,
        foreign: command_lines_of_others_mean_the_same,
        network: a_network_card_has_an_address_and_reaches_the_host,
        sleep: the_clock_is_right_after_a_sleep_of_the_host,
        files: many_files_arrive_whole,
        files: judges_find_no_fault;
        "slow: cargo xtask test vm"
    }
}
