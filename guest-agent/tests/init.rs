//! The agent as the first process: what a guest finds, how its command runs, and how it ends. In
//! namespaces instead of a VM, so that it runs everywhere; the VM's own tests do it with a kernel.

#[path = "guest/mod.rs"]
mod guest;

use guest::{Guest, POWERED_OFF, Plan, RESTARTED, Said, err, out, possible};
use protocol::Consistency;
use protocol::Payload;
use protocol::guest::{Halt, INPUT_WINDOW, MAX_CHUNK, Order, Outcome, WindowSize};
use std::fs;
use std::path::Path;

#[test]
fn a_command_runs_in_the_share_and_its_exit_status_comes_back() {
    if !possible() {
        return;
    }
    let script = "cat from-host; echo to host > from-guest; echo oops >&2; exit 7";
    let mut plan = Plan::shell(script);
    plan.directory = "/mnt/share";
    let dir = Plan { command: vec!["sh", "-c", "while ! test -e go; do :; done; . ./go"], ..plan };
    let guest = Guest::start(&dir);
    assert_eq!(guest.next(), Said::Ready);
    fs::write(guest.shared.join("from-host"), "hello\n").unwrap();
    fs::write(guest.shared.join("half"), script).unwrap();
    fs::rename(guest.shared.join("half"), guest.shared.join("go")).unwrap();
    let said = guest.rest();
    assert_eq!((out(&said).as_str(), err(&said).as_str()), ("hello\n", "oops\n"));
    assert_eq!(said.last(), Some(&Said::Exited(Outcome::Status(7))));
    assert_eq!(fs::read_to_string(guest.shared.join("from-guest")).unwrap(), "to host\n");
    assert_eq!(guest.ended().0, Some(POWERED_OFF));
}

#[test]
fn a_command_finds_what_programs_expect() {
    if !possible() {
        return;
    }
    let script =
        "set -e; test -c /dev/null; test -d /proc/self; test -d /sys/class; test -e /dev/fd/0
        echo x > /tmp/f; echo x > /run/f; echo x > /dev/shm/f
        mount | grep -c -E ' (/proc|/sys|/dev|/dev/pts|/run|/tmp|/mnt/share) '
        echo $PATH; echo $HOME; echo $A; cat /sys/class/net/lo/operstate; echo $$";
    let mut plan = Plan::shell(script);
    plan.environment = vec!["A=b=c", "HOME=/home", "=bad"];
    let said = Guest::start(&plan).rest();
    let out = out(&said);
    let lines: Vec<_> = out.lines().collect();
    assert_eq!(said.last(), Some(&Said::Exited(Outcome::Status(0))), "{said:?}");
    assert_eq!(
        lines[..4],
        ["7", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "/home", "b=c"]
    );
    assert_ne!(lines.last(), Some(&"1"), "the command is not the first process");
}

#[test]
fn input_arrives_whole_however_much_and_ends() {
    if !possible() {
        return;
    }
    let mut guest = Guest::start(&Plan::shell("cat > /mnt/share/all; echo done"));
    assert_eq!(guest.next(), Said::Ready);
    let data: Vec<u8> = (0..1_500_000u32).map(|n| (n / 5) as u8).collect();
    let mut ahead = 0;
    for chunk in data.chunks(MAX_CHUNK) {
        while ahead + chunk.len() > INPUT_WINDOW {
            match guest.next() {
                Said::Taken(bytes) => ahead -= bytes,
                other => panic!("{other:?}"),
            }
        }
        guest.order(&Order::Stdin(Payload(chunk)));
        ahead += chunk.len();
    }
    guest.order(&Order::Stdin(Payload(&[])));
    let said = guest.rest();
    assert_eq!(out(&said), "done\n");
    assert_eq!(said.last(), Some(&Said::Exited(Outcome::Status(0))));
    assert!(fs::read(guest.shared.join("all")).unwrap() == data);
}

#[test]
fn input_that_nobody_reads_is_taken_and_holds_nothing_up() {
    if !possible() {
        return;
    }
    let mut guest = Guest::start(&Plan::shell(
        "exec <&-; sleep 0.2; while ! test -e /mnt/share/go; do :; done",
    ));
    assert_eq!(guest.next(), Said::Ready);
    let mut taken = 0;
    for _ in 0..20 {
        guest.order(&Order::Stdin(Payload(&[b'x'; MAX_CHUNK])));
        match guest.next() {
            Said::Taken(bytes) => taken += bytes,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(taken, 20 * MAX_CHUNK);
    fs::write(guest.shared.join("go"), "").unwrap();
    assert_eq!(guest.rest().last(), Some(&Said::Exited(Outcome::Status(0))));
}

#[test]
fn large_output_arrives_whole_before_the_exit() {
    if !possible() {
        return;
    }
    let said =
        Guest::start(&Plan::shell("dd if=/dev/zero bs=1000 count=5000 2>/dev/null; exit 3")).rest();
    assert_eq!(out(&said).len(), 5_000_000);
    assert_eq!(said.last(), Some(&Said::Exited(Outcome::Status(3))));
}

#[test]
fn a_terminal_has_its_size_and_hears_of_another() {
    if !possible() {
        return;
    }
    let script = "trap 'stty size; exit 5' WINCH; test -t 0 && test -t 1 && test -t 2 && stty size; echo on; while :; do sleep 0.05; done";
    let mut plan = Plan::shell(script);
    plan.terminal = Some(WindowSize { columns: 101, rows: 31 });
    let mut guest = Guest::start(&plan);
    assert_eq!(guest.next(), Said::Ready);
    let mut seen = String::new();
    while !seen.contains("on\r\n") {
        seen += &out(&[guest.next()]);
    }
    assert_eq!(seen, "31 101\r\non\r\n");
    guest.order(&Order::Resize(WindowSize { columns: 80, rows: 25 }));
    let said = guest.rest();
    assert_eq!(out(&said), "25 80\r\n");
    assert_eq!(said.last(), Some(&Said::Exited(Outcome::Status(5))));
}

#[test]
fn what_is_typed_on_a_terminal_reaches_the_command_and_control_c_interrupts_it() {
    if !possible() {
        return;
    }
    let mut plan = Plan::shell("read line; echo \"<$line>\"; sleep 100");
    plan.terminal = Some(WindowSize { columns: 80, rows: 25 });
    let mut guest = Guest::start(&plan);
    guest.order(&Order::Stdin(Payload(b"typed\r")));
    let mut seen = String::new();
    while !seen.contains("<typed>") {
        seen += &out(&[guest.next()]);
    }
    guest.order(&Order::Stdin(Payload(&[3])));
    assert_eq!(guest.rest().last(), Some(&Said::Exited(Outcome::Signal(2))));
}

#[test]
fn a_signal_reaches_the_command() {
    if !possible() {
        return;
    }
    let mut guest = Guest::start(&Plan::shell(
        "trap 'echo caught; exit 9' USR1; echo on; while :; do sleep 0.05; done",
    ));
    assert_eq!((guest.next(), guest.next()), (Said::Ready, Said::Out(b"on\n".to_vec())));
    guest.order(&Order::Signal(10));
    let said = guest.rest();
    assert_eq!(out(&said), "caught\n");
    assert_eq!(said.last(), Some(&Said::Exited(Outcome::Status(9))));

    let mut guest = Guest::start(&Plan::new(&["sleep", "1000"]));
    assert_eq!(guest.next(), Said::Ready);
    guest.order(&Order::Signal(15));
    assert_eq!(guest.rest().last(), Some(&Said::Exited(Outcome::Signal(15))));
}

#[test]
fn orphans_are_reaped_while_the_command_runs() {
    if !possible() {
        return;
    }
    let script = "for i in 1 2 3 4 5 6 7 8 9 10; do sh -c 'sleep 0.1 & sleep 0.1 &'; done
        n=0; while ps -o stat,comm | grep -q sleep; do n=$((n+1)); test $n -lt 500 || exit 1; done; ps -o stat | grep -c Z";
    let said = Guest::start(&Plan::shell(script)).rest();
    assert_eq!(
        (out(&said).as_str(), said.last()),
        ("0\n", Some(&Said::Exited(Outcome::Status(1))))
    );
}

#[test]
fn what_a_command_leaves_behind_is_ended_also_if_it_does_not_want_to() {
    if !possible() {
        return;
    }
    let script = "(trap '' TERM HUP INT; while :; do sleep 0.1; done) & exit 4";
    let guest = Guest::start(&Plan::shell(script));
    assert_eq!(guest.rest().last(), Some(&Said::Exited(Outcome::Status(4))));
    assert_eq!(guest.ended().0, Some(POWERED_OFF));
}

#[test]
fn a_command_that_is_not_there_has_the_exit_status_of_shells() {
    if !possible() {
        return;
    }
    let said = Guest::start(&Plan::new(&["no-such-program", "x"])).rest();
    assert_eq!(err(&said), "osxfs: cannot run no-such-program: no such command in the guest\n");
    assert_eq!(said.last(), Some(&Said::Exited(Outcome::Status(127))));
    let said = Guest::start(&Plan::new(&["/proc/version"])).rest();
    assert!(err(&said).starts_with("osxfs: cannot run /proc/version: "), "{said:?}");
    assert_eq!(said.last(), Some(&Said::Exited(Outcome::Status(126))));
}

#[test]
fn what_cannot_be_done_is_said_and_the_guest_powers_off() {
    if !possible() {
        return;
    }
    let mut plan = Plan::shell("echo never");
    plan.export = "other";
    let guest = Guest::start(&plan);
    let said = guest.rest();
    let [Said::Failed(text)] = &said[..] else { panic!("{said:?}") };
    assert!(
        text.starts_with("mounting \"other\" on /mnt/share: the server has no export"),
        "{text}"
    );
    let (how, console) = guest.ended();
    assert_eq!(how, Some(POWERED_OFF));
    assert!(console.contains("no export \"other\""), "{console}");

    let mut plan = Plan::shell("echo never");
    plan.directory = "/nowhere";
    let guest = Guest::start(&plan);
    let said = guest.rest();
    let [Said::Ready, Said::Failed(text)] = &said[..] else { panic!("{said:?}") };
    assert!(text.starts_with("starting sh in /nowhere: "), "{text}");
    assert_eq!(guest.ended().0, Some(POWERED_OFF));
}

#[test]
fn without_a_command_the_guest_stays_until_it_is_told_to_end() {
    if !possible() {
        return;
    }
    for (halt, how) in [(Halt::PowerOff, POWERED_OFF), (Halt::Restart, RESTARTED)] {
        let mut guest = Guest::start(&Plan::new(&[]));
        assert_eq!(guest.next(), Said::Ready);
        guest.order(&Order::Stdin(Payload(b"for nobody")));
        guest.order(&Order::Stop(halt));
        assert_eq!(guest.rest(), []);
        assert_eq!(guest.ended().0, Some(how));
    }
}

#[test]
fn a_program_of_the_guest_may_end_it_as_busybox_does() {
    if !possible() {
        return;
    }
    for (signal, how) in [("USR2", POWERED_OFF), ("TERM", RESTARTED)] {
        let script = format!("kill -{signal} 1; sleep 1000");
        let guest = Guest::start(&Plan::shell(&script));
        assert_eq!(guest.next(), Said::Ready);
        assert_eq!(guest.rest(), []);
        assert_eq!(guest.ended().0, Some(how));
    }
}

#[test]
fn a_guest_whose_monitor_is_gone_powers_off() {
    if !possible() {
        return;
    }
    let mut guest = Guest::start(&Plan::new(&["sleep", "1000"]));
    assert_eq!(guest.next(), Said::Ready);
    guest.hang_up();
    assert_eq!(guest.ended().0, Some(POWERED_OFF));
}

#[test]
fn what_was_written_is_on_the_host_when_the_exit_is_told() {
    if !possible() {
        return;
    }
    let script = "exec 3> /mnt/share/open; echo kept >&3; dd if=/dev/zero bs=1000 count=3000 >&3 2>/dev/null; sleep 100 & ";
    let guest = Guest::with_consistency(&Plan::shell(script), Consistency::Delegated);
    loop {
        match guest.next() {
            Said::Exited(outcome) => break assert_eq!(outcome, Outcome::Status(0)),
            Said::Gone => panic!("no exit"),
            _ => {}
        }
    }
    assert_eq!(fs::metadata(guest.shared.join("open")).unwrap().len(), 3_000_005);
}

#[test]
fn a_read_only_share_is_not_written() {
    if !possible() {
        return;
    }
    let mut plan = Plan::shell("echo x > /mnt/share/f");
    plan.read_only = true;
    let guest = Guest::start(&plan);
    let said = guest.rest();
    assert!(err(&said).contains("Read-only file system"), "{said:?}");
    assert!(!Path::new(&guest.shared.join("f")).exists());
}
