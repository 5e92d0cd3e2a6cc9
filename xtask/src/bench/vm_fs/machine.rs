//! The guest: Debian's kernel with the drivers of all file systems, programs of this machine in its
//! initial file system, and QEMU with the devices.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use super::super::daemon::Daemon;
use super::super::fs::material::Template;
use super::servers::{ALWAYS, AUTO, NINE_P, OSXFS, socket};
use super::{NPM_CACHE, line};
use crate::command::{execute, find, output_of};
use crate::image::{self, cpio::Archive, emulated};

/// What QEMU is given, as the report says it.
pub const SHAPE: &str = "two processors, 2 GiB";
const MEMORY: &str = "2G";
/// node does not run without SSSE3 and SSE4.
const CPU: &str = "max,la57=off,avx=off";
/// Mitigations cost much under emulation and protect nobody.
const CMDLINE: &str = "console=ttyS0 quiet panic=-1 mitigations=off rdinit=/start";
const MODULES: &[&str] = &[
    "virtio_pci",
    "vmw_vsock_virtio_transport",
    "fuse",
    "virtiofs",
    "9pnet_virtio",
    "9p",
    "virtio_blk",
    "virtio_console",
    // ext4 asks for it by what it does and not by its name.
    "crc32c_generic",
    "ext4",
];
/// What the steps run.
const PROGRAMS: [&str; 5] = ["find", "grep", "rm", "git", "node"];
const INIT: &str = include_str!("guest-init.sh");

/// What the guest says on its console.
pub const CONSOLE: &str = "console";
const INITRD: &str = "initrd";
const DISK: &str = "disk";
const DISK_SIZE: u64 = 3 << 30;

pub fn qemu() -> Result<PathBuf> {
    find("qemu-system-x86_64")
        .context("there is no qemu-system-x86_64; `cargo xtask setup` installs it")
}

pub fn version(qemu: &Path) -> String {
    let said = output_of(Command::new(qemu).arg("--version")).unwrap_or_default();
    said.lines().next().unwrap_or("QEMU").to_owned()
}

/// What a guest is made of.
pub struct Machine<'a> {
    pub qemu: &'a Path,
    pub osxfs: &'a Path,
    pub template: &'a Template,
    /// Its disk, initial file system and sockets lie here, beside the shared folders.
    pub scratch: &'a Path,
}

impl Machine<'_> {
    /// Makes its files. Returns its kernel's release.
    pub fn prepare(&self, quick: bool) -> Result<String> {
        let image = image::stock(MODULES)?;
        let mut initrd = fs::read(image.join("initrd"))?;
        initrd.extend(self.programs(if quick { "--quick" } else { "" })?.finish());
        fs::write(self.at(INITRD), initrd)?;
        fs::copy(image.join("vmlinuz"), self.at("vmlinuz"))?;
        self.disk()?;
        Ok(fs::read_to_string(image.join("release"))?)
    }

    fn at(&self, name: &str) -> PathBuf {
        self.scratch.join(name)
    }

    /// The socket of the serial port.
    pub fn line(&self) -> PathBuf {
        socket(self.scratch, line::PORT_NAME)
    }

    /// This program, osxfs, and what the steps run, with all their libraries.
    fn programs(&self, arguments: &str) -> Result<Archive> {
        let mut archive = Archive::default();
        archive.file("start", 0o755, INIT.as_bytes());
        archive.file("arguments", 0o644, arguments.as_bytes());
        let mut programs =
            BTreeMap::from([("osxfs", self.osxfs.to_owned()), ("xtask", std::env::current_exe()?)]);
        for name in PROGRAMS {
            programs.insert(name, find(name).with_context(|| format!("there is no {name}"))?);
        }
        emulated::add_programs(&mut archive, &programs)?;
        // What npm needs lies beside it, and is looked for there.
        let npm = find("npm").context("there is no npm")?.canonicalize()?;
        let modules = npm.ancestors().nth(3).context("npm lies in no package")?;
        archive.tree(&modules.to_string_lossy(), modules)?;
        archive.link("tools/bin/npm", &npm.to_string_lossy());
        archive.tree(NPM_CACHE, &self.template.material.npm_cache)?;
        Ok(archive)
    }

    /// A disk that holds what the shared folders hold.
    fn disk(&self) -> Result<()> {
        let mkfs = find("mkfs.ext4");
        let mkfs = mkfs.context("there is no mkfs.ext4; `cargo xtask setup` installs it")?;
        let folder = tempfile::tempdir_in(self.scratch)?;
        self.template.copy_to(folder.path())?;
        File::create(self.at(DISK))?.set_len(DISK_SIZE)?;
        let mut command = Command::new(mkfs);
        // Nothing is left that the guest's kernel would do while it is measured.
        command.args(["-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0", "-d"]);
        execute(command.arg(folder.path()).arg(self.at(DISK)))
    }

    /// Starts QEMU, with the servers at their sockets.
    pub fn start(&self) -> Result<Daemon> {
        let at = |name: &str| self.at(name).display().to_string();
        let chardev = |device: &str, more: &str| {
            let path = socket(self.scratch, device);
            ["-chardev".into(), format!("socket,id={device},path={}{more}", path.display())]
        };
        let mut command = Daemon::command(self.qemu);
        let (kernel, initrd) = (self.at("vmlinuz"), self.at(INITRD));
        let (cpu, memory, cmdline) = (CPU, MEMORY, CMDLINE);
        emulated::Guest { cpu, memory, cmdline, kernel: &kernel, initrd: &initrd }
            .add_to(&mut command);
        command.args(chardev(OSXFS, ""));
        command.args(["-device", &format!("vhost-user-vsock-pci,chardev={OSXFS}")]);
        for tag in [AUTO, ALWAYS] {
            command.args(chardev(tag, ""));
            command.args(["-device", &format!("vhost-user-fs-pci,chardev={tag},tag={tag}")]);
        }
        let folder = at(NINE_P);
        command.arg("-fsdev");
        command.arg(format!("local,id={NINE_P},path={folder},security_model=passthrough"));
        command.args(["-device", &format!("virtio-9p-pci,fsdev={NINE_P},mount_tag={NINE_P}")]);
        command.args(["-drive", &format!("if=virtio,format=raw,file={}", at(DISK))]);
        command.args(chardev(line::PORT_NAME, ",server=on,wait=off"));
        command.args(["-device", "virtio-serial-pci", "-device"]);
        command.arg(format!("virtserialport,chardev={0},name={0}", line::PORT_NAME));
        command.stdin(Stdio::null()).stdout(File::create(self.at(CONSOLE))?);
        Daemon::listening("QEMU", &self.line(), &mut command)
    }
}
