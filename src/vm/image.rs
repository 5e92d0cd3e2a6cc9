//! Finding the image that `cargo xtask image` makes.

use anyhow::{Result, bail};
use std::path::{Path, PathBuf};

/// Kernel and initrd.
pub struct Image {
    pub kernel: PathBuf,
    pub initrd: PathBuf,
}

/// The first that is there: `$OSXFS_IMAGE`, beside this program, above it (as in `target/`), in the
/// user's data folder.
pub fn find() -> Result<Image> {
    let named = std::env::var_os("OSXFS_IMAGE").filter(|path| !path.is_empty());
    if let Some(dir) = named.map(PathBuf::from) {
        return in_folder(&dir).map_or_else(
            || bail!("OSXFS_IMAGE is {}, and there is no vmlinuz and initrd in it; `cargo xtask image` prints where it makes them", dir.display()),
            Ok,
        );
    }
    let program = std::env::current_exe().unwrap_or_default();
    let beside = program.ancestors().skip(1).take(2).map(|dir| dir.join("osxfs-image"));
    let data = std::env::var_os("XDG_DATA_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".local/share")));
    let places = beside.chain(data.map(|dir| dir.join("osxfs")));
    places.into_iter().find_map(|dir| in_folder(&dir)).map_or_else(
        || {
            bail!(
                "there is no image to boot: make one with `cargo xtask image`, set OSXFS_IMAGE to its folder, or give --kernel and --initrd"
            )
        },
        Ok,
    )
}

fn in_folder(dir: &Path) -> Option<Image> {
    let image = Image { kernel: dir.join("vmlinuz"), initrd: dir.join("initrd") };
    (image.kernel.is_file() && image.initrd.is_file()).then_some(image)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_an_image_if_it_has_both_files() {
        let dir = tempfile::tempdir().unwrap();
        assert!(in_folder(dir.path()).is_none());
        std::fs::write(dir.path().join("vmlinuz"), "").unwrap();
        assert!(in_folder(dir.path()).is_none());
        std::fs::write(dir.path().join("initrd"), "").unwrap();
        assert_eq!(in_folder(dir.path()).unwrap().kernel, dir.path().join("vmlinuz"));
    }
}
