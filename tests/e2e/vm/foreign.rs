//! Command lines that people have: hyperkit's and xhyve's in a file, vfkit's devices beside it.

use std::fs;

use super::host::{qemu_img, run, texts, vm};
use crate::support::Scratch;

const SCRIPT: &str = r#"
nproc
test $(grep -o 'MemTotal: *[0-9]*' /proc/meminfo | grep -o '[0-9]*') -gt 300000 && echo "memory"
cat /sys/block/vda/size /sys/block/vdb/size
cat /mnt/code/text
grep -o osxfs.of=hyperkit /proc/cmdline
ls /vms
"#;

pub fn command_lines_of_others_mean_the_same() {
    let scratch = Scratch::new();
    let at = |name: &str| scratch.path().join(name).display().to_string();
    let (vms, code) = (scratch.dir("vms"), scratch.dir("code"));
    fs::write(code.join("text"), "text of a share\n").expect("a file");
    qemu_img(["create", "-q", "-f", "qcow2", &at("disk.qcow2"), "16M"]);
    qemu_img(["create", "-q", "-f", "raw", &at("disk.img"), "8M"]);
    let arguments = format!(
        "hyperkit -A -m 400M -c 2 -u -s 0:0,hostbridge -s 31,lpc \
         -s 4,virtio-blk,file://{} -s 6,virtio-rnd \
         -s 8,virtio-sock,guest_cid=5,path={},guest_forwards=2376;1525 -l com1,stdio,log={} \
         -f kexec,/image/vmlinuz,/image/initrd,\"console=ttyS0 panic=-1 osxfs.of=hyperkit\"",
        at("disk.qcow2"),
        vms.display(),
        at("log"),
    );
    fs::write(at("arguments"), arguments).expect("a file");
    let mut command = std::process::Command::new(vm().get_program());
    command.args(["vm", "run", "--xhyve-args", &at("arguments")]);
    command.args(["--device", &format!("virtio-blk,path={}", at("disk.img"))]);
    command.args(["--device", "virtio-rng"]);
    command.args(["--device", &format!("virtio-vsock,port=7,socketURL={},connect", at("seven"))]);
    let share = format!("virtio-fs,sharedDir={},mountTag=code", code.display());
    command.args(["--device", &share, "--share", &format!("{}:/vms:ro", vms.display())]);
    let output = run(command.args(["--", "sh", "-euc", SCRIPT]), b"");
    let (out, err) = texts(&output);
    assert!(output.status.success(), "{}\n{out}\n{err}", output.status);
    assert_eq!(
        out,
        "2\nmemory\n32768\n16384\ntext of a share\nosxfs.of=hyperkit\n\
         00000005.000005f5\n00000005.00000948\nconnect\n"
    );
    assert!(fs::read_to_string(at("log")).expect("the log").contains("Linux version"));
    assert!(err.contains("Linux version"), "the console goes beside the command's output");
    let left: Vec<_> = fs::read_dir(&vms).expect("the folder").flatten().collect();
    assert!(left.is_empty(), "sockets are left: {left:?}");
}
