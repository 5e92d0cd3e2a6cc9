//! An emulated machine that is a host with KVM (here for benchmarks, in `tests/e2e/vm/lab.rs` for tests):
//! QEMU without KVM, a processor with AMD-V, Debian's stock kernel, and in its initial file system what
//! `cargo xtask image` puts there and whatever is to run. And a machine that is no host but a guest, with
//! devices that are other programs (vhost-user).

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::cpio::Archive;

/// The emulated processor. Without the vector instructions that programs would choose if they could:
/// they are slow to emulate, and nothing here is about them.
pub const CPU: &str = "max,svm=on,la57=off,ssse3=off,sse4.1=off,sse4.2=off,avx=off";
/// Mitigations cost much under emulation and protect nobody. The processor does not halt when it has
/// nothing to do: QEMU (10.0.2) was seen to wake it without end and without running it.
const CMDLINE: &str = "console=ttyS0 quiet panic=-1 mitigations=off idle=poll";

/// QEMU beside a byte a second for the machine's serial port. Where QEMU (10.0.2) emulates AMD-V it now and
/// then forgets that an interrupt is pending (the timer's was, in the interrupt controller, but not in the
/// word that the processor looks at; setting it there by hand woke the machine after 700 seconds), and
/// looks for it when the next comes.
const BEATING: &str = r#"while sleep 1; do echo; done | exec "$@""#;

/// QEMU with such a machine; what it says on its serial port is QEMU's output, and its input is taken.
pub fn machine(qemu: &Path, image: &Path, initrd: &Path) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", BEATING, "sh"]).arg(qemu);
    // With two processors (QEMU 10.0.2), guests crashed six times in about 2,200 seconds of tests, and
    // once the machine itself restarted, while QEMU was its monitor; with one never, and it is no
    // slower. The guest may have two all the same.
    command.args(["-accel", "tcg", "-cpu", CPU, "-smp", "1", "-m", "3G"]);
    command.args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]);
    command.args(["-serial", "stdio", "-append", CMDLINE]);
    command.arg("-kernel").arg(image.join("vmlinuz")).arg("-initrd").arg(initrd);
    command
}

/// A guest of two processors whose memory vhost-user devices reach.
pub struct Guest<'a> {
    pub cpu: &'a str,
    pub memory: &'a str,
    pub cmdline: &'a str,
    pub kernel: &'a Path,
    pub initrd: &'a Path,
}

impl Guest<'_> {
    /// Makes QEMU's command such a machine; what it says on its serial port is QEMU's output.
    pub fn add_to(&self, command: &mut Command) {
        let Self { cpu, memory, cmdline, kernel, initrd } = self;
        command.args(["-accel", "tcg", "-cpu", cpu, "-smp", "2", "-m", memory, "-object"]);
        command.arg(format!("memory-backend-memfd,id=memory,size={memory},share=on"));
        command.args(["-M", "q35,memory-backend=memory"]);
        command.args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]);
        command.args(["-serial", "stdio", "-append", cmdline]);
        command.arg("-kernel").arg(kernel).arg("-initrd").arg(initrd);
    }
}

/// Puts programs of this machine into `/tools/bin` and their libraries into `/tools/lib`.
pub fn add_programs(archive: &mut Archive, programs: &BTreeMap<&str, PathBuf>) -> io::Result<()> {
    let mut libraries = BTreeMap::new();
    for (name, path) in programs {
        archive.file(&format!("tools/bin/{name}"), 0o755, &stripped(path)?);
        libraries.extend(libraries_of(path)?);
    }
    for (library, path) in &libraries {
        archive.file(&format!("tools/lib/{library}"), 0o755, &std::fs::read(path)?);
        if library.starts_with("ld-linux") {
            archive.link(&format!("lib64/{library}"), &format!("/tools/lib/{library}"));
        }
    }
    Ok(())
}

/// A program without what only a debugger reads, if that can be left out here.
pub fn stripped(program: &Path) -> io::Result<Vec<u8>> {
    let small = tempfile::NamedTempFile::new()?;
    let strip = Command::new("strip").arg("-o").arg(small.path()).arg(program).output();
    let done = strip.is_ok_and(|output| output.status.success());
    std::fs::read(if done { small.path() } else { program })
}

/// The shared libraries of a program, and what loads them, by name.
fn libraries_of(program: &Path) -> io::Result<BTreeMap<String, PathBuf>> {
    let output = Command::new("ldd").arg(program).output()?;
    let listed = String::from_utf8_lossy(&output.stdout).into_owned();
    let paths = listed.split_whitespace().filter(|word| word.starts_with('/')).map(PathBuf::from);
    let named = paths.filter_map(|path| Some((path.file_name()?.to_str()?.to_owned(), path)));
    Ok(named.collect())
}
