//! What the rows work on, the same for every file system: a repository with two branches, small
//! files, a Cargo workspace, the packages of an `npm install`.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use super::peers;
use crate::command::execute;

/// Files of a directory of the tree.
pub const FILES: u32 = 100;
/// Their size.
pub const FILE_SIZE: usize = 1500;
/// Of the files that are opened one by one.
pub const SMALL_SIZE: usize = 4096;

/// What `npm install` installs.
const PACKAGES: &str = r#"{
  "name": "bench", "version": "1.0.0", "private": true,
  "dependencies": {"webpack": "5.112.2", "chokidar": "4.0.3", "ws": "8.23.0"}
}
"#;
/// Members of the Cargo workspace, and functions of each.
const CRATES: u32 = 8;
const FUNCTIONS: u32 = 20;

/// How large everything is.
#[derive(Clone, Copy)]
pub struct Sizes {
    pub directories: u32,
    /// Bytes of the large file.
    pub large: u64,
    /// Bytes read at random places of it.
    pub random: u64,
    /// Things that are done one by one.
    pub singles: u32,
}

impl Sizes {
    pub const FULL: Self =
        Self { directories: 150, large: 512 << 20, random: 32 << 20, singles: 2000 };
    pub const QUICK: Self =
        Self { directories: 20, large: 64 << 20, random: 4 << 20, singles: 300 };
    /// For a guest with an emulated processor.
    pub const GUEST: Self =
        Self { directories: 10, large: 32 << 20, random: 2 << 20, singles: 200 };
    pub const GUEST_QUICK: Self =
        Self { directories: 5, large: 16 << 20, random: 1 << 20, singles: 100 };

    pub fn files(&self) -> u32 {
        self.directories * FILES
    }

    pub fn line(&self) -> String {
        let Self { directories, large, random, singles } = self;
        format!(
            "Tree and repository: {} files of {FILE_SIZE} bytes in {directories} directories; \
             large file: {} MiB, {} MiB of it read at random; {singles} single operations",
            self.files(),
            large >> 20,
            random >> 20,
        )
    }
}

/// What the steps have to know of it.
pub struct Material {
    pub sizes: Sizes,
    /// The cache of npm, so that no network is measured.
    pub npm_cache: PathBuf,
    /// The Cargo workspace that the copies were made of, on the local disk.
    pub cargo: PathBuf,
}

/// Everything, ready to be copied.
pub struct Template {
    pub material: Material,
    folder: TempDir,
}

impl Template {
    /// Makes it below `base`.
    pub fn make(sizes: Sizes, base: &Path) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("osxfs-bench-template-").tempdir_in(base)?;
        let (root, packages) = (folder.path(), npm_packages()?);
        repository(&root.join("repository"), sizes)?;
        let small = root.join("small");
        fs::create_dir(&small)?;
        for number in 0..sizes.singles {
            fs::write(small.join(number.to_string()), text(number, SMALL_SIZE))?;
        }
        let cargo = root.join("cargo");
        cargo_workspace(&cargo)?;
        let npm = root.join("npm");
        fs::create_dir(&npm)?;
        for file in ["package.json", "package-lock.json"] {
            fs::copy(packages.join(file), npm.join(file))?;
        }
        let material = Material { sizes, npm_cache: packages.join("cache"), cargo };
        Ok(Self { material, folder })
    }

    /// Puts a copy into a folder.
    pub fn copy_to(&self, folder: &Path) -> Result<()> {
        let mut from = self.folder.path().as_os_str().to_owned();
        from.push("/.");
        execute(Command::new("cp").arg("-a").arg(from).arg(folder))?;
        // The copies are other files: git looks into all of them once.
        execute(&mut git(&folder.join("repository"), &["status", "--short"]))
    }
}

/// Printable content that differs from file to file.
pub fn text(number: u32, size: usize) -> Vec<u8> {
    let line = format!("{number:08} all that a line of a file says is this and no more\n");
    line.bytes().cycle().take(size).collect()
}

/// `git` in this folder, with no settings but ours.
pub fn git(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new("git");
    command.args([
        "-c",
        "gc.auto=0",
        "-c",
        "maintenance.auto=false",
        "-c",
        "advice.detachedHead=false",
    ]);
    command.args(arguments).current_dir(folder).stdin(Stdio::null());
    command.env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_CONFIG_GLOBAL", "/dev/null");
    command
}

/// Two branches, `one` (checked out) and `two`, with the same names and other content.
fn repository(folder: &Path, sizes: Sizes) -> Result<()> {
    fs::create_dir(folder)?;
    execute(&mut git(folder, &["init", "--quiet", "--initial-branch", "one"]))?;
    let mut import = git(folder, &["fast-import", "--quiet"])
        .stdin(Stdio::piped())
        .spawn()
        .context("cannot start git fast-import")?;
    let mut stream = BufWriter::new(import.stdin.take().context("no standard input")?);
    for (branch, first) in [("one", 0), ("two", sizes.files())] {
        writeln!(stream, "commit refs/heads/{branch}")?;
        writeln!(stream, "committer Bench <bench@localhost> 1700000000 +0000\ndata 5\nfiles")?;
        for number in 0..sizes.files() {
            let (directory, file) = (number / FILES, number % FILES);
            writeln!(stream, "M 644 inline d{directory}/f{file}\ndata {FILE_SIZE}")?;
            stream.write_all(&text(first + number, FILE_SIZE))?;
            writeln!(stream)?;
        }
    }
    drop(stream);
    let status = import.wait()?;
    if !status.success() {
        bail!("git fast-import failed: {status}");
    }
    execute(&mut git(folder, &["checkout", "--quiet", "--force", "one"]))
}

/// Crates without dependencies but each other.
fn cargo_workspace(folder: &Path) -> Result<()> {
    fs::create_dir(folder)?;
    let names: Vec<String> = (0..CRATES).map(|number| format!("part{number}")).collect();
    fs::write(
        folder.join("Cargo.toml"),
        format!("[workspace]\nresolver = \"3\"\nmembers = {names:?}\n"),
    )?;
    for (number, name) in names.iter().enumerate() {
        fs::create_dir_all(folder.join(name).join("src"))?;
        let mut manifest =
            format!("[package]\nname = {name:?}\nversion = \"0.1.0\"\nedition = \"2024\"\n");
        let mut code = String::new();
        if let Some(before) = number.checked_sub(1).and_then(|before| names.get(before)) {
            write!(manifest, "\n[dependencies]\n{before} = {{ path = \"../{before}\" }}\n")?;
            writeln!(code, "pub use {before}::function0 as before;")?;
        }
        for function in 0..FUNCTIONS {
            writeln!(
                code,
                "pub fn function{function}(words: &[&str]) -> String {{\n    \
                 words.iter().map(|word| word.repeat({function})).collect::<Vec<_>>().join(\" \")\n}}"
            )?;
        }
        fs::write(folder.join(name).join("Cargo.toml"), manifest)?;
        fs::write(folder.join(name).join("src/lib.rs"), code)?;
    }
    Ok(())
}

/// A lock file, and a cache with all that it names; fetched when the bench first runs.
fn npm_packages() -> Result<PathBuf> {
    let folder = peers::folder().join("npm");
    let manifest = folder.join("package.json");
    let present = fs::read_to_string(&manifest).is_ok_and(|text| text == PACKAGES);
    if present && folder.join("fetched").is_file() {
        return Ok(folder);
    }
    println!("bench: fetching the packages of `npm install`");
    _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder)?;
    fs::write(manifest, PACKAGES)?;
    execute(&mut npm_install(&folder, &folder.join("cache"), false))?;
    fs::remove_dir_all(folder.join("node_modules"))?;
    File::create(folder.join("fetched"))?;
    Ok(folder)
}

/// `npm install` in this folder.
pub fn npm_install(folder: &Path, cache: &Path, offline: bool) -> Command {
    let mut command = Command::new("npm");
    command.args(["install", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]);
    // A lock file without addresses would make npm ask for what its cache does not hold.
    command.args(["--no-update-notifier", "--omit-lockfile-registry-resolved=false"]);
    command.arg("--cache").arg(cache).current_dir(folder);
    if offline {
        command.arg("--offline");
    }
    command.stdin(Stdio::null()).stdout(Stdio::null());
    command
}
