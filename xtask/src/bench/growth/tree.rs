//! Trees of a size: directories of a hundred small files, a hundred directories in each one above.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;

/// Files in a directory, and directories in one.
pub const MANY: usize = 100;
/// What is in each file.
const CONTENT: [u8; 100] = [b'x'; 100];

pub struct Tree {
    files: usize,
}

impl Tree {
    /// Makes it in a folder of the host.
    pub fn fill(host: &Path, files: usize) -> Result<Self> {
        let tree = Self { files };
        for leaf in 0..tree.leaves() {
            let dir = host.join(tree.leaf(leaf));
            fs::create_dir_all(&dir)?;
            for file in 0..MANY {
                fs::write(dir.join(name(file)), CONTENT)?;
            }
        }
        Ok(tree)
    }

    /// How many directories with files there are.
    pub fn leaves(&self) -> usize {
        self.files.div_ceil(MANY)
    }

    /// All directories but the root.
    pub fn directories(&self) -> usize {
        self.leaves() + self.leaves().div_ceil(MANY)
    }

    /// Where a directory with files stands.
    pub fn leaf(&self, number: usize) -> PathBuf {
        PathBuf::from(format!("d{:04}/d{:02}", number / MANY, number % MANY))
    }
}

/// The name of a file in its directory.
pub fn name(file: usize) -> String {
    format!("file-of-a-tree-{file:06}.txt")
}

/// Makes one directory with so many entries.
pub fn fill_large(host: &Path, entries: usize) -> Result<()> {
    let dir = host.join("large");
    fs::create_dir(&dir)?;
    (0..entries).try_for_each(|file| fs::write(dir.join(name(file)), CONTENT))?;
    Ok(())
}
