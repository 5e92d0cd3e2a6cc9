//! `cargo xtask image`: what `osxfs vm run` boots where no kernel is given. Debian's stock cloud
//! kernel as it is, and an initial file system of its modules, our agent as init, and busybox.
//!
//! Beside it lies what a test of that needs: an initial file system with which the same kernel becomes
//! a *host* with KVM (`tests/e2e/vm`).
//!
//! Everything comes from the distribution's archive by `apt-get download`; nothing is installed, and
//! no right is needed. The result is the same for the same packages, and made again only if one of
//! them, or the agent, is another.

pub mod cpio;
pub mod emulated;
mod modules;
pub mod services;

use anyhow::{Context, Result, bail, ensure};
use cpio::Archive;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::agent;
use crate::command::{execute, find, output_of, target_dir};

/// Debian's package that depends on the newest cloud kernel.
const KERNEL: &str = if cfg!(target_arch = "aarch64") {
    "linux-image-cloud-arm64"
} else {
    "linux-image-cloud-amd64"
};
/// The same with all drivers.
const STOCK_KERNEL: &str =
    if cfg!(target_arch = "aarch64") { "linux-image-arm64" } else { "linux-image-amd64" };
const BUSYBOX: &str = "busybox-static";
/// Tells what an image was made of; changes with what this file puts into it.
const STAMP: &str = "made-of";
const LAYOUT: &str = "layout 7";

/// Text files of the guest.
const FILES: &[(&str, &str)] = &[
    ("etc/passwd", "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n"),
    ("etc/group", "root:x:0:\ntty:x:5:\nnogroup:x:65534:\n"),
    ("etc/hosts", "127.0.0.1 localhost osxfs\n::1 localhost\n"),
];
/// What a DHCP client does with what it is told. Its first argument says what has happened.
const DHCP_SCRIPT: &str = include_str!("image/udhcpc.sh");
/// The users of a host are those that the suites act as.
const HOST_FILES: &[(&str, &str)] = &[
    (
        "etc/passwd",
        "root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1::/:/bin/false\nnobody:x:65534:65534::/:/bin/false\n",
    ),
    ("etc/group", "root:x:0:\ndaemon:x:1:\nnogroup:x:65534:\n"),
];
const FOLDERS: &[&str] = &["dev", "proc", "sys", "run", "tmp", "root", "mnt", "var", "etc"];

pub fn run() -> Result<()> {
    println!("{}", build()?.display());
    Ok(())
}

/// Makes the image if it is not there, and returns its folder.
pub fn build() -> Result<PathBuf> {
    let image = folder();
    let agent = agent::build()?;
    let files = packages(KERNEL)?;
    let built = fs::metadata(&agent)?;
    let agent_is = format!("osxfs-agent {} {:?}", built.len(), built.modified()?);
    made(&image, &files, &agent_is, |unpacked| fill(unpacked, &agent, &image))?;
    Ok(image)
}

/// Makes, if it is not there, Debian's kernel with all drivers, and an initial file system of busybox and
/// these modules. Returns the folder.
pub fn stock(wanted: &[&str]) -> Result<PathBuf> {
    let image = folder().join("stock");
    let files = packages(STOCK_KERNEL)?;
    made(&image, &files, &wanted.join(" "), |unpacked| {
        let (kernel, release) = kernel_of(unpacked)?;
        write(&image, "vmlinuz", &fs::read(&kernel)?)?;
        write(&image, "initrd", &system(unpacked, &release, wanted)?)?;
        write(&image, "release", release.as_bytes())
    })?;
    Ok(image)
}

/// Fills `image` with what is made of these packages and of something else, unless it is there.
fn made(
    image: &Path,
    files: &[PathBuf],
    more: &str,
    fill: impl FnOnce(&Path) -> Result<()>,
) -> Result<()> {
    fs::create_dir_all(image).with_context(|| format!("cannot make {}", image.display()))?;
    let (made_of, stamp) = (describe(files, more), image.join(STAMP));
    if fs::read_to_string(&stamp).is_ok_and(|before| before == made_of) {
        return Ok(());
    }
    // Half an image must not pass for one.
    let _ = fs::remove_file(&stamp);
    let unpacked = tempfile::tempdir_in(image).context("no folder to unpack into")?;
    for file in files {
        execute(Command::new("dpkg-deb").arg("--extract").arg(file).arg(unpacked.path()))?;
    }
    fill(unpacked.path())?;
    fs::write(&stamp, made_of).with_context(|| format!("cannot write {}", stamp.display()))
}

/// Downloads what an image is made of, so that it can be made later without a network.
pub fn fetch() -> Result<()> {
    packages(KERNEL)?;
    println!("setup: kernel and busybox of the guest: here");
    if services::provide()? {
        println!("setup: a guest with systemd and OpenRC: here");
    }
    Ok(())
}

/// Where the image is.
pub fn folder() -> PathBuf {
    target_dir().join("osxfs-image")
}

/// The files of the packages.
fn packages(kernel: &str) -> Result<Vec<PathBuf>> {
    let downloads = folder().join("downloads");
    fs::create_dir_all(&downloads)
        .with_context(|| format!("cannot make {}", downloads.display()))?;
    [kernel_package(kernel)?, BUSYBOX.to_owned()]
        .iter()
        .map(|package| download(package, &downloads))
        .collect()
}

/// The package that has the kernel itself, which this one depends on.
fn kernel_package(newest: &str) -> Result<String> {
    ensure!(
        find("apt-get").is_some() && find("dpkg-deb").is_some(),
        "the image is made of Debian's packages, and this system has no apt-get or dpkg-deb: make it on Debian or Ubuntu, or give your own with `osxfs vm run --kernel … --initrd …`"
    );
    let depends = || {
        let text = output_of(Command::new("apt-cache").args(["depends", newest]))?;
        let names = text.lines().filter_map(|line| line.trim().strip_prefix("Depends: "));
        names.map(str::to_owned).find(|name| name.starts_with("linux-image-"))
    };
    if let Some(package) = depends() {
        return Ok(package);
    }
    if !rustix::process::geteuid().is_root() {
        bail!("apt knows no package {newest}: run `sudo apt-get update`, then this again");
    }
    execute(Command::new("apt-get").args(["-qq", "update"]))?;
    depends().with_context(|| format!("apt knows no package {newest} in its archives"))
}

/// The package's file; downloaded if it is not there in the version that the archive has.
fn download(package: &str, into: &Path) -> Result<PathBuf> {
    let policy = output_of(Command::new("apt-cache").args(["policy", package]));
    let policy = policy.with_context(|| format!("`apt-cache policy {package}` failed"))?;
    let candidate = policy.lines().find_map(|line| line.trim().strip_prefix("Candidate: "));
    let version = candidate.with_context(|| format!("apt has no package {package}"))?;
    // apt writes colons of versions as %3a.
    let prefix = format!("{package}_{}_", version.replace(':', "%3a"));
    let present = || {
        let entries = fs::read_dir(into).ok()?.flatten();
        entries.map(|entry| entry.path()).find(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            name.starts_with(&prefix) && name.ends_with(".deb")
        })
    };
    if let Some(file) = present() {
        return Ok(file);
    }
    execute(
        Command::new("apt-get")
            .args(["-qq", "-o", "Acquire::Retries=3", "-o", "APT::Sandbox::User=root", "download"])
            .arg(format!("{package}={version}"))
            .current_dir(into),
    )?;
    present().with_context(|| format!("apt downloaded {package} under a name that is not expected"))
}

/// What the image is made of: the names of the packages' files tell their versions.
fn describe(packages: &[PathBuf], more: &str) -> String {
    let names = packages.iter().map(|file| file.file_name().unwrap_or_default().to_string_lossy());
    [LAYOUT.into()].into_iter().chain(names).chain([more.into()]).collect::<Vec<_>>().join("\n")
}

/// Puts kernel and initial file system into `image`.
fn fill(packages: &Path, agent: &Path, image: &Path) -> Result<()> {
    let (kernel, release) = kernel_of(packages)?;
    let mut archive = Archive::default();
    FOLDERS.iter().for_each(|folder| archive.folder(folder));
    // The kernel opens its console here, before init mounts anything.
    archive.character_device("dev/console", 5, 1);
    archive.file("init", 0o755, &emulated::stripped(agent)?);
    busybox(packages, &mut archive)?;
    for (path, text) in FILES {
        archive.file(path, 0o644, text.as_bytes());
    }
    archive.file("usr/share/udhcpc/default.script", 0o755, DHCP_SCRIPT.as_bytes());
    add_modules(&mut archive, modules::needed(packages, &release, modules::GUEST)?);
    write(image, "vmlinuz", &fs::read(&kernel)?)?;
    write(image, "initrd", &archive.finish())?;
    if cfg!(target_arch = "x86_64") {
        write(image, "host-initrd", &system(packages, &release, modules::HOST)?)?;
    }
    write(image, "release", release.as_bytes())
}

fn write(image: &Path, name: &str, bytes: &[u8]) -> Result<()> {
    let path = image.join(name);
    fs::write(&path, bytes).with_context(|| format!("cannot write {}", path.display()))
}

/// What a system of tests has at first, such as the host; the rest, also its init, is put behind it by
/// whoever boots it.
fn system(packages: &Path, release: &str, wanted: &[&str]) -> Result<Vec<u8>> {
    let mut archive = Archive::default();
    FOLDERS.iter().for_each(|folder| archive.folder(folder));
    archive.character_device("dev/console", 5, 1);
    busybox(packages, &mut archive)?;
    for (path, text) in HOST_FILES {
        archive.file(path, 0o644, text.as_bytes());
    }
    add_modules(&mut archive, modules::needed(packages, release, wanted)?);
    Ok(archive.finish())
}

/// Modules, and the list that says in which order they load.
fn add_modules(archive: &mut Archive, modules: Vec<modules::Module>) {
    let mut list = String::new();
    for module in modules {
        archive.file(&module.path, 0o644, &module.bytes);
        list.push('/');
        list.push_str(&module.path);
        list.push('\n');
    }
    archive.file("etc/osxfs/modules", 0o644, list.as_bytes());
}

/// The kernel's file and its release.
fn kernel_of(packages: &Path) -> Result<(PathBuf, String)> {
    for entry in fs::read_dir(packages.join("boot")).context("the kernel's package has no boot/")? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if let Some(release) = name.strip_prefix("vmlinuz-") {
            return Ok((path, release.to_owned()));
        }
    }
    bail!("the kernel's package has no kernel")
}

/// busybox under its own name and under those of its programs.
fn busybox(packages: &Path, archive: &mut Archive) -> Result<()> {
    let candidates = ["bin/busybox", "usr/bin/busybox"].map(|path| packages.join(path));
    let program = candidates.iter().find(|path| path.is_file());
    let program = program.context("the package of busybox has no bin/busybox")?;
    let listed = output_of(Command::new(program).arg("--list-full"));
    let listed = listed.context("`busybox --list-full` failed")?;
    archive.file("bin/busybox", 0o755, &fs::read(program)?);
    // These would be what ours is already.
    for path in
        listed.lines().filter(|path| !["linuxrc", "sbin/init", "bin/busybox"].contains(path))
    {
        archive.link(path, "/bin/busybox");
    }
    Ok(())
}
