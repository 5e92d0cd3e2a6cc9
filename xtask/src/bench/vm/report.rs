//! The page that a run writes, in Markdown.

use std::fmt;

use serde_json::{Value, json};

use super::super::environment::Environment;
use super::super::stats::Spread;
use super::super::table::Table;
use super::{Monitor, PROCESSORS};

/// What is promised: KiB beyond the guest's memory, and hundredths of a processor.
const MEMORY: f64 = 8.0 * 1024.0;
const IDLE: f64 = 0.5;

pub struct Report {
    pub environment: Environment,
    pub qemu: String,
    pub guest: String,
    pub idle: u64,
    pub mebibytes: u64,
    /// What each guest showed.
    pub runs: Vec<Value>,
}

/// A row of the table.
struct Row {
    name: &'static str,
    key: &'static str,
    unit: &'static str,
    /// The figure in this unit, of that measured.
    scale: f64,
    digits: usize,
}

const ROWS: [Row; 9] = [
    Row {
        name: "start until the agent's mount is used",
        key: "start_ms",
        unit: "s",
        scale: 1e-3,
        digits: 2,
    },
    Row {
        name: "memory of the monitor beyond the guest's",
        key: "memory_kib",
        unit: "MiB",
        scale: 1.0 / 1024.0,
        digits: 2,
    },
    Row {
        name: "of that, what no file backs",
        key: "private_kib",
        unit: "MiB",
        scale: 1.0 / 1024.0,
        digits: 2,
    },
    Row {
        name: "the same after the vsock traffic",
        key: "memory_after_kib",
        unit: "MiB",
        scale: 1.0 / 1024.0,
        digits: 2,
    },
    Row { name: "idle: of a processor", key: "idle_percent", unit: "%", scale: 1.0, digits: 2 },
    Row { name: "idle: exits a second", key: "exits_per_second", unit: "", scale: 1.0, digits: 1 },
    Row {
        name: "vsock round trip, 64 bytes, median",
        key: "ping_us",
        unit: "µs",
        scale: 1.0,
        digits: 0,
    },
    Row { name: "vsock, guest to host", key: "to_host_mb", unit: "MB/s", scale: 1.0, digits: 1 },
    Row { name: "vsock, host to guest", key: "to_guest_mb", unit: "MB/s", scale: 1.0, digits: 1 },
];

impl Report {
    fn spread(&self, monitor: Monitor, key: &str) -> Spread {
        let of = self.runs.iter().filter(|run| run["monitor"] == monitor.name());
        Spread::of(&of.filter_map(|run| run[key].as_f64()).collect::<Vec<_>>())
    }

    /// What is promised of osxfs, what was found, and whether it holds.
    fn budgets(&self) -> [(String, String, bool); 2] {
        let memory = self.spread(Monitor::Osxfs, "memory_kib").median;
        let idle = self.spread(Monitor::Osxfs, "idle_percent").median;
        [
            (
                format!(
                    "memory beyond the guest's, server included, at most {} MiB",
                    MEMORY / 1024.0
                ),
                format!("{:.2} MiB", memory / 1024.0),
                memory <= MEMORY,
            ),
            (
                format!("an idle guest uses less than {IDLE} % of a processor"),
                format!("{idle:.2} %"),
                idle < IDLE,
            ),
        ]
    }

    /// How many budgets are missed.
    pub fn missed(&self) -> usize {
        self.budgets().iter().filter(|(.., held)| !held).count()
    }

    pub fn json(&self) -> Value {
        let budgets = self.budgets();
        let budgets = budgets.iter().map(
            |(promise, found, held)| json!({"promise": promise, "found": found, "held": held}),
        );
        json!({
            "environment": self.environment.json(), "qemu": self.qemu, "guest": self.guest,
            "budgets": budgets.collect::<Vec<_>>(), "runs": self.runs,
        })
    }

    fn table(&self) -> Table {
        let [ours, theirs] = Monitor::ALL;
        let mut table =
            Table::new(["median (least–most)", ours.name(), theirs.name(), "ours to theirs"]);
        for Row { name, key, unit, scale, digits } in ROWS {
            let cell = |Spread { median, least, most }| {
                let [median, least, most] =
                    [median, least, most].map(|figure| format!("{:.digits$}", figure * scale));
                format!("{median} ({least}–{most}) {unit}").trim_end().to_owned()
            };
            let [ours, theirs] = Monitor::ALL.map(|monitor| self.spread(monitor, key));
            let ratio = if theirs.median > 0.0 {
                format!("{:.2}", ours.median / theirs.median)
            } else {
                String::new()
            };
            table.row([name.to_owned(), cell(ours), cell(theirs), ratio]);
        }
        table
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { environment, qemu, guest, idle, mebibytes, runs } = self;
        let rounds = runs.len() / Monitor::ALL.len();
        writeln!(
            f,
            "{}.\n\n\
             Peer: {qemu}, `-M microvm,acpi=on -accel kvm -cpu host`, vhost-vsock. **All of it runs on an \
             emulated host** (the same QEMU without KVM, one processor with AMD-V), where leaving a guest \
             costs hundreds of times what it costs on a processor: the ratios mean something, the absolute \
             times do not.\n\n\
             Guests of {PROCESSORS} processor and 128 MiB, kernel {guest}, {rounds} of each monitor in turn, with the \
             same initial file system and devices (vsock, rng, balloon, console; virtio-mmio). The share \
             is mounted by `osxfs-agent` over vsock; QEMU's guests reach an `osxfs serve` of its own \
             process, which is not counted in its memory. Idle: {idle} s. Vsock: {mebibytes} MiB each way.\n",
            environment.line(),
        )?;
        writeln!(f, "{}", self.table())?;
        writeln!(
            f,
            "Memory is what `/proc/PID/smaps` shows as resident in all mappings of the process but the \
             one that is the guest's memory: the program and its libraries, heap, stacks and buffers. \
             Processor time is that of `/proc/PID/stat`, the guest's own included.\n"
        )?;
        let mut budgets = Table::new(["promised", "found", ""]);
        for (promise, found, held) in self.budgets() {
            budgets.row([promise, found, if held { "PASS" } else { "MISS" }.to_owned()]);
        }
        writeln!(f, "## Budgets\n\n{budgets}")
    }
}
