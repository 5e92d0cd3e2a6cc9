//! Loading what the kernel of the image has as modules. `cargo xtask image` lists their files in
//! [`LIST`], those that others need before these.

use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;
use tracing::{debug, warn};

/// One path a line.
const LIST: &str = "/etc/osxfs/modules";

/// Loads all; what does not load is said and left out.
pub(super) fn load() {
    let list = match std::fs::read_to_string(LIST) {
        Ok(list) => list,
        Err(error) => return debug!(%error, "no list of modules at {LIST}"),
    };
    for path in list.lines().filter(|line| !line.is_empty()) {
        let loaded = open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
            .and_then(|file| rustix::system::finit_module(file, c"", 0));
        match loaded {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => warn!("cannot load {path}: {error}"),
        }
    }
}
