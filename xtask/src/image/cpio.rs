//! Writing an initial file system as the kernel unpacks it (here, and in `tests/e2e/vm/lab.rs`): cpio, "newc"
//! (Documentation/driver-api/early-userspace/buffer-format.rst).

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::{fs, io};

const FOLDER: u32 = 0o040_000;
const DEVICE: u32 = 0o020_000;
const FILE: u32 = 0o100_000;
const LINK: u32 = 0o120_000;

/// An archive that grows. Folders above what is put in come by themselves; everything belongs to
/// root and is as old as time, so that the same content makes the same bytes.
#[derive(Default)]
pub struct Archive {
    bytes: Vec<u8>,
    folders: BTreeSet<String>,
    entries: u32,
}

impl Archive {
    /// A folder.
    pub fn folder(&mut self, path: &str) {
        self.folders_above(path);
        if self.folders.insert(path.to_owned()) {
            self.entry(path, FOLDER | 0o755, (0, 0), &[]);
        }
    }

    /// A file.
    pub fn file(&mut self, path: &str, mode: u32, content: &[u8]) {
        self.folders_above(path);
        self.entry(path, FILE | mode, (0, 0), content);
    }

    /// A symbolic link.
    pub fn link(&mut self, path: &str, target: &str) {
        self.folders_above(path);
        self.entry(path, LINK | 0o777, (0, 0), target.as_bytes());
    }

    /// A character device.
    pub fn character_device(&mut self, path: &str, major: u32, minor: u32) {
        self.folders_above(path);
        self.entry(path, DEVICE | 0o600, (major, minor), &[]);
    }

    /// A folder as it is, with everything in it that is a folder, a file or a symbolic link.
    pub fn tree(&mut self, path: &str, folder: &Path) -> io::Result<()> {
        let path = path.trim_start_matches('/');
        self.folder(path);
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let (inside, kind) = (entry.path(), entry.file_type()?);
            let name = format!("{path}/{}", entry.file_name().to_string_lossy());
            if kind.is_dir() {
                self.tree(&name, &inside)?;
            } else if kind.is_symlink() {
                self.link(&name, &fs::read_link(&inside)?.to_string_lossy());
            } else if kind.is_file() {
                let mode = entry.metadata()?.permissions().mode() & 0o777;
                self.file(&name, mode, &fs::read(&inside)?);
            }
        }
        Ok(())
    }

    /// The whole archive.
    pub fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, (0, 0), &[]);
        self.bytes
    }

    fn folders_above(&mut self, path: &str) {
        if let Some(above) =
            Path::new(path).parent().and_then(Path::to_str).filter(|p| !p.is_empty())
        {
            self.folder(above);
        }
    }

    fn entry(&mut self, path: &str, mode: u32, device: (u32, u32), content: &[u8]) {
        self.entries += 1;
        let size = u32::try_from(content.len()).expect("files of an image are small");
        let name = u32::try_from(path.len() + 1).expect("paths are short");
        let (uid, gid, links, time, check) = (0, 0, 1, 0, 0);
        let numbers = [
            self.entries,
            mode,
            uid,
            gid,
            links,
            time,
            size,
            0,
            0,
            device.0,
            device.1,
            name,
            check,
        ];
        self.bytes.extend_from_slice(b"070701");
        for number in numbers {
            self.bytes.extend_from_slice(format!("{number:08X}").as_bytes());
        }
        self.bytes.extend_from_slice(path.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(content);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::process::{Command, Stdio};

    #[test]
    fn cpio_finds_what_was_put_in() {
        let places = ["/bin/busybox", "/usr/bin/busybox"].map(Path::new);
        let Some(busybox) = places.into_iter().find(|path| path.is_file()) else { return };
        let mut archive = Archive::default();
        archive.file("a/b/program", 0o755, b"12345");
        archive.file("a/text", 0o644, b"");
        archive.link("a/link", "b/program");
        archive.folder("a");
        let dir = tempfile::tempdir().expect("a folder");
        let tree = dir.path().join("tree");
        std::fs::create_dir_all(tree.join("deep")).expect("folders");
        std::fs::write(tree.join("deep/file"), "text").expect("a file");
        std::os::unix::fs::symlink("deep/file", tree.join("link")).expect("a link");
        archive.tree("/b/tree", &tree).expect("readable");
        let mut unpack = Command::new(busybox)
            .args(["cpio", "-i"])
            .current_dir(dir.path())
            .stdin(Stdio::piped())
            .spawn()
            .expect("busybox");
        unpack.stdin.take().expect("piped").write_all(&archive.finish()).expect("written");
        assert!(unpack.wait().expect("waited").success());
        let at = |path: &str| dir.path().join(path);
        assert_eq!(std::fs::read(at("a/link")).expect("a link"), b"12345");
        let mode = std::fs::metadata(at("a/b/program")).expect("a file").permissions().mode();
        assert_eq!(mode & 0o777, 0o755);
        assert_eq!(std::fs::read(at("a/text")).expect("a file"), b"");
        assert_eq!(std::fs::read(at("b/tree/link")).expect("a link"), b"text");
    }

    #[test]
    fn folders_come_once_and_before_what_is_in_them() {
        let mut archive = Archive::default();
        archive.file("x/y/one", 0o600, b"1");
        archive.file("x/y/two", 0o600, b"2");
        let text = String::from_utf8(archive.finish()).expect("text");
        let places: Vec<_> = ["x\0", "x/y\0", "x/y/one\0", "x/y/two\0", "TRAILER!!!\0"]
            .iter()
            .map(|name| text.match_indices(name).map(|(at, _)| at).collect::<Vec<_>>())
            .collect();
        assert!(places.iter().all(|at| at.len() == 1), "{places:?}");
        assert!(places.is_sorted());
    }
}
