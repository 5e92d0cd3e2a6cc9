//! The [table](crate::events::table) of events once more, with the watcher where it belongs: in a
//! guest of its own kernel, the share mounted over our vsock, the edits made by the host.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use rustix::fs::inotify::ReadFlags;

use super::guest::{self, MARK};
use super::host::{share_of, vm};
use crate::events::table::{Ears, Pace, Side, View, compare, prepare};
use crate::support::Scratch;
use crate::support::watcher::Event;

/// An emulated processor in an emulated processor takes its time.
const PACE: Pace = Pace { step: Duration::from_secs(60), quiet: Duration::from_secs(2) };

pub fn a_watcher_in_the_guest_hears_what_a_local_one_hears() {
    let scratch = Scratch::new();
    let local = Side { folder: scratch.dir("local"), outside: scratch.dir("local-outside") };
    let shared = scratch.dir("shared");
    let host = Side { folder: shared.join("all"), outside: scratch.dir("host-outside") };
    let runs = prepare(&local, &host);
    let ears = InGuest::start(vm().args(share_of(&shared, "/shared")));
    let view = View::new("guest", Path::new("/shared/all"), &runs, ears);
    println!("{} scripts are watched", runs.len());
    compare(&local, &host, runs, vec![view], PACE);
}

/// A guest that watches.
struct InGuest {
    guest: Child,
    paths: Option<ChildStdin>,
    answers: Receiver<Result<i32, String>>,
    events: Receiver<Event>,
}

impl InGuest {
    fn start(command: &mut Command) -> Self {
        guest::run_in(command, "ears");
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut guest = command.spawn().expect("osxfs");
        let paths = guest.stdin.take();
        let stdout = guest.stdout.take().expect("piped");
        let ((tell, answers), (hear, events)) = (mpsc::channel(), mpsc::channel());
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let Some(line) = line.strip_prefix(MARK) else { continue };
                let words: Vec<&str> = line.split(' ').collect();
                let _ = match words[..] {
                    ["watch", number] => tell.send(Ok(number.parse().expect("a number"))).is_ok(),
                    ["error", ..] => tell.send(Err(line.to_owned())).is_ok(),
                    ["event", ..] => hear.send(event_of(&words)).is_ok(),
                    _ => true,
                };
            }
        });
        Self { guest, paths, answers, events }
    }
}

fn event_of(words: &[&str]) -> Event {
    let number = |at: usize| words[at].parse::<u32>().expect("a number");
    let name = words[4].trim_end_matches('.').as_bytes();
    let digits = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).expect("digits"), 16);
    let name: Vec<u8> = name.chunks(2).map(|pair| digits(pair).expect("a byte")).collect();
    Event {
        watch: words[1].parse().expect("a number"),
        what: ReadFlags::from_bits_retain(number(2)),
        cookie: number(3),
        name: (!name.is_empty()).then_some(name),
    }
}

impl Ears for InGuest {
    fn watch(&mut self, path: &Path) -> Result<i32, String> {
        let paths = self.paths.as_mut().expect("open");
        writeln!(paths, "{}", path.display()).map_err(|error| error.to_string())?;
        self.answers.recv_timeout(super::LIMIT).map_err(|_| "the guest is gone".to_owned())?
    }

    fn read(&mut self) -> Vec<Event> {
        self.events.try_iter().collect()
    }
}

impl Drop for InGuest {
    fn drop(&mut self) {
        // The end of its input is its end.
        drop(self.paths.take());
        let status = self.guest.wait().expect("its end");
        if !std::thread::panicking() {
            assert!(status.success(), "{status}");
        }
    }
}
