//! Docker: a container uses a mount as its volume, and is woken by the host's changes.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::support::{Daemon, PROMPT, Scratch, Shape, Suite, eventually, on_each_shape};
use crate::support::{require, require_root};

const IMAGE: &str = "osxfs-e2e:latest";

on_each_shape!(alone: a_container_shares_a_folder_and_its_events);

fn a_container_shares_a_folder_and_its_events(shape: Shape) {
    require_root!();
    require!("dockerd");
    let Some(image) = image() else { return };
    let engine = Engine::start();
    engine.import(&image);
    let share = shape.mounted();
    std::fs::write(share.host().join("from-host"), "hello").expect("a file");

    let said = engine.run(
        &share.mount().join("."),
        "cat /src/from-host; echo from-container > /src/made; chown 33:34 /src/made
         chmod 640 /src/made; mkdir /src/dir; ln -s made /src/dir/link; stat -c %u:%g:%a /src/made",
    );
    assert_eq!(said, "hello33:34:640\n");
    let made = share.host().join("made");
    assert_eq!(std::fs::read_to_string(&made).expect("the container's file"), "from-container\n");
    let stat = rustix::fs::stat(&made).expect("stat");
    assert_eq!((stat.st_uid, stat.st_gid, stat.st_mode & 0o7777), (33, 34, 0o640));

    let mut watcher = Daemon::spawn(
        "docker run inotifywait",
        engine.container(share.mount(), "inotifywait -m --format '%e %f' /src 2>&1"),
        Duration::from_secs(100),
    );
    watcher.await_line("Watches established.");
    std::fs::write(share.host().join("new"), "x").expect("a file");
    watcher.await_line("CREATE new");
    std::fs::rename(share.host().join("new"), share.host().join("renamed")).expect("a rename");
    watcher.await_line("MOVED_FROM new");
    watcher.await_line("MOVED_TO renamed");
    std::fs::remove_file(share.host().join("renamed")).expect("a file to remove");
    watcher.await_line("DELETE renamed");
    std::fs::write(share.host().join("from-host"), "changed").expect("a file");
    watcher.await_line("MODIFY from-host");
    assert_eq!(engine.run(share.mount(), "cat /src/from-host"), "changed");
    // How editors save.
    std::fs::write(share.host().join("saved"), "saved").expect("a file");
    std::fs::rename(share.host().join("saved"), share.host().join("from-host")).expect("a rename");
    watcher.await_line("MOVED_TO from-host");
    assert_eq!(engine.run(share.mount(), "cat /src/from-host"), "saved");
}

/// The files of a small image: busybox, and inotifywait with the libraries that it loads.
fn image() -> Option<Scratch> {
    let busybox = crate::support::tools::find("busybox")?;
    let inotifywait = crate::support::tools::find("inotifywait")?;
    let root = Scratch::new();
    Suite::shell(
        PROMPT,
        r#"cd "$1"; mkdir -p bin src tmp
        cp "$2" "$3" bin
        for applet in sh cat chown chmod mkdir ln stat; do ln -s busybox bin/$applet; done
        ldd "$3" | grep -o '/[^ ]*' | while read -r library; do
            mkdir -p ".$(dirname "$library")"; cp -L "$library" ".$library"
        done
        tar --exclude=./image.tar -cf image.tar ."#,
        [root.path(), &busybox, &inotifywait],
    );
    Some(root)
}

/// The Docker engine that runs, or one of our own with its own socket and folders.
struct Engine {
    /// Ended before its folder is removed.
    daemon: Option<Daemon>,
    socket: PathBuf,
    scratch: Scratch,
}

impl Engine {
    fn start() -> Self {
        let scratch = Scratch::new();
        let running = Path::new("/var/run/docker.sock");
        let answers = |socket: &Path| docker(socket).arg("info").output().is_ok_and(succeeded);
        if running.exists() && answers(running) {
            return Self { daemon: None, socket: running.to_owned(), scratch };
        }
        let at = |name: &str| scratch.path().join(name);
        let socket = at("docker.sock");
        let mut command = Command::new("dockerd");
        command.arg("--host").arg(format!("unix://{}", socket.display()));
        command.arg("--data-root").arg(at("data")).arg("--exec-root").arg(at("exec"));
        command.arg("--pidfile").arg(at("pid"));
        // No network is needed, and changing the machine's is no business of a test.
        command.args(["--bridge=none", "--iptables=false", "--ip6tables=false"]);
        let daemon = Daemon::spawn("dockerd", command, Duration::from_secs(300));
        eventually("dockerd answers", Duration::from_secs(60), || answers(&socket));
        Self { daemon: Some(daemon), socket, scratch }
    }

    fn import(&self, image: &Scratch) {
        let mut import = docker(&self.socket);
        import.arg("import").arg(image.path().join("image.tar")).arg(IMAGE);
        Suite::run("docker import", Duration::from_secs(60), &mut import).succeeds();
    }

    /// `docker run` of a script with the folder at `/src`.
    fn container(&self, folder: &Path, script: &str) -> Command {
        let mut command = docker(&self.socket);
        command.args(["run", "--rm", "--init=false", "--network=none", "--volume"]);
        command.arg(format!("{}:/src", folder.display()));
        command.args([IMAGE, "/bin/sh", "-c", script]);
        command
    }

    fn run(&self, folder: &Path, script: &str) -> String {
        let mut command = self.container(folder, script);
        Suite::run("docker run", Duration::from_secs(60), &mut command).succeeds().log
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let mut list = docker(&self.socket);
        let ours = list.args(["ps", "--quiet", "--filter"]).arg(format!("ancestor={IMAGE}"));
        if let Ok(output) = ours.output() {
            for container in String::from_utf8_lossy(&output.stdout).lines() {
                let _ = docker(&self.socket).args(["kill", container]).output();
            }
        }
        let _ = docker(&self.socket).args(["image", "rm", "--force", IMAGE]).output();
        self.daemon = None;
        for below in ["data", "exec"] {
            let _ = std::fs::remove_dir_all(self.scratch.path().join(below));
        }
    }
}

fn docker(socket: &Path) -> Command {
    let mut command = Command::new("docker");
    command.arg("--host").arg(format!("unix://{}", socket.display()));
    command
}

#[expect(clippy::needless_pass_by_value, reason = "the shape of a map's function")]
fn succeeded(output: std::process::Output) -> bool {
    output.status.success()
}
