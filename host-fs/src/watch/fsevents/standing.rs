//! What was last reported to stand under a name: the flags that said so come again with the next
//! events of that name, and are then no news.

use super::FileId;
use rustc_hash::FxHashMap;

/// Names remembered. One that is forgotten may be reported twice.
const MOST: usize = 16_384;

/// A bounded memory of names.
#[derive(Debug, Default)]
pub struct Standing(FxHashMap<Box<[u8]>, FileId>);

impl Standing {
    /// Whether this was the last to be reported at the path.
    pub fn is(&self, path: &[u8], file: FileId) -> bool {
        self.0.get(path) == Some(&file)
    }

    /// It is reported.
    pub fn set(&mut self, path: &[u8], file: FileId) {
        if self.0.len() >= MOST {
            self.0.clear();
        }
        self.0.insert(path.into(), file);
    }

    /// The name is reported to be gone.
    pub fn remove(&mut self, path: &[u8]) {
        self.0.remove(path);
    }

    /// Nothing is known any more.
    pub fn clear(&mut self) {
        self.0.clear();
    }
}
