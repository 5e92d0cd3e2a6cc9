//! `cargo xtask setup`: installs what building and testing need, and only what is missing.
//!
//! The sources: the distribution's packages; crates.io, the npm registry and PyPI, whose programs
//! go into [`tools_dir`]; and, where the distribution offers no second Rust with its sources,
//! rustup's target for `check-macos`.
//! At its end it leaves a stamp in [`tools_dir`]; from then on the end-to-end tests treat a
//! missing tool as a failure instead of skipping (as they do when `CI` is set).

use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::command::{cargo, codename, execute, find, output_of, tools_dir};
use crate::{image, macos};

#[derive(clap::Args)]
pub struct Options {
    /// Also install cargo-fuzz, for `cargo xtask fuzz`
    #[arg(long)]
    fuzz: bool,
}

/// How to see that a package is not needed.
pub enum Probe {
    /// A program that is found in `PATH` or among the system's.
    Program(&'static str),
    /// The package itself, where no program tells.
    Package,
}

/// What the tests use of the distribution, by the names of Debian and Ubuntu.
const PACKAGES: &[(&str, Probe)] = &[
    ("gcc", Probe::Program("cc")),
    ("libc6-dev", Probe::Package),
    ("fuse3", Probe::Program("fusermount3")),
    ("docker.io", Probe::Program("dockerd")),
    ("stress-ng", Probe::Program("stress-ng")),
    ("fio", Probe::Program("fio")),
    ("inotify-tools", Probe::Program("inotifywait")),
    ("attr", Probe::Program("setfattr")),
    ("acl", Probe::Program("setfacl")),
    ("sqlite3", Probe::Program("sqlite3")),
    ("git", Probe::Program("git")),
    ("busybox-static", Probe::Package),
    ("e2fsprogs", Probe::Program("mkfs.ext4")),
    ("util-linux", Probe::Program("setpriv")),
    ("tar", Probe::Program("tar")),
    ("nodejs", Probe::Program("node")),
    ("npm", Probe::Program("npm")),
    ("python3-venv", Probe::Package),
    ("passt", Probe::Program("passt")),
    ("mmdebstrap", Probe::Program("mmdebstrap")),
    ("xz-utils", Probe::Program("xz")),
];

/// Where Debian 12 has a newer QEMU.
const BACKPORTS: &str = "bookworm-backports";
const BACKPORTS_FILE: &str = "/etc/apt/sources.list.d/osxfs-backports.sources";
const BACKPORTS_SOURCE: &str = "Types: deb
URIs: http://deb.debian.org/debian
Suites: bookworm-backports
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
";

/// A second Rust beside rustup's, whose sources let `check-macos` build `std` for macOS. These
/// packages exclude the distribution's own `rustc`, which is therefore never replaced by them.
const SECOND_RUST: &[&str] = &["rustc-web", "cargo-web", "rust-web-src"];
const OTHER_RUSTS: &[&str] = &["rustc", "cargo", "rustup", "rust-src"];

/// A program from crates.io.
pub struct Crate {
    pub name: &'static str,
    pub version: &'static str,
    pub program: &'static str,
    /// cargo's profile: `dev` for what builds long and has little to do.
    pub profile: &'static str,
}

const CRATES: &[Crate] = &[
    Crate { name: "pjdfstest", version: "0.2.2", program: "pjdfstest", profile: "release" },
    Crate { name: "fsx", version: "0.3.2", program: "fsx", profile: "release" },
    Crate { name: "cargo-watch", version: "8.5.3", program: "cargo-watch", profile: "dev" },
];
const FUZZ_CRATES: &[Crate] =
    &[Crate { name: "cargo-fuzz", version: "0.13.2", program: "cargo-fuzz", profile: "release" }];

/// Watchers from the npm registry, and what their tests load: the newest that run on Node.js 20.
const NODE_MODULES: &[(&str, &str)] = &[
    ("chokidar", "4.0.3"),
    ("nodemon", "3.1.14"),
    ("typescript", "5.9.3"),
    ("vite", "7.3.8"),
    ("vitest", "3.2.7"),
    ("webpack", "5.112.2"),
    ("webpack-cli", "6.0.1"),
    ("ws", "8.23.0"),
];

/// A watcher from PyPI: the package, its version, its program.
const WATCHDOG: (&str, &str, &str) = ("watchdog", "6.0.0", "watchmedo");

/// The file in [`tools_dir`] that says that a setup has succeeded.
const STAMP: &str = "setup-is-done";

pub fn run(options: &Options) -> Result<()> {
    if cfg!(target_os = "linux") {
        packages()?;
        qemu()?;
        image::fetch()?;
        macos_std()?;
        crates(CRATES)?;
        node_modules()?;
        watchdog()?;
    } else {
        println!("setup: no packages are needed on this system, as its mounts need Linux");
    }
    if options.fuzz {
        crates(FUZZ_CRATES)?;
    }
    let stamp = tools_dir().join(STAMP);
    std::fs::create_dir_all(tools_dir())
        .and_then(|()| std::fs::write(&stamp, ""))
        .with_context(|| format!("cannot write {}", stamp.display()))?;
    println!("setup: done");
    Ok(())
}

fn packages() -> Result<()> {
    if !provide(PACKAGES)? {
        println!("setup: packages: nothing to do");
    }
    Ok(())
}

/// Installs what is missing of these, and tells whether anything was.
pub fn provide(packages: &[(&'static str, Probe)]) -> Result<bool> {
    let missing: Vec<&str> = packages
        .iter()
        .filter(|(package, probe)| match probe {
            Probe::Program(program) => find(program).is_none(),
            Probe::Package => !is_installed(package),
        })
        .map(|(package, _)| *package)
        .collect();
    if missing.is_empty() {
        return Ok(false);
    }
    install(&missing)?;
    Ok(true)
}

/// QEMU, whose emulated AMD-V is the host of the VM tests, and its tools: both of one suite, or they
/// do not go together. Debian 12's own (7.2) loses its own kernel after a minute of such a guest, so
/// there both come from the backports.
fn qemu() -> Result<()> {
    const QEMU: [&str; 2] = ["qemu-system-x86", "qemu-utils"];
    if find("qemu-system-x86_64").is_some() && find("qemu-img").is_some() {
        println!("setup: QEMU: nothing to do");
        return Ok(());
    }
    let is_bookworm = codename().is_some_and(|name| name == "bookworm");
    if !(is_bookworm && is_root()) {
        return install(&QEMU);
    }
    let offers = output_of(Command::new("apt-cache").args(["policy", QEMU[0]])).unwrap_or_default();
    if !offers.contains(BACKPORTS) {
        std::fs::write(BACKPORTS_FILE, BACKPORTS_SOURCE)
            .with_context(|| format!("cannot write {BACKPORTS_FILE}"))?;
    }
    println!("setup: QEMU: from {BACKPORTS}");
    apt_get(&["update"])?;
    let mut arguments = vec!["install", "--yes", "--no-install-recommends", "-t", BACKPORTS];
    arguments.extend(QEMU);
    apt_get(&arguments)
}

/// Provides a standard library of macOS for `check-macos`, by whichever way is open.
fn macos_std() -> Result<()> {
    if macos::std_source().is_some() {
        println!("setup: macOS target: nothing to do");
        return Ok(());
    }
    if OTHER_RUSTS.iter().all(|package| !is_installed(package)) && has_candidate(SECOND_RUST[0])? {
        return install(SECOND_RUST);
    }
    println!("setup: macOS target: rustup target add {}", macos::TARGET);
    execute(Command::new("rustup").args(["target", "add", macos::TARGET]))
}

/// Whether the distribution's lists offer `package`; they are fetched if they do not know it.
fn has_candidate(package: &str) -> Result<bool> {
    let known = || {
        output_of(Command::new("apt-cache").args(["policy", package]))
            .is_some_and(|text| text.contains("Candidate:") && !text.contains("(none)\n  Version"))
    };
    if known() {
        return Ok(true);
    }
    if !find("apt-get").is_some_and(|_| is_root()) {
        return Ok(false);
    }
    apt_get(&["update"])?;
    Ok(known())
}

fn install(packages: &[&str]) -> Result<()> {
    let list = packages.join(" ");
    if find("apt-get").is_none() {
        bail!("this system has no apt-get; install these by hand (Debian's names): {list}");
    }
    if !is_root() {
        bail!(
            "packages are missing and only root can install them; run\n    \
             sudo apt-get update && sudo apt-get install --no-install-recommends {list}\n\
             and then `cargo xtask setup` again"
        );
    }
    println!("setup: packages: {list}");
    apt_get(&["update"])?;
    let mut arguments = vec!["install", "--yes", "--no-install-recommends"];
    arguments.extend(packages);
    apt_get(&arguments)
}

fn apt_get(arguments: &[&str]) -> Result<()> {
    execute(
        Command::new("apt-get")
            .args(["-qq", "-o", "Acquire::Retries=3", "-o", "Dpkg::Use-Pty=0"])
            .args(arguments)
            .env("DEBIAN_FRONTEND", "noninteractive"),
    )
}

fn is_installed(package: &str) -> bool {
    output_of(Command::new("dpkg-query").args([
        "--show",
        "--showformat=${db:Status-Status}",
        package,
    ]))
    .is_some_and(|status| status == "installed")
}

fn crates(list: &[Crate]) -> Result<()> {
    for wanted in list {
        if !provide_crate(wanted)? {
            println!("setup: {} {}: nothing to do", wanted.name, wanted.version);
        }
    }
    Ok(())
}

/// Builds it into [`tools_dir`] if it is not there, and tells whether that was so.
pub fn provide_crate(Crate { name, version, program, profile }: &Crate) -> Result<bool> {
    let root = tools_dir();
    // cargo records what it installed under a root; ask the record, not the program.
    let record = std::fs::read_to_string(root.join(".crates.toml")).unwrap_or_default();
    let present = record.contains(&format!("\"{name} {version} "));
    if present && root.join("bin").join(program).is_file() {
        return Ok(false);
    }
    println!("setup: {name} {version}: building into {}", root.display());
    let mut install = cargo(["install", "--locked", "--quiet", "--force", "--profile", profile]);
    // Built apart from the workspace: its flags and its target folder are not for these.
    install.arg("--root").arg(root).arg(format!("{name}@{version}"));
    execute(install.current_dir("/").env_remove("CARGO_TARGET_DIR"))?;
    Ok(true)
}

/// Installs into `lib/node_modules` of the tools, and their programs beside the crates'.
fn node_modules() -> Result<()> {
    let root = tools_dir();
    let present = |&(name, version): &(&str, &str)| {
        let manifest = root.join("lib/node_modules").join(name).join("package.json");
        let manifest = std::fs::read_to_string(manifest).unwrap_or_default();
        manifest.contains(&format!("\"version\": \"{version}\""))
    };
    if NODE_MODULES.iter().all(present) {
        println!("setup: npm: nothing to do");
        return Ok(());
    }
    println!("setup: npm: installing into {}", root.display());
    let mut install = Command::new("npm");
    install.args(["install", "--global", "--no-audit", "--no-fund", "--loglevel=error"]);
    install.arg("--prefix").arg(root);
    install.args(NODE_MODULES.iter().map(|(name, version)| format!("{name}@{version}")));
    execute(&mut install)
}

/// Installs into a Python environment of its own, as the distribution's is not for PyPI.
fn watchdog() -> Result<()> {
    let (name, version, program) = WATCHDOG;
    let environment = tools_dir().join("python");
    let python = environment.join("bin/python");
    let link = tools_dir().join("bin").join(program);
    let ask = format!("import importlib.metadata as m; print(m.version('{name}'))");
    let installed = output_of(Command::new(&python).args(["-c", &ask]));
    if installed.is_some_and(|installed| installed == version) && link.is_file() {
        println!("setup: {name} {version}: nothing to do");
        return Ok(());
    }
    println!("setup: {name} {version}: installing into {}", environment.display());
    execute(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&environment))?;
    let package = format!("{name}=={version}");
    execute(Command::new(python).args(["-m", "pip", "install", "--quiet", &package]))?;
    execute(Command::new("ln").arg("-sfn").arg(environment.join("bin").join(program)).arg(link))
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}
