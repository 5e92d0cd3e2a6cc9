//! A system for a guest of tests, in which the agent is a service: Debian's packages of systemd and of
//! OpenRC as they are, unpacked into one archive. Which of the two is started is the test's choice
//! (`tests/e2e/vm/services.rs`).

use anyhow::{Context, Result};
use std::fs;
use std::process::Command;

use super::folder;
use crate::command::{execute, find};

/// The file in the folder of the image.
const ARCHIVE: &str = "services.tar";
const SUITE: &str = "bookworm";
/// What a small system has; what these need comes with them.
const PACKAGES: &str = "systemd,openrc,udev,kmod,mount,util-linux,coreutils,bash,sed,grep,\
    base-files,base-passwd,hostname";
/// What nobody reads or runs there, two thirds of it.
const UNUSED: &str = "cd \"$1\" && rm -rf usr/share/doc usr/share/man usr/share/locale usr/share/perl \
    usr/lib/*/perl usr/lib/*/perl-base usr/lib/*/gconv lib/udev/hwdb.d";

/// Makes the archive if it is not there. Tells whether there is one: without mmdebstrap, which setup
/// installs, there is not.
pub fn provide() -> Result<bool> {
    let archive = folder().join(ARCHIVE);
    if archive.is_file() {
        return Ok(true);
    }
    if find("mmdebstrap").is_none() {
        return Ok(false);
    }
    fs::create_dir_all(folder()).with_context(|| format!("cannot make {}", folder().display()))?;
    // Half an archive must not pass for one.
    let part = archive.with_extension("part.tar");
    execute(
        Command::new("mmdebstrap")
            .args(["--quiet", "--variant=extract", &format!("--include={PACKAGES}")])
            .arg(format!("--extract-hook={UNUSED}"))
            .arg(SUITE)
            .arg(&part)
            .arg(format!("deb http://deb.debian.org/debian {SUITE} main")),
    )?;
    fs::rename(&part, &archive).with_context(|| format!("cannot write {}", archive.display()))?;
    Ok(true)
}
