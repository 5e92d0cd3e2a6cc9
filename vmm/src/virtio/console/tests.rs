//! Output, input and size of a console, also with nobody at the other end.

use super::*;
use crate::virtio::test_utils::{Driver, Part, step};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// A console whose two ends we have on a socket each, which blocks as a pipe does.
struct Setup {
    typing: UnixStream,
    reading: UnixStream,
    driver: Driver,
    console: Console,
}

fn setup(overflow: Overflow) -> Setup {
    let (typing, input) = UnixStream::pair().unwrap();
    let (output, reading) = UnixStream::pair().unwrap();
    let driver = Driver::new(&QUEUE_SIZES);
    let console = Console::new(Some(input.into()), output.into(), overflow);
    Setup { typing, reading, driver, console }
}

#[test]
fn what_is_typed_arrives_in_the_buffers_of_the_guest() {
    let Setup { mut typing, mut driver, mut console, reading: _reading } = setup(Overflow::Wait);
    console.activate(driver.context(0)).unwrap();
    let first = driver.send(0, &[Part::Write(4)]);
    typing.write_all(b"hello!").unwrap();
    let used = driver.wait(0);
    assert_eq!(driver.written(&first, used.len), b"hell");
    let second = driver.send(0, &[Part::Write(2), Part::Write(90)]);
    let used = driver.wait(0);
    assert_eq!(driver.written(&second, used.len), b"o!");
}

#[test]
fn what_is_typed_before_there_is_a_guest_waits_for_it() {
    let Setup { mut typing, mut driver, mut console, reading: _reading } = setup(Overflow::Wait);
    typing.write_all(b"early").unwrap();
    drop(typing);
    for _ in 0..2 {
        // A reset in between loses nothing.
        console.activate(driver.context(0)).unwrap();
        console.reset();
    }
    console.activate(driver.context(0)).unwrap();
    let sent = driver.send(0, &[Part::Write(64)]);
    let used = driver.wait(0);
    assert_eq!(driver.written(&sent, used.len), b"early");
}

#[test]
fn what_is_printed_comes_out_whole_and_in_order() {
    let Setup { mut reading, mut driver, mut console, typing: _typing } = setup(Overflow::Wait);
    console.activate(driver.context(0)).unwrap();
    let reader = std::thread::spawn(move || {
        let mut all = vec![0; 64 * 8192];
        reading.read_exact(&mut all).unwrap();
        all
    });
    for n in 0..64_u8 {
        driver.send(1, &[Part::Read(&[n; 4096]), Part::Read(&[n; 4096])]);
        driver.wait(1);
    }
    let all = reader.join().unwrap();
    assert!((0..64_u8).zip(all.chunks(8192)).all(|(n, part)| part.iter().all(|&byte| byte == n)));
}

/// Prints until the console takes no more (or a lot), and tells how many chains of 8 KiB it took.
fn print_without_a_reader(overflow: Overflow) -> usize {
    let mut setup = setup(overflow);
    let Task::Idle(mut work) = std::mem::replace(&mut setup.console.task, Task::Lost) else {
        unreachable!()
    };
    let mut desk = setup.driver.desk(0);
    let mut taken = 0;
    for _ in 0..200 {
        let sent = setup.driver.queues[1].lay(&[Part::Read(&[1; 8192])]);
        setup.driver.queues[1].offer(sent.head);
        step(&mut work, &mut desk).unwrap();
        if setup.driver.queues[1].collect().is_none() {
            return taken;
        }
        taken += 1;
    }
    taken
}

#[test]
fn an_output_that_nobody_reads_holds_the_guest_up_or_loses_what_it_prints() {
    let taken = print_without_a_reader(Overflow::Wait);
    assert!((BACKLOG / 8192..200).contains(&taken), "{taken}");
    assert_eq!(print_without_a_reader(Overflow::Drop), 200);
}

#[test]
fn a_guest_that_was_held_up_goes_on_when_somebody_reads() {
    let Setup { mut reading, mut driver, mut console, typing: _typing } = setup(Overflow::Wait);
    console.activate(driver.context(0)).unwrap();
    for _ in 0..60 {
        driver.send(1, &[Part::Read(&[1; 8192])]);
    }
    let mut all = vec![0; 60 * 8192];
    reading.read_exact(&mut all).unwrap();
    for _ in 0..60 {
        driver.wait(1);
    }
}

#[test]
fn an_output_that_has_gone_takes_everything() {
    let Setup { reading, mut driver, mut console, typing: _typing } = setup(Overflow::Wait);
    drop(reading);
    console.activate(driver.context(0)).unwrap();
    for _ in 0..200 {
        driver.send(1, &[Part::Read(&[1; 8192])]);
        driver.wait(1);
    }
}

#[test]
fn a_pseudo_terminal_that_is_opened_later_works_in_both_directions() {
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let name = ptsname(&master, Vec::new()).unwrap();
    let mut raw = rustix::termios::tcgetattr(&master).unwrap();
    raw.make_raw();
    rustix::termios::tcsetattr(&master, rustix::termios::OptionalActions::Now, &raw).unwrap();
    let mut driver = Driver::new(&QUEUE_SIZES);
    let output = master.try_clone().unwrap();
    let mut console = Console::new(Some(master), output, Overflow::Drop);
    console.activate(driver.context(0)).unwrap();
    let sent = driver.send(0, &[Part::Write(64)]);
    driver.send(1, &[Part::Read(b"login: ")]);
    driver.wait(1);
    let path = std::path::PathBuf::from(name.into_string().unwrap());
    let mut slave = std::fs::File::options().read(true).write(true).open(path).unwrap();
    let mut seen = [0; 7];
    slave.read_exact(&mut seen).unwrap();
    assert_eq!(&seen, b"login: ");
    slave.write_all(b"root\n").unwrap();
    let used = driver.wait(0);
    assert_eq!(driver.written(&sent, used.len), b"root\n");
}

#[test]
fn an_input_that_cannot_be_waited_for_is_read_to_its_end() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "from a file").unwrap();
    let (output, _reading) = UnixStream::pair().unwrap();
    let input = std::fs::File::open(file.path()).unwrap();
    let mut driver = Driver::new(&QUEUE_SIZES);
    let mut console = Console::new(Some(input.into()), output.into(), Overflow::Wait);
    console.activate(driver.context(0)).unwrap();
    let sent = driver.send(0, &[Part::Write(64)]);
    let used = driver.wait(0);
    assert_eq!(driver.written(&sent, used.len), b"from a file");
}

#[test]
fn the_guest_learns_the_size_of_the_window() {
    let Setup { mut driver, mut console, .. } = setup(Overflow::Wait);
    console.size().set(80, 25);
    console.activate(driver.context(0)).unwrap();
    assert_eq!(driver.signal.so_far().config_changes, 1, "of the size that it has");
    console.size().set(132, 43);
    assert_eq!(driver.signal.so_far().config_changes, 2);
    let mut size = [0; 4];
    console.read_config(0, &mut size);
    assert_eq!(size, [132, 0, 43, 0]);
}

#[test]
fn a_reset_does_not_wait_for_a_reader() {
    let Setup { mut driver, mut console, typing: _typing, reading: _reading } =
        setup(Overflow::Wait);
    console.activate(driver.context(0)).unwrap();
    for _ in 0..60 {
        driver.send(1, &[Part::Read(&[1; 8192])]);
    }
    let start = Instant::now();
    console.reset();
    assert!(start.elapsed() < Duration::from_secs(20));
}
