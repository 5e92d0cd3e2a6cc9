//! The host of a test: QEMU with an emulated processor that has AMD-V, Debian's stock kernel, and in
//! its initial file system what `cargo xtask image` puts there and this test program itself. It runs
//! itself once more in there, told by a variable, and its exit status comes back over the serial port.

#[path = "../../../xtask/src/image/cpio.rs"]
#[allow(dead_code, reason = "no device nodes are needed behind those that the image has")]
pub mod cpio;
#[path = "../../../xtask/src/image/emulated.rs"]
pub mod emulated;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use cpio::Archive;

use crate::support::{PROMPT, Scratch, Suite, require, share, tools, turns};

/// Says that this program runs in the host.
const INSIDE: &str = "OSXFS_E2E_HOST";
const INIT: &str = include_str!("host-init.sh");
/// What init says at the end.
const VERDICT: &str = "osxfs-lab: status ";
/// Programs that hosts and guests run.
const TOOLS: [&str; 4] = ["pjdfstest", "fsx", "qemu-img", "passt"];
const DISK: u64 = 4 << 30;

/// Runs `check` in a host of its own, as the test of this name.
#[track_caller]
pub fn in_a_host(name: &str, limit: Duration, check: impl FnOnce()) {
    if std::env::var_os(INSIDE).is_some() {
        return check();
    }
    let _turn = turns::alone();
    let qemu = require!("qemu-system-x86_64");
    let mkfs = require!("mkfs.ext4");
    let Some(image) = image() else { return };
    let mut programs = BTreeMap::new();
    for tool in TOOLS {
        let Some(path) = tools::find(tool) else { return };
        programs.insert(tool, path);
    }
    programs.insert("osxfs", PathBuf::from(share::program()));
    programs.insert("e2e", std::env::current_exe().expect("our own path"));
    let scratch = Scratch::new();
    let at = |name: &str| scratch.path().join(name);
    fs::write(at("initrd"), initrd(name, &image, &programs)).expect("an initrd");
    fs::File::create(at("disk")).and_then(|disk| disk.set_len(DISK)).expect("a disk");
    Suite::run("mkfs.ext4", PROMPT, Command::new(mkfs).args(["-q", "-F"]).arg(at("disk")))
        .succeeds();
    let mut command = emulated::machine(Path::new(&qemu), &image, &at("initrd"));
    command.arg("-drive");
    command.arg(format!("if=virtio,format=raw,cache=unsafe,file={}", at("disk").display()));
    let run = Suite::run(&format!("the host of {name}"), limit, &mut command);
    let passed = run.log.lines().any(|line| line.trim_end() == format!("{VERDICT}0"));
    assert!(passed, "it failed in its host, which said\n{}", run.log);
}

/// The folder with kernel and initial file systems, which is made before a run of all tests.
#[track_caller]
pub fn image() -> Option<PathBuf> {
    let folder = std::env::var_os("OSXFS_IMAGE").map_or_else(
        || Path::new(&share::program()).ancestors().nth(2).map(|dir| dir.join("osxfs-image")),
        |folder| Some(folder.into()),
    );
    let folder = folder.filter(|folder| folder.join("host-initrd").is_file());
    if folder.is_none() {
        tools::skip("needs the image of a guest (cargo xtask image)");
    }
    folder
}

/// What the image has, and behind it what this test adds.
fn initrd(name: &str, image: &Path, programs: &BTreeMap<&str, PathBuf>) -> Vec<u8> {
    let read = |path: &Path| {
        fs::read(path).unwrap_or_else(|error| panic!("reading {}: {error}", path.display()))
    };
    let mut archive = Archive::default();
    archive.file("init", 0o755, INIT.as_bytes());
    archive.file("test", 0o644, format!("{name}\n").as_bytes());
    for part in ["vmlinuz", "initrd"] {
        archive.file(&format!("image/{part}"), 0o644, &read(&image.join(part)));
    }
    emulated::add_programs(&mut archive, programs).expect("programs and their libraries");
    let mut whole = read(&image.join("host-initrd"));
    whole.extend(archive.finish());
    whole
}
