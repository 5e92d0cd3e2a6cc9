//! A command in a guest is a command: what it prints, what it reads, how it ends. And the machine
//! around it powers off, starts again, or says in a line why there is none.

use std::fs::{self, File};
use std::io::Write;
use std::process::{Command, Stdio};

use rustix::process::Signal;

use super::host::{Said, qemu_img, run, texts, vm};
use crate::support::{Daemon, Scratch, share};

pub fn commands_end_as_on_the_host() {
    const SCRIPT: &str = "nproc; cat; echo complaint >&2; exit 7";
    let output = run(vm().args(["--", "sh", "-c", SCRIPT]), b"typed\n");
    assert_eq!(texts(&output), ("2\ntyped\n".into(), "complaint\n".into()));
    assert_eq!(output.status.code(), Some(7));

    // A signal to us is a signal to it.
    let mut command = vm();
    command.args([
        "--",
        "sh",
        "-c",
        "trap 'echo heard; exit 9' TERM; echo ready; while :; do sleep 1; done",
    ]);
    let mut guest = Daemon::spawn("osxfs vm run", command, super::LIMIT);
    let ready = guest.stdout.wait_for(super::LIMIT, |line| line == "ready");
    assert!(ready.is_some(), "{}", guest.report());
    guest.signal(Signal::TERM);
    let status = guest.wait(super::LIMIT).expect("its end");
    assert_eq!(status.code(), Some(9), "{}", guest.report());
    assert_eq!(guest.stdout.all(), ["ready", "heard"]);

    let output = run(vm().args(["--", "/no/such/program"]), b"");
    assert_eq!(output.status.code(), Some(127), "{:?}", texts(&output));
    refusals();
}

/// One line that names the thing, the cause and the next step.
fn refusals() {
    let scratch = Scratch::new();
    let at = |name: &str| scratch.path().join(name).display().to_string();
    fs::write(at("text"), "this is no kernel, however long one looks at it").expect("a file");
    File::create(at("huge")).and_then(|file| file.set_len(1 << 30)).expect("a file");
    fs::write(at("taken"), "").expect("a file");
    let create = ["create", "-q", "-f", "qcow2"];
    qemu_img(create.iter().chain(&[&*at("whole"), "1M"]));
    qemu_img(create.iter().chain(&["-b", &*at("whole"), "-F", "qcow2", &*at("backed")]));
    fs::copy(at("whole"), at("broken")).expect("a copy");
    let mut broken = File::options().write(true).open(at("broken")).expect("the copy");
    broken.write_all(b"QFI\xfb\0\0\0\x63").expect("another version");
    let (text, huge) = (at("text"), at("huge"));
    for (arguments, says) in [
        (vec!["--kernel", &text], "text"),
        (vec!["--kernel", &at("nothing")], "nothing"),
        (vec!["--kernel", "/image/vmlinuz", "--initrd", &huge], "huge"),
        (vec!["--memory", "8T"], "memory"),
        (vec!["--cpus", "9999"], "9999"),
        (vec!["--disk", &at("nothing")], "nothing"),
        (vec!["--disk", &format!("{}:qcow2", at("broken"))], "broken"),
        (vec!["--disk", &format!("{}:qcow2", at("backed"))], "on an image's word"),
        (vec!["--vsock-path", &at("taken")], "taken"),
    ] {
        let mut command = Command::new(share::program());
        command.args(["vm", "run"]).args(&arguments).args(["--", "true"]);
        let output = run(&mut command, b"");
        let (_, said) = texts(&output);
        println!("{arguments:?}: {said}");
        assert!(!output.status.success(), "{arguments:?} succeeds");
        assert_eq!(said.lines().count(), 1, "{arguments:?}: {said}");
        assert!(said.starts_with("osxfs: ") && said.contains(says), "{arguments:?}: {said}");
    }
    assert_eq!(fs::read(at("taken")).expect("still there"), b"", "what was there is left alone");
}

/// The shell on the console, twice.
pub fn a_machine_reboots_and_powers_off() {
    let mut child = vm().stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("osxfs");
    let mut console = child.stdin.take().expect("piped");
    let mut said = Said::of(child.stdout.take().expect("piped"));
    for (life, ends) in ["reboot", "poweroff"].into_iter().enumerate() {
        // The shell of the life before may say a last `# `.
        said.wait_for("built-in shell");
        said.wait_for("# ");
        writeln!(console, "echo life-$(({life} + 1)) of $(nproc); touch /tmp/of-this-life")
            .expect("typed");
        said.wait_for(&format!("life-{} of 2\r\n", life + 1));
        said.wait_for("# ");
        writeln!(console, "{ends}; sleep 1000").expect("typed");
    }
    let status = child.wait().expect("its end");
    assert!(status.success(), "{status}");

    // And one that gives itself up, which for a kernel is a way to restart.
    let output = run(vm().args(["--cmdline", "reboot=triple", "--", "reboot", "-f"]), b"");
    let (_, said) = texts(&output);
    assert!(said.contains("triple-faulted at rip 0x"), "{said}");
    assert!(said.contains("the guest crashed or restarted before the command had ended"), "{said}");
    assert_eq!(output.status.code(), Some(1));
}
