//! Which modules of a kernel's package a guest (or a host of tests) needs, and in which order they load.

use anyhow::{Context, Result, bail};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What a guest of ours uses. What the kernel has built in is left out.
pub const GUEST: &[&str] = &[
    "virtio_mmio",
    "vmw_vsock_virtio_transport",
    "fuse",
    "virtio_blk",
    "virtio_net",
    "virtio_rng",
    "virtio_console",
    "virtio_balloon",
    "af_packet",
    "ext4",
    "overlay",
];

/// What a host of tests uses: KVM, the kernel's own vsock device for guests of others, a network that
/// leads nowhere, QEMU's disk.
pub const HOST: &[&str] = &["kvm_amd", "vhost_vsock", "dummy", "virtio_pci", "virtio_blk", "ext4"];

/// A module as it goes into the image.
pub struct Module {
    /// Its place, without the first slash.
    pub path: String,
    /// The file, not compressed.
    pub bytes: Vec<u8>,
}

/// All that are `wanted` and what those need, each behind what it needs.
pub fn needed(packages: &Path, release: &str, wanted: &[&str]) -> Result<Vec<Module>> {
    // Newer packages have them under usr/.
    let folder = ["lib/modules", "usr/lib/modules"]
        .map(|base| packages.join(base).join(release))
        .into_iter()
        .find(|folder| folder.is_dir())
        .with_context(|| format!("the kernel's package has no modules of {release}"))?;
    let mut files = BTreeMap::new();
    find(&folder.join("kernel"), &mut files)?;
    let built_in = fs::read_to_string(folder.join("modules.builtin")).unwrap_or_default();
    let built_in: BTreeSet<String> =
        built_in.lines().filter_map(|line| name_of(Path::new(line))).collect();
    let mut order = Order { files, built_in, done: BTreeSet::new(), modules: Vec::new() };
    for name in wanted {
        order.add(name, &folder, release)?;
    }
    Ok(order.modules)
}

struct Order {
    files: BTreeMap<String, PathBuf>,
    built_in: BTreeSet<String>,
    done: BTreeSet<String>,
    modules: Vec<Module>,
}

impl Order {
    fn add(&mut self, name: &str, folder: &Path, release: &str) -> Result<()> {
        if self.built_in.contains(name) || !self.done.insert(name.to_owned()) {
            return Ok(());
        }
        let Some(file) = self.files.get(name).cloned() else {
            bail!("the kernel {release} has no module {name}");
        };
        let bytes = read(&file)?;
        for other in depends(&bytes) {
            self.add(&other, folder, release)?;
        }
        let inside = file.strip_prefix(folder).context("a module outside of its folder")?;
        let path = Path::new("lib/modules").join(release).join(inside).with_extension("");
        let path = path.to_string_lossy();
        let path = format!("{}.ko", path.trim_end_matches(".ko"));
        self.modules.push(Module { path, bytes });
        Ok(())
    }
}

/// All modules below `folder` by their names.
fn find(folder: &Path, files: &mut BTreeMap<String, PathBuf>) -> Result<()> {
    for entry in
        fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?
    {
        let path = entry?.path();
        if path.is_dir() {
            find(&path, files)?;
        } else if let Some(name) = name_of(&path) {
            files.insert(name, path);
        }
    }
    Ok(())
}

/// `a-b.ko.xz` is the module `a_b`.
fn name_of(path: &Path) -> Option<String> {
    let name = path.file_name()?.to_str()?;
    let (name, behind) = name.split_once(".ko")?;
    (behind.is_empty() || behind.starts_with('.')).then(|| name.replace('-', "_"))
}

fn read(file: &Path) -> Result<Vec<u8>> {
    let program = match file.extension().and_then(|of| of.to_str()) {
        Some("xz") => "xz",
        Some("zst") => "zstd",
        _ => return fs::read(file).with_context(|| format!("cannot read {}", file.display())),
    };
    let output = Command::new(program).arg("-dc").arg(file).output();
    let output =
        output.with_context(|| format!("cannot run {program}; install the package {program}"))?;
    if !output.status.success() {
        bail!("{program} cannot unpack {}", file.display());
    }
    Ok(output.stdout)
}

/// The names in `depends=` of the section `.modinfo`, which holds texts that each end with a zero.
fn depends(module: &[u8]) -> Vec<String> {
    let text = module
        .split(|byte| *byte == 0)
        .find_map(|text| text.strip_prefix(b"depends="))
        .unwrap_or_default();
    let names = String::from_utf8_lossy(text).replace('-', "_");
    names.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_is_named_by_its_file() {
        for (file, name) in [
            ("kernel/drivers/char/hw_random/virtio-rng.ko", Some("virtio_rng")),
            ("fuse.ko.xz", Some("fuse")),
            ("modules.order", None),
            ("a.korea", None),
        ] {
            assert_eq!(name_of(Path::new(file)).as_deref(), name);
        }
    }

    #[test]
    fn modules_come_behind_what_they_need_and_once() {
        let dir = tempfile::tempdir().expect("a folder");
        let folder = dir.path().join("lib/modules/1.0");
        fs::create_dir_all(folder.join("kernel/x")).expect("folders");
        let needs = |name: &str| match name {
            "overlay" => "depends=fuse",
            "fuse" => "depends=virtio-blk,ext4",
            _ => "depends=",
        };
        for name in GUEST.iter().filter(|name| **name != "ext4") {
            let bytes = format!("ELF\0license=GPL\0{}\0name={name}\0", needs(name));
            fs::write(folder.join("kernel/x").join(name.replace('_', "-") + ".ko"), bytes)
                .expect("written");
        }
        fs::write(folder.join("modules.builtin"), "kernel/fs/ext4/ext4.ko\n").expect("written");
        let order = needed(dir.path(), "1.0", GUEST).expect("all are there");
        let names: Vec<_> =
            order.iter().map(|of| name_of(Path::new(&of.path)).expect("name")).collect();
        let at = |name: &str| names.iter().position(|other| other == name);
        assert!(at("virtio_blk") < at("fuse") && at("fuse") < at("overlay"), "{names:?}");
        assert_eq!(names.len(), GUEST.len() - 1);
        assert_eq!(order[0].path, "lib/modules/1.0/kernel/x/virtio-mmio.ko");
        fs::remove_file(folder.join("modules.builtin")).expect("removed");
        let missing = needed(dir.path(), "1.0", GUEST).map(|_| ()).expect_err("ext4 is nowhere");
        assert_eq!(missing.to_string(), "the kernel 1.0 has no module ext4");
    }
}
