//! Our vsock device under another monitor (`osxfs vsock --vhost-user`): QEMU without nesting, Debian's
//! kernel with its own driver. It is emulated once and not twice, so more is done here.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::guest::{self, PORT};
use super::lab::{cpio::Archive, emulated, image};
use super::{files, sockets};
use crate::support::{Daemon, Scratch, Suite, eventually, share, tools, turns};

const INIT: &str = include_str!("other-init.sh");
const VERDICT: &str = "osxfs-guest: status 0";
const LIMIT: Duration = Duration::from_secs(3000);
/// How much fsx does.
const OPERATIONS: usize = 20_000;

#[test]
fn many_connections_carry_their_data() {
    let scratch = Scratch::new();
    let Some(guest) = Guest::new(&scratch, &["e2e"]) else { return };
    let listener = UnixListener::bind(guest.socket_of_port(PORT)).expect("a socket");
    guest.run(&guest::line_of("sockets"), || {
        let said = || fs::read_to_string(guest.at("out/said")).unwrap_or_default();
        eventually("the guest listens", super::LIMIT, || said().contains("listening"));
        sockets::exchange(&guest.at("vsock"), &listener);
    });
}

/// What `cargo xtask test vm` runs as well.
pub mod slow {
    use super::*;

    #[test]
    #[ignore = "slow: cargo xtask test vm"]
    fn many_files_arrive_whole() {
        let scratch = Scratch::new();
        let Some(guest) = Guest::new(&scratch, &[]) else { return };
        files::many(&guest.at("shared"), |script| guest.run(script, || ()));
    }

    #[test]
    #[ignore = "slow: cargo xtask test vm"]
    fn judges_find_no_fault() {
        let scratch = Scratch::new();
        let Some(guest) = Guest::new(&scratch, &["pjdfstest", "fsx"]) else { return };
        files::judges(&guest.at("shared"), OPERATIONS, |script| guest.run(script, || ()));
    }
}

/// What a guest takes.
pub struct Guest<'a> {
    scratch: &'a Scratch,
    qemu: PathBuf,
    image: PathBuf,
    programs: BTreeMap<&'static str, PathBuf>,
}

impl<'a> Guest<'a> {
    #[track_caller]
    pub fn new(scratch: &'a Scratch, tools: &[&'static str]) -> Option<Self> {
        let qemu = tools::find("qemu-system-x86_64")?;
        let image = image()?;
        let mut programs = BTreeMap::new();
        for tool in tools {
            let path = match *tool {
                "e2e" => std::env::current_exe().expect("our own path"),
                tool => tools::find(tool)?,
            };
            programs.insert(*tool, path);
        }
        scratch.dir("shared");
        scratch.dir("out");
        Some(Self { scratch, qemu, image, programs })
    }

    pub fn at(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    /// The folder of what it boots.
    pub fn image(&self) -> &Path {
        &self.image
    }

    /// The socket at which a program of the host listens for the guest.
    fn socket_of_port(&self, port: u32) -> PathBuf {
        self.at(&format!("vsock_{port}"))
    }

    /// Runs a script in a guest, which must succeed, and `meanwhile` here. Returns what it printed.
    #[track_caller]
    fn run(&self, script: &str, meanwhile: impl FnOnce() + Send) -> String {
        let mut archive = Archive::default();
        archive.file("start", 0o755, INIT.as_bytes());
        archive.file("script", 0o644, script.as_bytes());
        // Started by this name it is an agent like any other.
        archive.link("bin/osxfs-agent", "/init");
        self.boot(archive, None, meanwhile)
    }

    /// Boots a guest with these files, of which `start` is run, and `disk`, and does `meanwhile` here.
    /// The guest must say that it succeeded. Returns what it left in `out/said`.
    #[track_caller]
    pub fn boot(
        &self,
        archive: Archive,
        disk: Option<&Path>,
        meanwhile: impl FnOnce() + Send,
    ) -> String {
        let _turn = turns::alone();
        let mut command = Command::new(share::program());
        command.args(["vsock", "--vhost-user"]).arg(self.at("monitor"));
        for export in ["shared", "out"] {
            command.arg("--export").arg(self.at(export));
        }
        command.arg("--vsock-path").arg(self.at("vsock"));
        let mut device = Daemon::spawn("osxfs vsock", command, LIMIT);
        device.await_line("serving guest 3 at ");
        fs::write(self.at("initrd"), self.initrd(archive)).expect("an initrd");
        let mut machine = self.machine();
        if let Some(disk) = disk {
            machine.arg("-drive");
            machine.arg(format!("if=virtio,format=raw,readonly=on,file={}", disk.display()));
        }
        let log = std::thread::scope(|scope| {
            scope.spawn(meanwhile);
            Suite::run("a guest of QEMU", LIMIT, &mut machine).log
        });
        let passed = log.lines().any(|line| line.trim_end() == VERDICT);
        assert!(passed, "the script failed in a guest, which said\n{log}\n{}", device.report());
        device.ends_cleanly_on(rustix::process::Signal::TERM);
        fs::read_to_string(self.at("out/said")).expect("what it printed")
    }

    fn machine(&self) -> Command {
        let mut command = Command::new(&self.qemu);
        let (kernel, initrd) = (self.image.join("vmlinuz"), self.at("initrd"));
        let guest = emulated::Guest {
            cpu: emulated::CPU,
            memory: "1G",
            cmdline: "console=ttyS0 quiet panic=-1 rdinit=/start",
            kernel: &kernel,
            initrd: &initrd,
        };
        guest.add_to(&mut command);
        command.arg("-chardev");
        command.arg(format!("socket,id=vsock,path={}", self.at("monitor").display()));
        command.args(["-device", "vhost-user-vsock-pci,chardev=vsock"]);
        command
    }

    /// The image's, and behind it what this test adds. The image for hosts has the modules of PCI.
    fn initrd(&self, mut archive: Archive) -> Vec<u8> {
        emulated::add_programs(&mut archive, &self.programs).expect("programs");
        let images = ["host-initrd", "initrd"].map(|name| self.image.join(name));
        let images = images.map(|path| fs::read(path).expect("the image"));
        let mut whole = images.concat();
        whole.extend(archive.finish());
        whole
    }
}
