//! What is measured in the emulated host: guests of one monitor and the other, in turn.

use std::collections::VecDeque;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::{MARK, Monitor, PROCESSORS};

/// The folder that is shared; what tells that a guest has it mounted.
const SHARED: &str = "/tmp/shared";
const READY: &str = "/tmp/shared/ready";
/// Where programs of this host meet the ports of osxfs's guest.
const VSOCK: &str = "/tmp/vsock";
const PORT: u32 = 4000;
const MEMORY: u64 = 128 << 20;
/// Longer than any step takes, however slow the machine is.
const PATIENCE: Duration = Duration::from_secs(300);
/// What the guest's kernel still has to do after the mount is not idleness.
const SETTLE: Duration = Duration::from_secs(5);

#[derive(clap::Args)]
pub struct Options {
    #[arg(long)]
    rounds: usize,
    #[arg(long)]
    idle: u64,
    #[arg(long)]
    pings: u32,
    #[arg(long)]
    bytes: u64,
}

pub fn run(options: &Options) -> Result<()> {
    fs::create_dir(SHARED)?;
    // osxfs has a server in each monitor's process; QEMU's guests go to this one.
    let mut serve = Command::new("osxfs");
    serve.args(["serve", "--export", &format!("{SHARED}:s"), "--listen", "vsock:any:1525"]);
    let _server = Running::start(&mut serve)?;
    let at = [format!("vsock:{PORT}"), format!("unix:{VSOCK}_{PORT}")];
    let answer = |at| Running::start(Command::new("vsock_peer").args(["answer", at]));
    let _peers = at.iter().map(|at| answer(at)).collect::<Result<Vec<_>>>()?;
    for round in 0..options.rounds {
        for turn in 0..Monitor::ALL.len() {
            let monitor = Monitor::ALL[(round + turn) % Monitor::ALL.len()];
            let figures = measure(monitor, options).with_context(|| monitor.name())?;
            println!("{MARK}{figures}");
        }
    }
    Ok(())
}

/// One life of one guest.
fn measure(monitor: Monitor, options: &Options) -> Result<Value> {
    let _ = fs::remove_file(READY);
    let begun = Instant::now();
    let mut guest = Running::start(&mut command(monitor, options))?;
    while !Path::new(READY).exists() {
        if begun.elapsed() > PATIENCE || guest.has_ended() {
            bail!("its guest does not mount the share; it said\n{}", guest.said());
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    let start = begun.elapsed();
    std::thread::sleep(SETTLE);
    let at_rest = guest.memory()?;
    let (cpu, exits, since) = (guest.processor_time()?, exits(), Instant::now());
    std::thread::sleep(Duration::from_secs(options.idle));
    let idle = since.elapsed().as_secs_f64();
    let cpu = (guest.processor_time()? - cpu) / idle;
    let exits = self::exits().zip(exits).map(|(after, before)| (after - before) as f64 / idle);
    guest.type_line()?;
    let ping = guest.figure("round trip: median ", " us")?;
    let to_host = guest.figure("PASS S", " MB/s")?;
    let to_guest = guest.figure("PASS R", " MB/s")?;
    let after_traffic = guest.memory()?;
    guest.wait()?;
    Ok(json!({
        "monitor": monitor.name(), "start_ms": start.as_secs_f64() * 1e3,
        "memory_kib": at_rest.beyond, "private_kib": at_rest.private, "guest_kib": at_rest.guest,
        "memory_after_kib": after_traffic.beyond,
        "idle_percent": cpu * 100.0, "exits_per_second": exits, "ping_us": ping,
        "to_host_mb": to_host, "to_guest_mb": to_guest,
    }))
}

fn command(monitor: Monitor, options: &Options) -> Command {
    let Options { pings, bytes, .. } = options;
    let words = format!("quiet rdinit=/bench BENCH_PINGS={pings} BENCH_BYTES={bytes}");
    let (kernel, initrd, cpus) = ("/image/vmlinuz", "/image/bench-initrd", PROCESSORS.to_string());
    let mut command = Command::new(monitor.program());
    match monitor {
        Monitor::Osxfs => {
            command.args(["vm", "run", "--kernel", kernel, "--initrd", initrd, "--cpus", &cpus]);
            command.args(["--memory", "128M", "--share", &format!("{SHARED}:/s")]);
            command.args(["--vsock-path", VSOCK, "--console", "stdio", "--cmdline", &words]);
        }
        // The same devices, by the same transport.
        Monitor::Qemu => {
            command.args(["-L", "/tools/qemu", "-accel", "kvm", "-M", "microvm,acpi=on"]);
            command.args(["-cpu", "host", "-smp", &cpus, "-m", "128M", "-serial", "stdio"]);
            command.args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]);
            // Of the registers that vsock needs, not those of before virtio 1.
            command.args(["-global", "virtio-mmio.force-legacy=off"]);
            command.args(["-device", "vhost-vsock-device,guest-cid=3"]);
            command.args(["-device", "virtio-rng-device"]);
            command.args(["-device", "virtio-balloon-device,free-page-reporting=on"]);
            command.args(["-device", "virtio-serial-device", "-chardev", "null,id=null"]);
            command.args(["-device", "virtconsole,chardev=null"]);
            command.args(["-kernel", kernel, "-initrd", initrd, "-append"]);
            // As our monitor says it.
            command.arg(format!("console=ttyS0 panic=-1 tsc=reliable nowatchdog {words}"));
        }
    }
    command
}

/// How often all guests of this host have left the processor so far, where the kernel tells.
fn exits() -> Option<u64> {
    fs::read_to_string("/sys/kernel/debug/kvm/exits").ok()?.trim().parse().ok()
}

/// Resident memory of a process, in KiB.
struct Memory {
    /// The mapping that is the guest's memory.
    guest: u64,
    /// All others: the program, its libraries, heap, stacks, buffers.
    beyond: u64,
    /// Of those, what no file backs.
    private: u64,
}

impl Memory {
    fn of(smaps: &str) -> Result<Self> {
        let mut found = Self { guest: 0, beyond: 0, private: 0 };
        let (mut is_guest, mut guests) = (false, 0);
        for line in smaps.lines() {
            let mut words = line.split_ascii_whitespace();
            let first = words.next().unwrap_or_default();
            let kib = || words.clone().next().and_then(|word| word.parse::<u64>().ok());
            match first {
                "Rss:" if is_guest => found.guest += kib().context("no number")?,
                "Rss:" => found.beyond += kib().context("no number")?,
                "Anonymous:" if !is_guest => found.private += kib().context("no number")?,
                range if !range.ends_with(':') => {
                    let (from, to) = range.split_once('-').context("no range")?;
                    let number = |text| u64::from_str_radix(text, 16);
                    is_guest = number(to)? - number(from)? == MEMORY;
                    guests += u32::from(is_guest);
                }
                _ => {}
            }
        }
        if guests != 1 {
            bail!("{guests} of its mappings are as long as the guest's memory");
        }
        Ok(found)
    }
}

/// A program that is ended when dropped.
struct Running {
    child: Child,
    lines: Receiver<String>,
    last: VecDeque<String>,
}

impl Running {
    fn start(command: &mut Command) -> Result<Self> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("{:?}", command.get_program()))?;
        let output = child.stdout.take().context("piped")?;
        let (tell, lines) = mpsc::channel();
        std::thread::spawn(move || {
            let lines = BufReader::new(output).split(b'\n').map_while(Result::ok);
            for line in lines {
                let _ = tell.send(String::from_utf8_lossy(&line).trim_end().to_owned());
            }
        });
        Ok(Self { child, lines, last: VecDeque::new() })
    }

    fn has_ended(&mut self) -> bool {
        self.child.try_wait().is_ok_and(|status| status.is_some())
    }

    fn proc(&self, file: &str) -> Result<String> {
        let path = format!("/proc/{}/{file}", self.child.id());
        fs::read_to_string(&path).context(path)
    }

    fn memory(&self) -> Result<Memory> {
        Memory::of(&self.proc("smaps")?)
    }

    /// Seconds of processor time, the guest's included.
    fn processor_time(&self) -> Result<f64> {
        let stat = self.proc("stat")?;
        let (_, rest) = stat.rsplit_once(") ").context("no end of its name")?;
        // utime and stime are fields 14 and 15, and the name is the second.
        let ticks = rest.split(' ').skip(11).take(2).map(str::parse::<u64>);
        let ticks: u64 = ticks.sum::<Result<u64, _>>()?;
        Ok(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
    }

    fn type_line(&mut self) -> Result<()> {
        let stdin = self.child.stdin.as_mut().context("piped")?;
        stdin.write_all(b"go\n").context("nobody reads what is typed")
    }

    /// The number before `behind` in the next line that has `before`.
    fn figure(&mut self, before: &str, behind: &str) -> Result<f64> {
        loop {
            let line = match self.lines.recv_timeout(PATIENCE) {
                Ok(line) => line,
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    bail!("it does not say {before:?}; it said\n{}", self.said())
                }
            };
            let text = line.split_once(before).and_then(|(_, text)| text.split_once(behind));
            let number = text.and_then(|(text, _)| text.rsplit(' ').next()?.parse().ok());
            self.last.push_back(line);
            if let Some(number) = number {
                return Ok(number);
            }
        }
    }

    fn said(&mut self) -> String {
        self.last.extend(self.lines.try_iter());
        let skip = self.last.len().saturating_sub(30);
        self.last.iter().skip(skip).map(|line| format!("  {line}\n")).collect()
    }

    /// Waits for its end by itself.
    fn wait(&mut self) -> Result<()> {
        let begun = Instant::now();
        while !self.has_ended() {
            if begun.elapsed() > PATIENCE {
                bail!("it does not end; it said\n{}", self.said());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMAPS: &str = "\
55d0-55d4 r-xp 00000000 00:01 7 /tools/bin/osxfs
Size:                 16 kB
Rss:                  12 kB
Pss:                  12 kB
Anonymous:             4 kB
VmFlags: rd ex
7f0000000000-7f0008000000 rw-p 00000000 00:00 0
Rss:               65536 kB
Anonymous:         65536 kB
7f0010000000-7f0010021000 rw-p 00000000 00:00 0 [heap]
Rss:                 100 kB
Anonymous:           100 kB
";

    #[test]
    fn the_guests_memory_is_told_from_the_monitors() {
        let Memory { guest, beyond, private } = Memory::of(SMAPS).expect("readable");
        assert_eq!((guest, beyond, private), (65536, 112, 104));
        assert!(Memory::of("55d0-55d4 r-xp\nRss: 1 kB\n").is_err(), "no guest in it");
    }
}
