//! The whole machine around a kernel of a few instructions; and what is said where it cannot be.

use crate::guest::Code;
use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};
use vmm::{Error, MemorySize, Outcome, Vm, VmConfig};

/// An ELF file of this code, to lie at 2 MiB and to begin there.
fn kernel(code: &Code) -> tempfile::NamedTempFile {
    let place: u64 = 2 << 20;
    let mut elf = Vec::new();
    elf.extend_from_slice(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
    for half in [2_u16, 62] {
        elf.extend_from_slice(&half.to_le_bytes());
    }
    elf.extend_from_slice(&1_u32.to_le_bytes());
    for word in [place, 64, 0] {
        elf.extend_from_slice(&word.to_le_bytes());
    }
    elf.extend_from_slice(&0_u32.to_le_bytes());
    for half in [64_u16, 56, 1, 0, 0, 0] {
        elf.extend_from_slice(&half.to_le_bytes());
    }
    // A segment to load: read, write, execute.
    elf.extend_from_slice(&1_u32.to_le_bytes());
    elf.extend_from_slice(&7_u32.to_le_bytes());
    let len = code.0.len() as u64;
    for word in [120, place, place, len, len, 0x1000] {
        elf.extend_from_slice(&word.to_le_bytes());
    }
    elf.extend_from_slice(&code.0);
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(&elf).unwrap();
    file
}

#[derive(Clone, Default)]
struct Buffer(Arc<Mutex<Vec<u8>>>);

impl Write for Buffer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn build(kernel: &Path, cpus: u16, buffer: &Buffer) -> Result<Vm, Error> {
    let mut config = VmConfig::new(kernel);
    (config.cpus, config.memory) = (cpus, MemorySize::mib(64));
    Vm::build(&config, Vec::new(), Box::new(buffer.clone()))
}

/// Runs it. Nothing where the host cannot, and says so plainly.
fn run(code: &Code, cpus: u16, stop: bool) -> Option<(Outcome, Vec<u8>)> {
    let (file, buffer) = (kernel(code), Buffer::default());
    let vm = match build(file.path(), cpus, &buffer) {
        Err(error @ Error::NoHypervisor { .. }) => {
            eprintln!("skipped: {error}");
            return None;
        }
        vm => vm.unwrap(),
    };
    let stopper = vm.stopper();
    if stop {
        stopper.stop();
    } else {
        // A guest that does not end is not waited for.
        thread::spawn(move || {
            thread::sleep(Duration::from_secs(20));
            stopper.stop();
        });
    }
    match vm.run() {
        Err(error @ Error::PoorHypervisor { .. }) => {
            let text = error.to_string();
            assert!(text.starts_with("this host cannot boot a stock kernel: "), "{text}");
            assert_eq!(text.lines().count(), 1);
            eprintln!("skipped: {text}");
            None
        }
        outcome => {
            let bytes = buffer.0.lock().unwrap().clone();
            Some((outcome.unwrap(), bytes))
        }
    }
}

/// Writes to the serial port and goes on.
fn hello() -> Code {
    b"hello".iter().fold(Code::default(), |code, byte| {
        // mov dx, 0x3f8; mov al, byte; out dx, al
        code.raw(&[0x66, 0xba, 0xf8, 0x03, 0xb0, *byte, 0xee])
    })
}

#[test]
fn a_guest_that_goes_to_sleep_for_good_is_off_and_its_last_words_are_out() {
    let code = hello().raw(&[0x66, 0xba, 0x00, 0x06, 0xb0, 1 << 5 | 5 << 2, 0xee, 0xf4]);
    for cpus in [1, 3] {
        let Some(end) = run(&code, cpus, false) else { return };
        assert_eq!(end, (Outcome::PowerOff, b"hello".to_vec()));
    }
}

#[test]
fn a_guest_that_resets_itself_wants_to_begin_again() {
    // The keyboard controller's command, a fault that nobody handles, and a jump into the firmware.
    let firmware = [0xb8, 0xf0, 0xff, 0x0f, 0x00, 0xff, 0xe0];
    for reset in [&[0xb0, 0xfe, 0xe6, 0x64, 0xf4][..], &[0x0f, 0x0b], &firmware] {
        let Some(end) = run(&hello().raw(reset), 2, false) else { return };
        assert_eq!(end, (Outcome::Reboot, b"hello".to_vec()));
    }
}

#[test]
fn a_guest_is_stopped_from_outside_also_before_it_runs() {
    let Some(end) = run(&Code::default().raw(&[0xeb, 0xfe]), 2, true) else { return };
    assert_eq!(end, (Outcome::Stopped, Vec::new()));
}

/// Whether the threads of processors have a filter for system calls (`Seccomp` in proc(5)).
fn are_confined() -> bool {
    let is = |path: std::path::PathBuf, text: &str| {
        fs::read_to_string(path).is_ok_and(|all| all.lines().any(|line| line.starts_with(text)))
    };
    fs::read_dir("/proc/self/task").unwrap().flatten().any(|task| {
        is(task.path().join("comm"), "processor") && is(task.path().join("status"), "Seccomp:\t2")
    })
}

#[test]
fn processors_are_confined_before_the_guest_runs() {
    let end = [0x66, 0xba, 0x00, 0x06, 0xb0, 1 << 5 | 5 << 2, 0xee, 0xf4];
    // Says a word and waits for one.
    let wait = [0x66, 0xba, 0xfd, 0x03, 0xec, 0xa8, 0x01, 0x74, 0xfb];
    let file = kernel(&hello().raw(&wait).raw(&end));
    let buffer = Buffer::default();
    let vm = match build(file.path(), 1, &buffer) {
        Err(Error::NoHypervisor { .. }) => return,
        vm => vm.unwrap(),
    };
    let input = vm.input();
    let asker = thread::spawn(move || {
        let deadline = Instant::now() + Duration::from_secs(20);
        while buffer.0.lock().unwrap().is_empty() && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(1));
        }
        let confined = are_confined();
        input.send(b"x");
        confined
    });
    match vm.run() {
        Err(Error::PoorHypervisor { .. }) => {}
        outcome => {
            assert_eq!(outcome.unwrap(), Outcome::PowerOff);
            assert!(asker.join().unwrap());
        }
    }
}

#[test]
fn a_kernel_that_does_not_exist_is_named_before_anything_runs() {
    match build(Path::new("/nonexistent/kernel"), 1, &Buffer::default()) {
        Err(error @ Error::NoHypervisor { .. }) => eprintln!("skipped: {error}"),
        Err(error) => assert_eq!(
            error.to_string(),
            "kernel /nonexistent/kernel: No such file or directory (os error 2)"
        ),
        Ok(_) => panic!("there is no kernel"),
    }
}
