//! The guest's consoles: what the kernel says on the serial port and what is written to `hvc0` come to
//! one place; a shell on a pseudo terminal.

use std::fs::{self, File};
use std::io::{Read, Write};

use super::host::{Said, run, texts, vm};
use crate::support::{Daemon, Scratch};

pub fn consoles_come_to_a_file_and_to_a_pseudo_terminal() {
    let scratch = Scratch::new();
    let file = scratch.path().join("console");
    fs::write(&file, "what was there before\n").expect("a file");
    let mut command = vm();
    command.arg("--console").arg(&file);
    let script = "echo line-by-hvc > /dev/hvc0; echo line-by-serial > /dev/ttyS0; echo output";
    let output = run(command.args(["--", "sh", "-euc", script]), b"");
    assert_eq!(texts(&output).0, "output\n", "{output:?}");
    let console = fs::read_to_string(&file).expect("the console");
    for wanted in
        ["what was there before\n", "Linux version 6", "line-by-hvc\r\n", "line-by-serial\r\n"]
    {
        assert!(console.contains(wanted), "no {wanted:?} in\n{console}");
    }

    let mut command = vm();
    command.args(["--console", "pty"]);
    let mut guest = Daemon::spawn("osxfs vm run", command, super::LIMIT);
    let named = "osxfs: the guest's console is ";
    let line = guest.stderr.wait_for(super::LIMIT, |line| line.starts_with(named));
    let line = line.unwrap_or_else(|| panic!("no terminal is named\n{}", guest.report()));
    let path = line.trim_start_matches(named).trim();
    let mut terminal = File::options().read(true).write(true).open(path).expect(path);
    let mut said = Said::of(terminal.try_clone().expect("another descriptor"));
    said.wait_for("built-in shell");
    said.wait_for("# ");
    terminal.write_all(b"echo on-$(tty)-$((40 + 2))\n").expect("typed");
    said.wait_for("on-/dev/hvc0-42");
    said.wait_for("# ");
    terminal.write_all(b"poweroff\n").expect("typed");
    // Until nobody has the other end.
    let mut rest = Vec::new();
    let _ = terminal.read_to_end(&mut rest);
    let status = guest.wait(super::LIMIT).expect("its end");
    assert!(status.success(), "{status}\n{}", guest.report());
}
