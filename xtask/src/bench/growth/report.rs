//! What is said in the end, and what is promised of it.

use std::fmt;
use std::time::Duration;

use super::super::environment::Environment;
use super::super::share::Shape;
use super::super::table::{Table, thousands};

/// How much longer one file may take in the largest tree than in the smallest.
const FLAT: f64 = 1.3;
/// What grows on a bare folder as well: every step misses the processor's caches. It promises
/// nothing.
const ANYWHERE: &str = "the same anywhere";
/// Most bytes of each process for a node.
const BYTES: f64 = 700.0;

/// What one size took.
pub struct Size {
    pub shape: Shape,
    pub files: usize,
    /// Bytes a node of each process.
    pub memory: Vec<(&'static str, f64)>,
    pub walk: Duration,
    pub open: Duration,
    pub open_anywhere: Duration,
    pub create: Duration,
    pub remove: Duration,
}

/// A large directory.
pub struct Large {
    pub shape: Shape,
    pub names: Duration,
    pub attributes: Duration,
    pub create: Duration,
    pub open: Duration,
    pub remove: Duration,
}

/// Requests in flight together: how many a second.
pub struct InFlight {
    pub shape: Shape,
    pub threads: usize,
    pub looks: f64,
    pub creates: f64,
}

type Work = (&'static str, fn(&Size) -> Duration);
const WORK: [Work; 5] = [
    ("walk", |size| size.walk),
    ("open, read, close", |size| size.open),
    (ANYWHERE, |size| size.open_anywhere),
    ("create, write, close", |size| size.create),
    ("unlink", |size| size.remove),
];

pub struct Report {
    environment: Environment,
    entries: usize,
    pub sizes: Vec<Size>,
    pub large: Vec<Large>,
    pub in_flight: Vec<InFlight>,
}

/// A promise and what was found.
struct Budget {
    promise: String,
    found: String,
    held: bool,
}

impl Report {
    pub fn new(environment: Environment, entries: usize) -> Self {
        Self { environment, entries, sizes: vec![], large: vec![], in_flight: vec![] }
    }

    fn budgets(&self) -> Vec<Budget> {
        let mut budgets = Vec::new();
        for shape in super::PROMISING {
            let mut sizes = self.sizes.iter().filter(|size| size.shape == shape);
            let (Some(first), Some(last)) = (sizes.next(), sizes.next_back()) else { continue };
            for (name, time) in WORK.into_iter().filter(|(name, _)| *name != ANYWHERE) {
                let ratio = time(last).as_secs_f64() / time(first).as_secs_f64();
                budgets.push(Budget {
                    promise: format!(
                        "{}: {name}, with {} files, at most {FLAT} × that with {}",
                        shape.name(),
                        thousands(last.files as f64),
                        thousands(first.files as f64)
                    ),
                    found: format!("{ratio:.2}"),
                    held: ratio <= FLAT,
                });
            }
            // In one process there are both, server and agent.
            let most = BYTES * if shape == Shape::Embedded { 2.0 } else { 1.0 };
            for (process, bytes) in &last.memory {
                budgets.push(Budget {
                    promise: format!("`{process}`: at most {most} bytes a node"),
                    found: format!("{bytes:.0}"),
                    held: *bytes <= most,
                });
            }
        }
        budgets
    }

    /// How many budgets are missed.
    pub fn missed(&self) -> usize {
        self.budgets().iter().filter(|budget| !budget.held).count()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\n", self.environment.line())?;
        writeln!(
            f,
            "Time for one file, of which a tenth took less, in a tree of so many files that the guest knows:\n"
        )?;
        let names = WORK.iter().map(|(name, _)| format!("{name}, µs"));
        let head = ["shape".into(), "files".into()].into_iter().chain(names);
        let mut table = Table::new(head.chain(["bytes a node".to_owned()]));
        for size in &self.sizes {
            let times = WORK.iter().map(|(_, time)| micros(time(size)));
            let memory = size.memory.iter().map(|(name, bytes)| format!("`{name}` {bytes:.0}"));
            let memory = memory.collect::<Vec<_>>().join(", ");
            let start = [size.shape.name().to_owned(), thousands(size.files as f64)];
            table.row(start.into_iter().chain(times).chain([memory]));
        }
        let entries = thousands(self.entries as f64);
        writeln!(f, "{table}\nA directory of {entries} entries, time for one, µs:\n")?;
        let mut table = Table::new([
            "shape",
            "listed, names",
            "listed, with attributes",
            "create, write, close",
            "open, read, close",
            "unlink",
        ]);
        for large in &self.large {
            let times = [large.names, large.attributes, large.create, large.open, large.remove];
            table.row([large.shape.name().to_owned()].into_iter().chain(times.map(micros)));
        }
        writeln!(f, "{table}\nRequests in flight together, how many a second:\n")?;
        let mut table = Table::new([
            "shape",
            "threads",
            "attributes past the kernel's cache",
            "create, write, close, unlink",
        ]);
        for InFlight { shape, threads, looks, creates } in &self.in_flight {
            let rates = [*looks, *creates].map(thousands);
            table.row([shape.name().to_owned(), threads.to_string()].into_iter().chain(rates));
        }
        writeln!(f, "{table}\n## Budgets\n")?;
        let mut table = Table::new(["promised", "found", ""]);
        for Budget { promise, found, held } in self.budgets() {
            table.row([promise, found, if held { "PASS" } else { "MISS" }.to_owned()]);
        }
        write!(f, "{table}")
    }
}

fn micros(time: Duration) -> String {
    format!("{:.1}", time.as_secs_f64() * 1e6)
}
