//! What happens on a host, and what is watched meanwhile: the rows of [`table`](super::table).

mod acts;
mod files;
mod moves;
mod special;

use std::path::PathBuf;

/// Where a script runs.
pub struct Place {
    /// Within what is watched.
    pub dir: PathBuf,
    /// On the same file system, watched by nobody.
    pub outside: PathBuf,
}

impl Place {
    fn at(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    fn out(&self, name: &str) -> PathBuf {
        self.outside.join(name)
    }
}

type Act = fn(&Place);

/// One row.
pub struct Case {
    pub name: &'static str,
    /// Makes what is there before.
    pub before: Act,
    /// The case is run once for each of these sets of watched paths.
    pub watches: &'static [&'static [&'static str]],
    /// Between two steps the share has time to tell; what is one step happens at once.
    pub script: &'static [Act],
}

const fn case(
    name: &'static str,
    watches: &'static [&'static [&'static str]],
    before: Act,
    script: &'static [Act],
) -> Case {
    Case { name, before, watches, script }
}

const DIR: &[&[&str]] = &[&["."]];
const FILE: &[&[&str]] = &[&["."], &["file"], &[".", "file"]];
const SUB: &[&[&str]] = &[&["."], &["sub"], &[".", "sub"]];
const LINK: &[&[&str]] = &[&["."], &["link"], &[".", "link"]];
const TWO: &[&[&str]] = &[&["a", "b"], &["a"], &["b"], &[".", "a", "b"]];

/// Every row.
pub fn all() -> impl Iterator<Item = &'static Case> {
    let files = [files::CONTENT, files::ATTRIBUTES, files::NAMES];
    let folders = [moves::MOVES, moves::FOLDERS];
    let special = [special::SPECIAL, special::ODD];
    files.into_iter().chain(folders).chain(special).flatten()
}
