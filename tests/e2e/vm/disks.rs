//! A qcow2 disk: written and flushed in one guest, whole by the judgement of another program, and read
//! in the next.

use super::host::{qemu_img, shell};
use crate::support::Scratch;

/// The disk has one partition-less ext4, made by the guest's busybox as ext2.
const WRITE: &str = r#"
mke2fs -F /dev/vda > /dev/null 2>&1
mkdir /disk; mount -t ext4 /dev/vda /disk
dd if=/dev/urandom of=/disk/random bs=64k count=64 2> /dev/null
for i in $(seq 200); do echo "file $i" > /disk/$i; done
cd /disk; sha256sum random $(seq 200) | sha256sum; cd /
sync; umount /disk
# And past the file system: the last of its bytes.
printf last | dd of=/dev/vda bs=1 seek=$((64 * 1024 * 1024 - 4)) conv=notrunc,fsync 2> /dev/null
printf last
"#;
const READ: &str = r#"
mkdir /disk; mount -t ext4 -o ro /dev/vda /disk
cd /disk; sha256sum random $(seq 200) | sha256sum; cd /
umount /disk
tail -c 4 /dev/vda
if echo > /dev/vda; then echo "written to"; fi 2> /dev/null
"#;

pub fn a_disk_keeps_what_was_written() {
    let scratch = Scratch::new();
    let disk = scratch.path().join("disk").display().to_string();
    qemu_img(["create", "-f", "qcow2", &disk, "64M"]);
    let written = shell(["--disk", &format!("{disk}:qcow2")], WRITE);
    let check = qemu_img(["check", "-f", "qcow2", &disk]);
    assert!(check.contains("No errors were found"), "{check}");
    let before = std::fs::read(&disk).expect("the disk");
    let read = shell(["--disk", &format!("{disk}:qcow2:ro")], READ);
    assert_eq!(read, written);
    assert!(std::fs::read(&disk).expect("the disk") == before, "a read-only disk has changed");
}
