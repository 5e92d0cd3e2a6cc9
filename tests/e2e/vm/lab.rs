//! The host of a test: QEMU with an emulated processor that has AMD-V, Debian's stock kernel, and in
//! its initial file system what `cargo xtask image` puts there and this test program itself. It runs
//! itself once more in there, told by a variable, and its exit status comes back over the serial port.

#[path = "../../../xtask/src/image/cpio.rs"]
#[allow(dead_code, reason = "no device nodes are needed behind those that the image has")]
mod cpio;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use cpio::Archive;

use crate::support::{PROMPT, Scratch, Suite, require, share, tools, turns};

/// Says that this program runs in the host.
const INSIDE: &str = "OSXFS_E2E_HOST";
/// Says how much some tests do; goes into the host with them.
pub const SCALE: &str = "OSXFS_VM_SCALE";
const INIT: &str = include_str!("host-init.sh");
/// What init says at the end.
const VERDICT: &str = "osxfs-lab: status ";
/// Programs that hosts and guests run.
const TOOLS: [&str; 3] = ["pjdfstest", "fsx", "qemu-img"];
const DISK: u64 = 4 << 30;

/// The emulated processor. Without the vector instructions that programs would choose if they could:
/// they are slow to emulate, and nothing here is about them.
const CPU: &str = "max,svm=on,la57=off,ssse3=off,sse4.1=off,sse4.2=off,avx=off";
/// Mitigations cost much under emulation and protect nobody.
const CMDLINE: &str = "console=ttyS0 quiet panic=-1 mitigations=off";

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
    let mut command = Command::new(qemu);
    // With two processors (QEMU 10.0.2), guests crashed six times in about 2,200 seconds of such runs;
    // with one never in 1,000, and it is no slower. The guest has two all the same.
    command.args(["-accel", "tcg", "-cpu", CPU, "-smp", "1", "-m", "3G"]);
    command.args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]);
    command.args(["-serial", "stdio", "-append", CMDLINE]);
    command.arg("-kernel").arg(image.join("vmlinuz")).arg("-initrd").arg(at("initrd"));
    command.arg("-drive");
    command.arg(format!("if=virtio,format=raw,cache=unsafe,file={}", at("disk").display()));
    let run = Suite::run(&format!("the host of {name}"), limit, &mut command);
    let passed = run.log.lines().any(|line| line.trim_end() == format!("{VERDICT}0"));
    assert!(passed, "it failed in its host, which said\n{}", run.log);
}

/// The folder with kernel and initial file systems, which is made before a run of all tests.
#[track_caller]
fn image() -> Option<PathBuf> {
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
    let scale = std::env::var(SCALE).unwrap_or_else(|_| "1".into());
    archive.file("test", 0o644, format!("{name} {scale}\n").as_bytes());
    for part in ["vmlinuz", "initrd"] {
        archive.file(&format!("image/{part}"), 0o644, &read(&image.join(part)));
    }
    let mut libraries = BTreeMap::new();
    for (tool, path) in programs {
        archive.file(&format!("tools/bin/{tool}"), 0o755, &stripped(path));
        libraries.extend(libraries_of(path));
    }
    for (library, path) in &libraries {
        archive.file(&format!("tools/lib/{library}"), 0o755, &read(path));
        if library.starts_with("ld-linux") {
            archive.link(&format!("lib64/{library}"), &format!("/tools/lib/{library}"));
        }
    }
    let mut whole = read(&image.join("host-initrd"));
    whole.extend(archive.finish());
    whole
}

/// A program without what only a debugger reads, if that can be left out here.
fn stripped(program: &Path) -> Vec<u8> {
    let small = tempfile::NamedTempFile::new().expect("a file");
    let strip = Command::new("strip").arg("-o").arg(small.path()).arg(program).status();
    let done = strip.is_ok_and(|status| status.success());
    fs::read(if done { small.path() } else { program }).expect("a program")
}

/// The shared libraries of a program, and what loads them, by name.
fn libraries_of(program: &Path) -> BTreeMap<String, PathBuf> {
    let listed = Suite::run("ldd", PROMPT, Command::new("ldd").arg(program)).succeeds().log;
    let paths = listed.split_whitespace().filter(|word| word.starts_with('/')).map(PathBuf::from);
    let named = paths.map(|path| {
        let name = path.file_name().expect("a file").to_string_lossy().into_owned();
        (name, path)
    });
    named.collect()
}
