//! What people may write, and what they are told otherwise.

use super::*;

/// Parses each text; an error is compared by a part of its sentence.
fn table<T: FromStr<Err = ConfigError> + PartialEq + fmt::Debug>(
    cases: &[(&str, Result<T, &str>)],
) {
    for (text, expected) in cases {
        match (text.parse::<T>(), expected) {
            (Ok(parsed), Ok(expected)) => assert_eq!(&parsed, expected, "{text}"),
            (Err(error), Err(part)) => {
                let sentence = error.to_string();
                assert!(sentence.contains(part), "{text}: {sentence}");
                assert!(sentence.contains("; write "), "no next step: {sentence}");
                assert!(sentence.contains(text), "the thing is not named: {sentence}");
            }
            (got, expected) => panic!("{text}: {got:?}, not {expected:?}"),
        }
    }
}

#[test]
fn sizes_have_a_unit() {
    table::<MemorySize>(&[
        ("512M", Ok(MemorySize(512 << 20))),
        ("2G", Ok(MemorySize(2 << 30))),
        ("2g", Ok(MemorySize(2 << 30))),
        ("1T", Ok(MemorySize(1 << 40))),
        ("4095T", Ok(MemorySize(4095 << 40))),
        ("4096T", Err("too large")),
        ("99999999999999999999M", Err("too large")),
        ("2", Err("unit is missing")),
        ("2GiB", Err("unit is missing")),
        ("2K", Err("unit is missing")),
        ("2ä", Err("unit is missing")),
        ("", Err("unit is missing")),
        ("G", Err("no number")),
        ("-1G", Err("no number")),
        ("+1G", Err("no number")),
        ("1.5G", Err("no number")),
        (" 1G", Err("no number")),
    ]);
    for text in ["64M", "1G", "1536M", "512G"] {
        assert_eq!(text.parse::<MemorySize>().map(|size| size.to_string()), Ok(text.into()));
    }
}

#[test]
fn a_share_is_a_folder_and_a_place() {
    let share = |host: &str, guest: &str, read_only| {
        Ok(Share { host: host.into(), guest: guest.into(), read_only })
    };
    table::<Share>(&[
        (".:/src", share(".", "/src", false)),
        ("/a/b:/src/x:ro", share("/a/b", "/src/x", true)),
        ("/a:b:/src/", share("/a:b", "/src", false)),
        ("/a:/b:/c", share("/a:/b", "/c", false)),
        ("ro:/ro:ro", share("ro", "/ro", true)),
        (".", Err("missing or not absolute")),
        (".:src", Err("missing or not absolute")),
        (".:ro", Err("missing or not absolute")),
        ("", Err("missing or not absolute")),
        (":/src", Err("folder is missing")),
        (".:/", Err("root can not be replaced")),
        (".:/src:rw", Err("only `ro`")),
        (".:/src:ro:ro", Err("only `ro`")),
        (".:/a/../b", Err("not plain")),
        (".:/a//b", Err("not plain")),
        (".:/./a", Err("not plain")),
        (".:/a\nb", Err("not plain")),
    ]);
}

#[test]
fn a_disk_is_a_file_and_its_format() {
    use DiskFormat::{Qcow2, Raw};
    let disk = |file: &str, format, read_only| Ok(Disk { file: file.into(), format, read_only });
    table::<Disk>(&[
        ("a.img", disk("a.img", Raw, false)),
        ("a.qcow2", disk("a.qcow2", Qcow2, false)),
        ("a.qcow2:raw", disk("a.qcow2", Raw, false)),
        ("/d/a:qcow2:ro", disk("/d/a", Qcow2, true)),
        ("a:ro", disk("a", Raw, true)),
        ("a 12:30.img:raw", disk("a 12:30.img", Raw, false)),
        ("/x:y/a.img", disk("/x:y/a.img", Raw, false)),
        ("a:vmdk", Err("neither a format nor")),
        ("a:ro:raw:x", Err("neither a format nor")),
        ("", Err("file is missing")),
        (":raw", Err("file is missing")),
        ("/", Err("file is missing")),
        ("..:ro", Err("file is missing")),
    ]);
}

#[test]
fn a_console_and_a_network_are_named() {
    table::<Console>(&[
        ("stdio", Ok(Console::Stdio)),
        ("pty", Ok(Console::Pty)),
        ("./pty", Ok(Console::File("./pty".into()))),
        ("log.txt", Ok(Console::File("log.txt".into()))),
        ("", Err("path is empty")),
    ]);
    table::<Net>(&[
        ("/run/passt.sock", Ok(Net { socket: "/run/passt.sock".into() })),
        ("", Err("path is empty")),
    ]);
}

/// A change to a good configuration, and what is said of it; nothing if it stays good.
type Case = (fn(&mut VmConfig), &'static str);

#[test]
fn a_configuration_keeps_to_its_limits() {
    fn shares(n: usize) -> Vec<Share> {
        (0..n).filter_map(|n| format!(".:/{n}").parse().ok()).collect()
    }
    fn disks(texts: &[&str]) -> Vec<Disk> {
        texts.iter().filter_map(|text| text.parse().ok()).collect()
    }
    let cases: &[Case] = &[
        (|_| (), ""),
        (|vm| vm.kernel = PathBuf::new(), "kernel: the path is empty; write the kernel's file"),
        (|vm| vm.initrd = Some("".into()), "initrd: the path is empty"),
        (|vm| vm.cpus = MAX_CPUS, ""),
        (|vm| vm.cpus = MAX_CPUS + 1, "processors: 256 is outside 1 to 255"),
        (|vm| vm.cpus = 0, "processors: 0 is outside 1 to 255"),
        (|vm| vm.memory = MIN_MEMORY, ""),
        (|vm| vm.memory = MemorySize::mib(63), "memory: 63M is outside 64M to 512G"),
        (|vm| vm.memory = MAX_MEMORY, ""),
        (|vm| vm.memory = MemorySize::mib(512 * 1024 + 1), "memory: 524289M is outside"),
        (|vm| vm.cmdline = "x".repeat(MAX_CMDLINE), ""),
        (
            |vm| vm.cmdline = "x".repeat(MAX_CMDLINE + 1),
            "bytes of the kernel command line: 2048 exceed the limit of 2047",
        ),
        (|vm| vm.cmdline = "a\nb".into(), "byte 1 is a control character"),
        (|vm| vm.cmdline = "a\0".into(), "byte 1 is a control character"),
        (|vm| vm.shares = shares(MAX_SHARES), ""),
        (|vm| vm.shares = shares(MAX_SHARES + 1), "shares: 65 exceed the limit of 64"),
        (|vm| vm.shares = [shares(2), shares(1)].concat(), "two shares are to appear at /0"),
        (|vm| vm.disks = disks(&["a:ro"; MAX_DISKS]), ""),
        (|vm| vm.disks = disks(&["a:ro"; MAX_DISKS + 1]), "disks: 17 exceed the limit of 16"),
        (|vm| vm.disks = disks(&["a", "b"]), ""),
        (|vm| vm.disks = disks(&["a", "b", "a:ro"]), "disk a is attached twice"),
        (|vm| vm.vsock_path = Some("v".repeat(MAX_VSOCK_PATH).into()), ""),
        (
            |vm| vm.vsock_path = Some("v".repeat(MAX_VSOCK_PATH + 1).into()),
            "bytes of the vsock path: 93 exceed",
        ),
        (|vm| vm.vsock_path = Some("".into()), "vsock path: the path is empty"),
        (|vm| vm.net = "n".repeat(MAX_SOCKET_PATH).parse().ok(), ""),
        (
            |vm| vm.net = "n".repeat(MAX_SOCKET_PATH + 1).parse().ok(),
            "bytes of the network socket: 104 exceed",
        ),
    ];
    for (n, (change, expected)) in cases.iter().enumerate() {
        let mut vm = VmConfig::new("vmlinuz");
        change(&mut vm);
        let said = vm.validate().err().map(|error| error.to_string()).unwrap_or_default();
        assert!(said.contains(expected) && said.is_empty() == expected.is_empty(), "{n}: {said}");
        assert!(said.is_empty() || said.contains("; "), "{n}: no next step: {said}");
    }
}
