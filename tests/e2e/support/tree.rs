//! Trees of files for the suites to chew on, the same ones in every run.

use std::fs;
use std::path::Path;

/// Numbers that look random and are the same in every run (SplitMix64).
pub struct Numbers(pub u64);

impl Numbers {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    pub fn bytes(&mut self, length: usize) -> Vec<u8> {
        std::iter::repeat_with(|| self.next().to_le_bytes()).flatten().take(length).collect()
    }
}

/// Makes `files` files of up to `largest` bytes, `per_dir` to a folder, folders nested in tens.
pub fn make(root: &Path, files: usize, per_dir: usize, largest: u64) {
    let mut numbers = Numbers(1);
    for index in 0..files {
        let path = path_of(index, per_dir);
        if index % per_dir == 0 {
            fs::create_dir_all(root.join(&path).parent().expect("in a folder")).expect("a folder");
        }
        let length = usize::try_from(numbers.below(largest + 1)).expect("small");
        fs::write(root.join(path), numbers.bytes(length)).expect("a file");
    }
}

fn path_of(index: usize, per_dir: usize) -> String {
    let dir = index / per_dir;
    format!("{}/{}/file-{index}.txt", dir / 10, dir % 10)
}
