//! Command lines that people have, and what they are told of those that mean nothing here.

use super::*;
use crate::config::vfkit::Devices;
use crate::config::xhyve::Xhyve;
use proptest::prelude::*;

/// As Docker's and LinuxKit's users know it.
const KNOWN: &str = r#"
hyperkit -A -m 2G -c 2 -u -s 0:0,hostbridge -s 31,lpc \
  -s 4,virtio-blk,file:///vms/0/disk.qcow2?sync=os&buffered=1,format=qcow,qcow-config=discard=true;x=y \
  -s 4:1,virtio-blk,/vms/0/data.img,ro \
  -s 6,virtio-rnd \
  -s 8,virtio-sock,guest_cid=3,path=/vms/0,guest_forwards=2376;1525 \
  -l com1,autopty=/vms/0/tty,log=/vms/0/console.log  # the console
  -f kexec,/boot/vmlinuz,/boot/initrd,"earlyprintk=serial console=ttyS0 a=b,c"
"#;

#[test]
fn a_command_line_of_hyperkit_is_understood() {
    insta::assert_debug_snapshot!(Xhyve::parse(KNOWN));
}

#[test]
fn quotes_within_the_boot_word_are_those_of_the_command_line() {
    let parsed = Xhyve::parse(r#"-f 'kexec,/k,,"a b,c"' -m1024 -c4"#).unwrap();
    assert_eq!(parsed.config.cmdline, "a b,c");
    assert_eq!((parsed.config.initrd, parsed.config.cpus), (None, 4));
    assert_eq!(parsed.config.memory, MemorySize::mib(1024));
    let bytes = Xhyve::parse("-f kexec,k -m 1073741824").unwrap();
    assert_eq!(bytes.config.memory, MemorySize::mib(1024));
}

#[test]
fn what_means_nothing_here_is_said_in_one_line_with_the_next_step() {
    let mut told = String::new();
    for text in [
        "",
        "-m 2G",
        "-f fbsd,userboot.so,disk",
        "-f kexec",
        "-f kexec,k -m lots",
        "-f kexec,k -m 99999999999999999999",
        "-f kexec,k -c -s",
        "-f kexec,k -c two",
        "-f kexec,k -s",
        "-f kexec,k -s 99,virtio-rnd",
        "-f kexec,k -s 5,virtio-9p,path=/db,tag=db",
        "-f kexec,k -s 2:0,virtio-net",
        "-f kexec,k -s 2:0,virtio-vpnkit,path=/x",
        "-f kexec,k -s 1,ahci-hd,disk.img",
        "-f kexec,k -s 1,virtio-gpu",
        "-f kexec,k -s 1,virtio-blk",
        "-f kexec,k -s 1,virtio-blk,nbd://host",
        "-f kexec,k -s 1,virtio-blk,f,format=vdi",
        "-f kexec,k -s 1,virtio-sock,guest_cid=2,path=/x",
        "-f kexec,k -s 1,virtio-sock,guest_cid=3",
        "-f kexec,k -s 1,virtio-sock,path=/x,guest_forwards=a",
        "-f kexec,k -s 1,virtio-sock,path=/x -s 2,virtio-sock,path=/y",
        "-f kexec,k -l com2,stdio",
        "-f kexec,k -l com1",
        "-f kexec,k -l com1,wire",
        "-f kexec,k -g 9000",
        "-f kexec,k --version",
        "-f 'kexec,k",
        "-f kexec,k -s \"1,a\nb\"",
    ] {
        let error = Xhyve::parse(text).unwrap_err().to_string();
        assert!(is_one_line_with_a_next_step(&error), "{text}: {error}");
        told.push_str(&error);
        told.push('\n');
    }
    insta::assert_snapshot!(told);
}

#[test]
fn devices_of_vfkit_are_understood() {
    insta::assert_debug_snapshot!(Devices::parse([
        "virtio-blk,path=/d.img",
        "virtio-blk,path=/e.qcow2,deviceId=e",
        "virtio-fs,sharedDir=/Users/me/code,mountTag=code",
        "virtio-fs,mountTag=/src,sharedDir=/x:y",
        "virtio-net,unixSocketPath=/run/gvproxy.sock,mac=5a:94:ef:e4:0c:ee",
        "virtio-vsock,port=1024,socketURL=/run/ready.sock",
        "virtio-vsock,port=6,socketURL=unix:///run/six.sock,connect",
        "virtio-serial,logFilePath=/var/log/vm",
        "virtio-rng",
        "virtio-balloon",
    ]));
    assert_eq!(Devices::parse([]), Ok(Devices::default()));
    assert_eq!(Devices::parse(["virtio-serial,stdio"]).unwrap().console, Some(Console::Stdio));
    assert_eq!(Devices::parse(["virtio-serial,pty"]).unwrap().console, Some(Console::Pty));
}

#[test]
fn a_device_that_means_nothing_here_is_said_in_one_line_with_the_next_step() {
    let mut told = String::new();
    for all in [
        &[""][..],
        &["virtio-gpu,width=800"],
        &["virtio-input,keyboard"],
        &["rosetta,mountTag=r"],
        &["nvme,path=/x"],
        &["virtio-rng,fast"],
        &["virtio-blk"],
        &["virtio-blk,path="],
        &["virtio-fs,sharedDir=/x"],
        &["virtio-fs,sharedDir=/x,mountTag=../x"],
        &["virtio-fs,sharedDir=/x,mountTag=x:ro"],
        &["virtio-net"],
        &["virtio-net,nat"],
        &["virtio-net,unixSocketPath=/x,mac=53:0:0:0:0:0"],
        &["virtio-net,unixSocketPath=/x,mac=1:2:3"],
        &["virtio-net,unixSocketPath=/x", "virtio-net,unixSocketPath=/y"],
        &["virtio-vsock,port=1"],
        &["virtio-vsock,port=x,socketURL=/x"],
        &["virtio-vsock,port=1,socketURL=/x", "virtio-vsock,port=1,socketURL=/y"],
        &["virtio-serial"],
        &["virtio-serial,stdio", "virtio-serial,pty"],
    ] {
        let error = Devices::parse(all.iter().copied()).unwrap_err().to_string();
        assert!(is_one_line_with_a_next_step(&error), "{all:?}: {error}");
        told.push_str(&error);
        told.push('\n');
    }
    insta::assert_snapshot!(told);
}

fn is_one_line_with_a_next_step(error: &str) -> bool {
    let steps = ["write ", "leave ", "add ", "share ", "have ", "close ", "choose ", "join "];
    !error.contains('\n') && steps.iter().any(|step| error.contains(step))
}

/// Text that is nearly right.
fn nearly() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "-s ",
        "-f ",
        "-l ",
        "-m ",
        "-c ",
        "kexec,",
        "1,",
        "0:0,",
        "virtio-blk,",
        "virtio-sock,",
        "virtio-fs,",
        "virtio-net,",
        "virtio-vsock,",
        "virtio-serial,",
        "path=",
        "guest_cid=",
        "guest_forwards=",
        ";",
        "port=",
        "socketURL=",
        "mac=",
        "sharedDir=",
        "mountTag=",
        "com1,",
        "stdio",
        "log=",
        "file://",
        "2G",
        "3",
        "\"",
        "'",
        "\\",
        "\n",
        " ",
        ",",
        "/x",
        "ä",
        "#",
    ]);
    prop::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}

#[test]
fn a_memory_size_with_a_line_in_it_is_refused_in_one_line() {
    let error = Xhyve::parse("-m \"\n\"").unwrap_err().to_string();
    assert!(is_one_line_with_a_next_step(&error), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_is_understood_or_refused_in_one_line(text in prop_oneof![nearly(), any::<String>()]) {
        if let Err(error) = Xhyve::parse(&text) {
            prop_assert_eq!(error.to_string().lines().count(), 1);
        }
        if let Err(error) = Devices::parse([&text[..]]) {
            prop_assert_eq!(error.to_string().lines().count(), 1);
        }
    }
}
