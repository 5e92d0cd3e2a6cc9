//! A real mount over a server in memory. Needs `/dev/fuse` and the right to mount; without them
//! each test says so and passes.

mod model;

use guest_agent::client::Client;
use guest_agent::{Error, Mount, MountOptions};
use model::{LEASED, Model, Server};
use protocol::{Consistency, Validity, mode};
use std::fs;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

struct Stage {
    model: Model,
    client: Arc<Client>,
    server: Arc<Server>,
    mount: Option<Mount>,
    dir: tempfile::TempDir,
}

impl Stage {
    fn new(consistency: Consistency, valid: Validity) -> Option<Self> {
        let model = Model::new(consistency, valid);
        let client = Client::new();
        let server = model.connect(&client);
        let dir = tempfile::tempdir().unwrap();
        match Mount::start(client.clone(), "export", dir.path(), MountOptions::default()) {
            Ok(mount) => Some(Self { model, client, server, mount: Some(mount), dir }),
            Err(error @ (Error::NoFuse | Error::FusePermission | Error::NoFusermount)) => {
                eprintln!("skipped: {error}");
                None
            }
            Err(error) => panic!("{error}"),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn count(&self, request: &str) -> usize {
        self.model.tree().log.iter().filter(|of| *of == request).count()
    }
}

const ALL: [(Consistency, Validity); 3] = [
    (Consistency::Consistent, Validity::NONE),
    (Consistency::Cached, LEASED),
    (Consistency::Delegated, LEASED),
];

#[test]
fn files_directories_and_links_behave_in_every_mode() {
    for (consistency, valid) in ALL {
        let Some(stage) = Stage::new(consistency, valid) else { return };
        let file = stage.path("a");
        fs::write(&file, b"hello").unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"hello");
        fs::create_dir_all(stage.path("d/e")).unwrap();
        fs::rename(&file, stage.path("d/e/b")).unwrap();
        assert_eq!(fs::read(stage.path("d/e/b")).unwrap(), b"hello");
        assert!(fs::metadata(&file).is_err());
        symlink("e/b", stage.path("d/l")).unwrap();
        assert_eq!(fs::read_link(stage.path("d/l")).unwrap(), PathBuf::from("e/b"));
        assert_eq!(fs::read(stage.path("d/l")).unwrap(), b"hello");
        let permissions = fs::Permissions::from_mode(0o640);
        fs::set_permissions(stage.path("d/e/b"), permissions).unwrap();
        assert_eq!(fs::metadata(stage.path("d/e/b")).unwrap().mode(), mode::IFREG | 0o640);
        let names: Vec<_> =
            fs::read_dir(stage.path("d")).unwrap().map(|of| of.unwrap().file_name()).collect();
        assert_eq!(names, ["e", "l"]);
        fs::remove_file(stage.path("d/e/b")).unwrap();
        fs::remove_dir(stage.path("d/e")).unwrap();
        assert_eq!(
            fs::metadata(stage.dir.path()).unwrap().dev(),
            stage.mount.as_ref().unwrap().device()
        );
    }
}

#[test]
fn large_writes_and_appends_arrive_whole() {
    for (consistency, valid) in ALL {
        let Some(stage) = Stage::new(consistency, valid) else { return };
        let data: Vec<u8> = (0..3_000_000u32).map(|n| (n / 7) as u8).collect();
        fs::write(stage.path("big"), &data).unwrap();
        let mut file = fs::OpenOptions::new().append(true).open(stage.path("big")).unwrap();
        file.write_all(b"tail").unwrap();
        drop(file);
        let mut file = fs::File::open(stage.path("big")).unwrap();
        file.seek(SeekFrom::Start(1_234_567)).unwrap();
        let mut rest = Vec::new();
        file.read_to_end(&mut rest).unwrap();
        assert_eq!(rest[..rest.len() - 4], data[1_234_567..]);
        assert_eq!(&rest[rest.len() - 4..], b"tail");
        assert_eq!(stage.model.tree().files[&2].data.len(), data.len() + 4);
    }
}

#[test]
fn a_directory_of_ten_thousand_entries_is_listed_once_each() {
    let Some(stage) = Stage::new(Consistency::Cached, LEASED) else { return };
    for number in 0..10_000 {
        stage.model.tree().add(1, &format!("file-{number:05}"), mode::IFREG | 0o644, b"");
    }
    let mut names: Vec<_> =
        fs::read_dir(stage.dir.path()).unwrap().map(|of| of.unwrap().file_name()).collect();
    assert_eq!(names.len(), 10_000);
    names.dedup();
    assert_eq!(names.len(), 10_000);
}

#[test]
fn leased_entries_and_attributes_are_asked_for_once() {
    let Some(stage) = Stage::new(Consistency::Cached, LEASED) else { return };
    stage.model.tree().add(1, "f", mode::IFREG | 0o644, b"x");
    for _ in 0..10 {
        fs::metadata(stage.path("f")).unwrap();
        assert!(fs::metadata(stage.path("none")).is_err());
    }
    assert_eq!(stage.count("Lookup"), 2);
}

#[test]
fn consistent_mounts_see_every_change_of_the_host_at_once() {
    let Some(stage) = Stage::new(Consistency::Consistent, Validity::NONE) else { return };
    let ino = stage.model.tree().add(1, "f", mode::IFREG | 0o644, b"one");
    let file = fs::File::open(stage.path("f")).unwrap();
    for text in [b"one", b"two"] {
        stage.model.tree().files.get_mut(&ino).unwrap().data = text.to_vec();
        let mut got = [0; 3];
        file.read_exact_at(&mut got, 0).unwrap();
        assert_eq!(&got, text);
    }
}

#[test]
fn a_restarted_server_is_found_again_with_open_files() {
    let Some(mut stage) = Stage::new(Consistency::Cached, LEASED) else { return };
    fs::create_dir_all(stage.path("a/b/c")).unwrap();
    let mut file = fs::File::create(stage.path("a/b/c/f")).unwrap();
    file.write_all(b"before ").unwrap();
    stage.server.cut();
    stage.server = stage.model.connect(&stage.client);
    file.write_all(b"after").unwrap();
    drop(file);
    assert_eq!(fs::read(stage.path("a/b/c/f")).unwrap(), b"before after");
    fs::rename(stage.path("a/b"), stage.path("z")).unwrap();
    assert_eq!(fs::read(stage.path("z/c/f")).unwrap(), b"before after");
}

#[test]
fn a_request_that_waits_for_the_server_is_made_when_it_is_back() {
    let Some(mut stage) = Stage::new(Consistency::Consistent, Validity::NONE) else { return };
    fs::write(stage.path("f"), b"content").unwrap();
    stage.server.cut();
    let path = stage.path("f");
    let reader = std::thread::spawn(move || fs::read(path));
    std::thread::sleep(Duration::from_millis(300));
    assert!(!reader.is_finished());
    stage.server = stage.model.connect(&stage.client);
    assert_eq!(reader.join().unwrap().unwrap(), b"content");
}

#[test]
fn without_a_server_every_call_answers_within_five_seconds() {
    let Some(stage) = Stage::new(Consistency::Consistent, Validity::NONE) else { return };
    fs::write(stage.path("f"), b"content").unwrap();
    let open = fs::File::open(stage.path("f")).unwrap();
    stage.server.cut();
    let calls: Vec<Box<dyn FnOnce() -> bool + Send>> = vec![
        Box::new({
            let path = stage.path("f");
            move || fs::metadata(path).is_err()
        }),
        Box::new({
            let path = stage.path("new");
            move || fs::write(path, b"x").is_err()
        }),
        Box::new(move || open.read_at(&mut [0; 4], 0).is_err()),
        Box::new({
            let path = stage.dir.path().to_owned();
            move || fs::read_dir(path).is_err()
        }),
    ];
    let begun = Instant::now();
    let calls: Vec<_> = calls.into_iter().map(std::thread::spawn).collect();
    assert!(calls.into_iter().all(|call| call.join().unwrap()));
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}

#[test]
fn a_request_in_flight_when_the_server_dies_is_made_again_or_fails() {
    let Some(mut stage) = Stage::new(Consistency::Consistent, Validity::NONE) else { return };
    fs::write(stage.path("f"), b"content").unwrap();
    stage.server.swallow.store(true, Ordering::SeqCst);
    let (f, g) = (stage.path("f"), stage.path("dir"));
    let reads = std::thread::spawn(move || fs::metadata(f).map(|of| of.len()));
    // Looking up is repeated; making a directory would be in flight after that.
    let makes = std::thread::spawn(move || fs::create_dir(g));
    std::thread::sleep(Duration::from_millis(200));
    stage.server.cut();
    stage.server = stage.model.connect(&stage.client);
    assert_eq!(reads.join().unwrap().unwrap(), 7);
    makes.join().unwrap().unwrap();
}

#[test]
fn a_killed_caller_cancels_its_request() {
    let Some(stage) = Stage::new(Consistency::Consistent, Validity::NONE) else { return };
    stage.server.swallow.store(true, Ordering::SeqCst);
    let mut child = std::process::Command::new("stat").arg(stage.path("f")).spawn().unwrap();
    let begun = Instant::now();
    while stage.server.swallowed.lock().unwrap().is_empty() {
        assert!(begun.elapsed() < Duration::from_secs(5));
        std::thread::sleep(Duration::from_millis(10));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(begun.elapsed() < Duration::from_secs(5));
    stage.server.swallow.store(false, Ordering::SeqCst);
}

#[test]
fn what_the_kernel_forgets_is_given_back_to_the_server() {
    let Some(stage) = Stage::new(Consistency::Cached, LEASED) else { return };
    for number in 0..500 {
        stage.model.tree().add(1, &format!("f{number}"), mode::IFREG | 0o644, b"x");
    }
    let entries: Vec<_> = fs::read_dir(stage.dir.path()).unwrap().map(Result::unwrap).collect();
    for entry in &entries {
        let _ = entry.metadata().unwrap();
    }
    for entry in entries {
        fs::remove_file(entry.path()).unwrap();
    }
    let begun = Instant::now();
    loop {
        let held =
            stage.server.lookups.lock().unwrap().values().filter(|count| **count > 0).count();
        if held == 1 && stage.server.open_handles() == 0 {
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(5), "{held} nodes are held");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(stage.mount.as_ref().unwrap().nodes(), 1);
}

#[test]
fn an_unfit_mount_point_is_refused_and_nothing_is_mounted() {
    let model = Model::new(Consistency::Cached, LEASED);
    let client = Client::new();
    let _server = model.connect(&client);
    let dir = tempfile::tempdir().unwrap();
    let start = |name: &str, at: &str| {
        let at = dir.path().join(at);
        Mount::start(client.clone(), name, &at, MountOptions::default()).map(drop).unwrap_err()
    };
    fs::write(dir.path().join("file"), b"").unwrap();
    assert!(matches!(start("export", "missing"), Error::MountPointMissing(_)));
    assert!(matches!(start("export", "file"), Error::MountPointNotDirectory(_)));
    assert!(matches!(start("export", ""), Error::MountPointNotEmpty(_)));
    assert!(matches!(start("other", ""), Error::UnknownExport(_)));
    assert!(matches!(start("a/b", ""), Error::BadExportName(_)));
}

#[test]
fn a_mount_that_is_unmounted_by_others_ends() {
    let Some(mut stage) = Stage::new(Consistency::Cached, LEASED) else { return };
    let mount = stage.mount.take().unwrap();
    rustix::mount::unmount(stage.dir.path(), rustix::mount::UnmountFlags::empty()).unwrap();
    let (done, wait) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        mount.wait();
        done.send(()).unwrap();
    });
    wait.recv_timeout(Duration::from_secs(5)).unwrap();
}
