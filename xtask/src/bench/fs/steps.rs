//! The steps of a round. Each does something on one file system, and measures some rows of it.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

use anyhow::{Context, Result, anyhow, bail, ensure};

use super::material::{self, FILE_SIZE, FILES, Material, SMALL_SIZE, git, npm_install};
use super::measure::Meter;
use super::rows::Row;

/// Bytes of a read and a write of the large file, as `cat` and `cp` do.
const READ: usize = 128 << 10;
const WRITE: usize = 1 << 20;
/// Of a read at a random place.
const PAGE: usize = 4096;
const READERS: u32 = 8;

/// What is done on each file system in turn.
pub struct Step {
    pub rows: &'static [Row],
    pub run: fn(&mut Meter<'_>, &Material) -> Result<()>,
}

/// In this order: what is made first is used by those that follow, and removed by a later one.
pub const STEPS: &[Step] = &[
    Step { rows: &[Row::Create], run: create },
    Step { rows: &[Row::FindCold, Row::FindWarm], run: find },
    Step { rows: &[Row::GrepCold, Row::GrepWarm], run: grep },
    Step { rows: &[Row::ReadersTree], run: readers_of_the_tree },
    Step { rows: &[Row::Remove], run: remove },
    Step { rows: &[Row::StatusCold, Row::StatusWarm], run: status },
    Step { rows: &[Row::Checkout], run: checkout },
    Step { rows: &[Row::Write], run: write },
    Step { rows: &[Row::ReadCold, Row::ReadWarm], run: read },
    Step { rows: &[Row::Random], run: random },
    Step { rows: &[Row::ReadersData], run: readers_of_one_file },
    Step { rows: &[Row::StatCold, Row::StatWarm, Row::StatWarmP99], run: stat },
    Step { rows: &[Row::OpenCold, Row::OpenWarm, Row::OpenWarmP99], run: open },
    Step { rows: &[Row::Make, Row::MakeP99], run: make },
    Step { rows: &[Row::Npm], run: npm },
    Step { rows: &[Row::Cargo], run: cargo },
];

/// The tree of small files, as it is used.
struct Tree(PathBuf);

impl Tree {
    fn of(meter: &Meter<'_>) -> Self {
        Self(meter.running().path().join("tree"))
    }

    fn directory(&self, number: u32) -> PathBuf {
        self.0.join(format!("d{number}"))
    }

    fn make(&self, material: &Material) -> Result<()> {
        let content = material::text(0, FILE_SIZE);
        fs::create_dir(&self.0)?;
        for number in 0..material.sizes.directories {
            let directory = self.directory(number);
            fs::create_dir(&directory)?;
            for file in 0..FILES {
                File::create_new(directory.join(format!("f{file}")))?.write_all(&content)?;
            }
        }
        Ok(())
    }

    /// Makes it if no step has.
    fn ensure(&self, material: &Material) -> Result<()> {
        if self.0.exists() { Ok(()) } else { self.make(material) }
    }
}

fn create(meter: &mut Meter<'_>, material: &Material) -> Result<()> {
    let tree = Tree::of(meter);
    remove_all(&tree.0)?;
    meter.cold(Row::Create, || tree.make(material))
}

fn find(meter: &mut Meter<'_>, material: &Material) -> Result<()> {
    let tree = Tree::of(meter);
    tree.ensure(material)?;
    let find = || run(Command::new("find").args([".", "-ls"]).current_dir(&tree.0), &[0]);
    meter.cold(Row::FindCold, find)?;
    meter.warm(Row::FindWarm, find)
}

fn grep(meter: &mut Meter<'_>, material: &Material) -> Result<()> {
    let tree = Tree::of(meter);
    tree.ensure(material)?;
    let mut grep = Command::new("grep");
    grep.args(["-r", "what no file contains", "."]).current_dir(&tree.0);
    // No line is found.
    let mut grep = || run(&mut grep, &[1]);
    meter.cold(Row::GrepCold, &mut grep)?;
    meter.warm(Row::GrepWarm, grep)
}

fn readers_of_the_tree(meter: &mut Meter<'_>, material: &Material) -> Result<()> {
    let tree = Tree::of(meter);
    tree.ensure(material)?;
    meter.cold(Row::ReadersTree, || {
        readers(|reader| {
            for number in (reader..material.sizes.directories).step_by(READERS as usize) {
                for file in 0..FILES {
                    let content = fs::read(tree.directory(number).join(format!("f{file}")))?;
                    ensure!(content.len() == FILE_SIZE, "a file has {} bytes", content.len());
                }
            }
            Ok(())
        })
    })
}

fn remove(meter: &mut Meter<'_>, material: &Material) -> Result<()> {
    let tree = Tree::of(meter);
    tree.ensure(material)?;
    meter.cold(Row::Remove, || run(Command::new("rm").arg("-r").arg(&tree.0), &[0]))
}

fn status(meter: &mut Meter<'_>, _: &Material) -> Result<()> {
    let repository = meter.running().path().join("repository");
    let status = || run(&mut git(&repository, &["status"]), &[0]);
    // What an earlier step has changed is entered into the index first.
    status()?;
    meter.cold(Row::StatusCold, status)?;
    meter.warm(Row::StatusWarm, status)
}

fn checkout(meter: &mut Meter<'_>, _: &Material) -> Result<()> {
    let repository = meter.running().path().join("repository");
    meter.forget_all()?;
    run(&mut git(&repository, &["status"]), &[0])?;
    let head = fs::read_to_string(repository.join(".git/HEAD"))?;
    let other = if head.trim_end().ends_with("one") { "two" } else { "one" };
    meter.once(Row::Checkout, || run(&mut git(&repository, &["checkout", "--quiet", other]), &[0]))
}

fn large(meter: &Meter<'_>) -> PathBuf {
    meter.running().path().join("large")
}

fn write_large(path: &Path, material: &Material) -> Result<()> {
    let block = material::text(0, WRITE);
    let mut file = File::create_new(path)?;
    for _ in 0..material.sizes.large / WRITE as u64 {
        file.write_all(&block)?;
    }
    Ok(file.sync_all()?)
}

fn ensure_large(path: &Path, material: &Material) -> Result<()> {
    if path.exists() { Ok(()) } else { write_large(path, material) }
}

fn write(meter: &mut Meter<'_>, material: &Material) -> Result<()> {
    let path = large(meter);
    remove_all(&path)?;
    meter.cold(Row::Write, || write_large(&path, material))
}

fn read(meter: &mut Meter<'_>, material: &Material) -> Result<()> {
    let path = large(meter);
    ensure_large(&path, material)?;
    let read = || {
        let (mut file, mut buffer, mut bytes) = (File::open(&path)?, vec![0; READ], 0);
        loop {
            match file.read(&mut buffer)? {
                0 => break,
                length => bytes += length as u64,
            }
        }
        ensure!(bytes == material.sizes.large, "the file ended after {bytes} bytes");
        Ok(())
    };
    meter.cold(Row::ReadCold, read)?;
    meter.warm(Row::ReadWarm, read)
}

fn random(meter: &mut Meter<'_>, material: &Material) -> Result<()> {
    let path = large(meter);
    ensure_large(&path, material)?;
    let pages = material.sizes.large / PAGE as u64;
    meter.cold(Row::Random, || {
        let (file, mut buffer) = (File::open(&path)?, [0; PAGE]);
        // Numbers that look random and are the same in each run (Knuth's MMIX generator).
        let mut state = 1_u64;
        for _ in 0..material.sizes.random / PAGE as u64 {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            file.read_exact_at(&mut buffer, (state >> 32) % pages * PAGE as u64)?;
        }
        Ok(())
    })
}

fn readers_of_one_file(meter: &mut Meter<'_>, material: &Material) -> Result<()> {
    let path = large(meter);
    ensure_large(&path, material)?;
    let part = material.sizes.large / u64::from(READERS);
    meter.cold(Row::ReadersData, || {
        readers(|reader| {
            let (file, mut buffer) = (File::open(&path)?, vec![0; READ]);
            let start = part * u64::from(reader);
            for offset in (start..start + part).step_by(READ) {
                file.read_exact_at(&mut buffer, offset)?;
            }
            Ok(())
        })
    })
}

/// Files that are there from the beginning.
fn small(meter: &Meter<'_>, count: u32) -> Vec<PathBuf> {
    numbered(&meter.running().path().join("small"), count)
}

/// Paths that are made before the time is taken.
fn numbered(folder: &Path, count: u32) -> Vec<PathBuf> {
    (0..count).map(|number| folder.join(number.to_string())).collect()
}

fn stat(meter: &mut Meter<'_>, material: &Material) -> Result<()> {
    let count = material.sizes.singles;
    let paths = small(meter, count);
    let stat = |number: u32| Ok(fs::symlink_metadata(&paths[number as usize]).map(drop)?);
    meter.forget_all()?;
    meter.each((Row::StatCold, None), count, stat)?;
    meter.each((Row::StatWarm, Some(Row::StatWarmP99)), count, stat)
}

fn open(meter: &mut Meter<'_>, material: &Material) -> Result<()> {
    let count = material.sizes.singles;
    let paths = small(meter, count);
    let mut buffer = [0; SMALL_SIZE];
    let mut open = |number: u32| Ok(File::open(&paths[number as usize])?.read_exact(&mut buffer)?);
    meter.forget_all()?;
    meter.each((Row::OpenCold, None), count, &mut open)?;
    meter.each((Row::OpenWarm, Some(Row::OpenWarmP99)), count, open)
}

fn make(meter: &mut Meter<'_>, material: &Material) -> Result<()> {
    let folder = meter.running().path().join("made");
    remove_all(&folder)?;
    fs::create_dir(&folder)?;
    let content = material::text(0, SMALL_SIZE);
    let paths = numbered(&folder, material.sizes.singles);
    let make = |number: u32| Ok(File::create_new(&paths[number as usize])?.write_all(&content)?);
    meter.forget_all()?;
    meter.each((Row::Make, Some(Row::MakeP99)), material.sizes.singles, make)?;
    remove_all(&folder)
}

fn npm(meter: &mut Meter<'_>, material: &Material) -> Result<()> {
    let folder = meter.running().path().join("npm");
    remove_all(&folder.join("node_modules"))?;
    meter.forget_all()?;
    // The program and its cache lie on the local disk, which is not what is measured.
    run(Command::new("npm").arg("--version"), &[0])?;
    run(Command::new("grep").args(["-rc", "^"]).arg(&material.npm_cache), &[0])?;
    meter.once(Row::Npm, || run(&mut npm_install(&folder, &material.npm_cache, true), &[0]))?;
    ensure!(folder.join("node_modules/webpack/package.json").is_file(), "nothing was installed");
    remove_all(&folder.join("node_modules"))
}

fn cargo(meter: &mut Meter<'_>, material: &Material) -> Result<()> {
    let folder = meter.running().path().join("cargo");
    let target = folder.join("target");
    remove_all(&target)?;
    meter.forget_all()?;
    // The compiler lies on the local disk, and is not what is measured.
    remove_all(&material.cargo.join("target"))?;
    build(&material.cargo)?;
    meter.once(Row::Cargo, || build(&folder))?;
    ensure!(target.join("debug").is_dir(), "nothing was built");
    remove_all(&target)
}

fn build(workspace: &Path) -> Result<()> {
    let mut build = Command::new("cargo");
    build.args(["build", "--offline", "--quiet"]).current_dir(workspace);
    run(build.env_remove("CARGO_TARGET_DIR").env_remove("RUSTFLAGS"), &[0])
}

/// Several readers at once.
fn readers(read: impl Fn(u32) -> Result<()> + Sync) -> Result<()> {
    thread::scope(|scope| {
        let read = &read;
        let readers: Vec<_> =
            (0..READERS).map(|reader| scope.spawn(move || read(reader))).collect();
        readers
            .into_iter()
            .try_for_each(|reader| reader.join().map_err(|_| anyhow!("a reader panicked"))?)
    })
}

fn remove_all(path: &Path) -> Result<()> {
    if path.symlink_metadata().is_err() {
        return Ok(());
    }
    run(Command::new("rm").arg("-rf").arg(path), &[0])
}

/// Runs a program to its end; it must end with one of these codes.
fn run(command: &mut Command, codes: &[i32]) -> Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .and_then(std::process::Child::wait_with_output)
        .with_context(|| format!("cannot start {name}"))?;
    if !output.status.code().is_some_and(|code| codes.contains(&code)) {
        let said = String::from_utf8_lossy(&output.stderr);
        let first = said.lines().next().unwrap_or_default();
        bail!("{name} failed ({}): {first}", output.status);
    }
    Ok(())
}
