//! The file systems that osxfs is compared with. They come from the distribution's packages when the
//! bench first runs; libfuse's `passthrough_hp`, an example that no package holds, is built from the
//! distribution's source package.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::command::{codename, execute, output_of, tools_dir};
use crate::setup::{Probe, provide};

/// What the peers need, and the rows that run programs.
const PACKAGES: &[(&str, Probe)] = &[
    ("fuse3", Probe::Program("fusermount3")),
    ("sshfs", Probe::Program("sshfs")),
    ("bindfs", Probe::Program("bindfs")),
    ("openssh-sftp-server", Probe::Package),
    ("libfuse3-dev", Probe::Package),
    ("g++", Probe::Program("g++")),
    ("pkg-config", Probe::Program("pkg-config")),
    ("dpkg-dev", Probe::Program("dpkg-source")),
    ("git", Probe::Program("git")),
    ("npm", Probe::Program("npm")),
    ("util-linux", Probe::Program("setpriv")),
];

/// Where Debian's package puts it: in no `PATH`.
const SFTP_SERVER: &str = "/usr/lib/openssh/sftp-server";

/// The peers' programs.
pub struct Peers {
    pub passthrough_hp: PathBuf,
    pub sftp_server: PathBuf,
    pub versions: String,
}

/// Where everything is kept that the bench obtains.
pub fn folder() -> PathBuf {
    tools_dir().join("bench")
}

/// Installs and builds what is missing.
pub fn obtain() -> Result<Peers> {
    provide(PACKAGES)?;
    let fuse = version_of("libfuse3-dev").context("libfuse3-dev has no version")?;
    let passthrough_hp = folder().join(format!("passthrough_hp-{fuse}"));
    if !passthrough_hp.is_file() {
        build(&passthrough_hp)?;
    }
    let mut versions = format!("passthrough_hp of fuse3 {fuse} (its defaults)");
    for package in ["bindfs", "sshfs", "openssh-sftp-server"] {
        let version = version_of(package).unwrap_or_else(|| "unknown".into());
        write!(versions, ", {package} {version}")?;
    }
    Ok(Peers { passthrough_hp, sftp_server: SFTP_SERVER.into(), versions })
}

/// Builds `passthrough_hp` from the source package, in a folder that is gone afterwards.
fn build(target: &Path) -> Result<()> {
    println!("bench: building {}", target.display());
    fs::create_dir_all(folder())?;
    let scratch = tempfile::tempdir_in(folder())?;
    let apt = PrivateApt::new(scratch.path())?;
    apt.run(&["update"])?;
    apt.run(&["source", "fuse3"])?;
    let entries = fs::read_dir(scratch.path())?.filter_map(Result::ok);
    let sources = entries.map(|entry| entry.path().join("example/passthrough_hp.cc"));
    let source =
        sources.into_iter().find(|path| path.is_file()).context("no passthrough_hp.cc in fuse3")?;
    let mut flags = Command::new("pkg-config");
    let flags = output_of(flags.args(["--cflags", "--libs", "fuse3"]))
        .context("pkg-config does not know fuse3")?;
    let built = scratch.path().join("passthrough_hp");
    let mut compile = Command::new("g++");
    compile.arg("-O2").arg("-o").arg(&built).arg(source).args(flags.split_whitespace());
    execute(&mut compile)?;
    fs::rename(built, target).with_context(|| target.display().to_string())
}

/// `apt-get` with source packages, whose settings and lists are apart from the system's.
struct PrivateApt<'a> {
    folder: &'a Path,
}

impl<'a> PrivateApt<'a> {
    /// The system's own sources of the distribution, as sources of source packages.
    fn new(folder: &'a Path) -> Result<Self> {
        let codename = codename().context("/etc/os-release tells no VERSION_CODENAME")?;
        let codename = codename.as_str();
        let list = fs::read_to_string("/etc/apt/sources.list").unwrap_or_default();
        let (mut lines, mut stanzas) = (source_lines(&list, codename), String::new());
        for entry in fs::read_dir("/etc/apt/sources.list.d")?.filter_map(Result::ok) {
            let text = fs::read_to_string(entry.path()).unwrap_or_default();
            match entry.path().extension().and_then(|extension| extension.to_str()) {
                Some("list") => lines += &source_lines(&text, codename),
                Some("sources") => stanzas += &source_stanzas(&text, codename),
                _ => {}
            }
        }
        if lines.is_empty() && stanzas.is_empty() {
            bail!("no source of packages of {codename} in /etc/apt");
        }
        fs::create_dir_all(folder.join("apt"))?;
        fs::create_dir_all(folder.join("lists/partial"))?;
        fs::write(folder.join("apt/source.list"), lines)?;
        fs::write(folder.join("apt/source.sources"), stanzas)?;
        Ok(Self { folder })
    }

    fn run(&self, arguments: &[&str]) -> Result<()> {
        let option =
            |name: &str, path: &str| format!("{name}={}", self.folder.join(path).display());
        let mut command = Command::new("apt-get");
        command.args(["-qq", "-o", "Dir::Etc::SourceList=/dev/null", "-o"]);
        command.arg(option("Dir::Etc::SourceParts", "apt")).arg("-o");
        command.arg(option("Dir::State::Lists", "lists")).args(["-o", "APT::Sandbox::User=root"]);
        execute(command.args(arguments).current_dir(self.folder))
    }
}

/// One-line entries of this release, asking for sources.
fn source_lines(text: &str, codename: &str) -> String {
    let ours = text.lines().filter_map(|line| line.strip_prefix("deb "));
    let ours = ours.filter(|line| line.split_whitespace().any(|word| word == codename));
    ours.map(|line| format!("deb-src {line}\n")).collect()
}

/// The same of entries in stanzas.
fn source_stanzas(text: &str, codename: &str) -> String {
    let suites = |stanza: &&str| {
        let mut lines = stanza.lines().filter_map(|line| line.strip_prefix("Suites:"));
        lines.any(|suites| suites.split_whitespace().any(|suite| suite == codename))
    };
    let ours = text.split("\n\n").filter(suites);
    ours.map(|stanza| stanza.replace("Types: deb", "Types: deb-src").trim().to_owned() + "\n\n")
        .collect()
}

fn version_of(package: &str) -> Option<String> {
    let mut query = Command::new("dpkg-query");
    output_of(query.args(["--show", "--showformat=${Version}", package]))
        .filter(|version| !version.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_entries_of_the_release_become_sources() {
        let text = "deb [signed-by=/k] http://a stable main\ndeb http://b other main\n# deb http://c stable x\n";
        assert_eq!(source_lines(text, "stable"), "deb-src [signed-by=/k] http://a stable main\n");
        let text = "Types: deb\nURIs: http://a\nSuites: stable stable-updates\n\nTypes: deb\nURIs: http://b\nSuites: nodistro\n";
        assert_eq!(
            source_stanzas(text, "stable"),
            "Types: deb-src\nURIs: http://a\nSuites: stable stable-updates\n\n"
        );
    }
}
