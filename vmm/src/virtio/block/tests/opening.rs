//! What can be opened and what not, and who has it.

use super::*;

#[test]
fn what_cannot_be_opened_says_why_and_what_next() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    fs::write(path("empty"), []).unwrap();
    fs::write(path("text"), "no image of any kind").unwrap();
    fs::write(path("header-only"), b"QFI\xfb\0\0\0\x03").unwrap();
    let named = |name: &str| path(name).to_str().unwrap().to_owned();
    qemu_img(&["create", "-q", "-f", "qcow2", &named("base"), "4M"]);
    qemu_img(&["create", "-q", "-f", "qcow2", "-b", &named("base"), "-F", "qcow2", &named("top")]);
    let data_file = format!("data_file={}", named("data"));
    qemu_img(&["create", "-q", "-f", "qcow2", "-o", &data_file, &named("external"), "4M"]);
    qemu_img(&["create", "-q", "-f", "qcow2", &named("marked"), "4M"]);
    // The bit "corrupt" of the incompatible features.
    let marked = File::options().write(true).open(path("marked")).unwrap();
    marked.write_all_at(&2_u64.to_be_bytes(), 72).unwrap();
    fs::copy(path("base"), path("torn")).unwrap();
    File::options().write(true).open(path("torn")).unwrap().set_len(70_000).unwrap();
    let torn = File::options().write(true).open(path("torn")).unwrap();
    // The table of clusters lies nowhere.
    torn.write_all_at(&u64::MAX.to_be_bytes(), 40).unwrap();

    let (raw, qcow2) = (DiskFormat::Raw, DiskFormat::Qcow2);
    for (name, format, expected) in [
        ("missing", raw, "qemu-img create"),
        ("", raw, "neither a file nor a block device|give a file"),
        ("empty", raw, "is empty"),
        ("empty", qcow2, "is empty"),
        ("text", raw, "is empty"),
        ("text", qcow2, "is no qcow2 image"),
        ("header-only", qcow2, "cannot be used"),
        ("marked", qcow2, "cannot be used"),
        ("torn", qcow2, "cannot be used"),
        ("top", qcow2, "qemu-img convert"),
        ("external", qcow2, "qemu-img convert"),
    ] {
        let message = match Image::open(&disk(&path(name), format, false)) {
            Ok(_) => panic!("{name} was opened"),
            Err(error) => error.to_string(),
        };
        let named = message.contains(path(name).to_str().unwrap());
        let told = expected.split('|').any(|expected| message.contains(expected));
        assert!(named && told, "{name}: {message}");
    }
}

#[test]
fn a_disk_in_use_is_told_and_readers_share_it() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("disk");
    File::create(&file).unwrap().set_len(MIB).unwrap();
    let open = |read_only| Image::open(&disk(&file, DiskFormat::Raw, read_only));
    let locked = |read_only| matches!(open(read_only), Err(OpenError::Locked { .. }));
    let writer = open(false).unwrap();
    assert!(locked(false) && locked(true));
    drop(writer);
    let readers = [patiently(|| open(true)), patiently(|| open(true))];
    assert!(locked(false));
    drop(readers);
    patiently(|| open(false));
}

#[test]
fn qemu_and_we_see_each_others_locks() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("disk");
    qemu_img(&["create", "-q", "-f", "qcow2", file.to_str().unwrap(), "4M"]);
    let image = patiently(|| Image::open(&disk(&file, DiskFormat::Qcow2, false)));
    let check = || Command::new("qemu-img").arg("check").arg(&file).output().unwrap();
    let refused = check();
    let message = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && message.contains("lock"), "{message}");
    drop(image);
    let end = Instant::now() + Duration::from_secs(20);
    while !check().status.success() {
        assert!(Instant::now() < end, "never free again");
    }
}
