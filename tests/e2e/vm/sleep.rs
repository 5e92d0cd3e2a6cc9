//! The host sleeps, as far as its guest can tell: the monitor is stopped and goes on. Afterwards the
//! guest's clock says what the host's does.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::process::Signal;

use super::host::vm;
use crate::support::{Daemon, eventually};

const ASLEEP: Duration = Duration::from_secs(30);
/// Of the second that is printed, of a slow machine, and of what is noticed every two seconds.
const APART: u64 = 5;

pub fn the_clock_is_right_after_a_sleep_of_the_host() {
    let mut command = vm();
    command.args(["--", "sh", "-c", "while :; do date +%s; sleep 1; done"]);
    let mut guest = Daemon::spawn("osxfs vm run", command, super::LIMIT);
    let lines = || guest.stdout.all().len();
    eventually("its clock is told", super::LIMIT, || lines() >= 3);
    guest.signal(Signal::STOP);
    std::thread::sleep(ASLEEP);
    let before = lines();
    guest.signal(Signal::CONT);
    eventually("it goes on", super::LIMIT, || lines() > before + 2);
    let right = || {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a time").as_secs();
        let said = guest.stdout.all().last().and_then(|line| line.parse::<u64>().ok());
        said.is_some_and(|said| said.abs_diff(now) <= APART)
    };
    eventually("the guest's clock is the host's", super::LIMIT, right);
    guest.signal(Signal::TERM);
    assert!(guest.wait(super::LIMIT).is_some(), "it ends");
}
