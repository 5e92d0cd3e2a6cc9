//! What is said in the end: tables for people, JSON for programs, and the budgets.

use std::fmt;
use std::time::Duration;

use serde_json::{Value, json};

use super::daemon::Used;
use super::delay::{self, Series};
use super::environment::Environment;
use super::events::Run;
use super::share::Shape;
use super::stats::{Delays, Spread};
use super::storm;
use super::table::{Table, milliseconds, thousands};

/// What is promised on Linux.
const IDLE_P50: Duration = Duration::from_millis(1);
const LOADED_P99: Duration = Duration::from_millis(10);
const PER_SECOND: f64 = 10_000.0;
const COST: Duration = Duration::from_millis(1);

/// The figures of one shape over all runs.
pub struct ShapeReport {
    shape: Shape,
    runs: Vec<Run>,
}

/// Something promised.
struct Budget {
    promise: String,
    found: String,
    held: bool,
}

impl ShapeReport {
    pub fn new(shape: Shape, runs: Vec<Run>) -> Self {
        Self { shape, runs }
    }

    fn delays(&self, series: fn(&Run) -> &[Series], kind: usize) -> Delays {
        let runs: Vec<_> = self.runs.iter().map(|run| series(run)[kind].delays).collect();
        Delays::median(&runs)
    }

    fn per_second(&self, kind: usize) -> Spread {
        let runs: Vec<_> = self.runs.iter().map(|run| run.storms[kind].per_second()).collect();
        Spread::of(&runs)
    }

    /// How much of a storm's time the host took to make the changes. Near to one, it is the host
    /// that was measured.
    fn hosts_part(&self, kind: usize) -> f64 {
        let part = |run: &Run| {
            let storm = &run.storms[kind];
            storm.making.as_secs_f64() / storm.time.as_secs_f64().max(1e-9)
        };
        Spread::of(&self.runs.iter().map(part).collect::<Vec<_>>()).median.min(1.0)
    }

    /// Processor time a change, of each process.
    fn cost(&self, of: impl Fn(&Run) -> &[Used]) -> Vec<Used> {
        let first = self.runs.first().map(&of).unwrap_or_default();
        let median = |(index, used): (usize, &Used)| {
            let runs: Vec<_> =
                self.runs.iter().map(|run| of(run)[index].time.as_secs_f64()).collect();
            Used { time: Duration::from_secs_f64(Spread::of(&runs).median), ..*used }
        };
        first.iter().enumerate().map(median).collect()
    }

    /// The same, of all processes together.
    fn total_cost(&self, of: impl Fn(&Run) -> &[Used]) -> Duration {
        self.cost(of).iter().map(|used| used.time).sum()
    }

    fn lost(&self) -> usize {
        let of_run = |run: &Run| {
            let single: usize = run.idle.iter().chain(&run.loaded).map(|series| series.lost).sum();
            let storms: usize = run.storms.iter().map(|storm| storm.lost).sum();
            single + storms + run.load_lost + run.steady.lost
        };
        self.runs.iter().map(of_run).sum()
    }

    fn budgets(&self) -> Vec<Budget> {
        let kinds = 0..delay::KINDS.len();
        let idle = kinds.clone().map(|kind| self.delays(|run| &run.idle, kind).p50).max();
        let loaded = kinds.map(|kind| self.delays(|run| &run.loaded, kind).p99).max();
        let slowest = (0..storm::KINDS.len())
            .map(|kind| self.per_second(kind).median)
            .fold(f64::INFINITY, f64::min);
        let storms =
            (0..storm::KINDS.len()).map(|kind| self.total_cost(move |run| &run.storms[kind].cost));
        let cost = storms.chain([self.total_cost(|run| &run.steady.cost)]).max();
        let [idle, loaded, cost] = [idle, loaded, cost].map(Option::unwrap_or_default);
        let lost = self.lost();
        let below = |what: &str, limit: Duration, found: Duration| Budget {
            promise: format!("{what} under {} ms", milliseconds(limit)),
            found: format!("{} ms", milliseconds(found)),
            held: found < limit,
        };
        vec![
            below("delay of the slowest kind, idle, p50", IDLE_P50, idle),
            below("delay of the slowest kind, under load, p99", LOADED_P99, loaded),
            Budget {
                promise: format!(
                    "injections a second, slowest kind, at least {}",
                    thousands(PER_SECOND)
                ),
                found: thousands(slowest),
                held: slowest >= PER_SECOND,
            },
            Budget {
                promise: format!(
                    "processor time a change, dearest kind, at most {} ms",
                    milliseconds(COST)
                ),
                found: format!("{} ms", milliseconds(cost)),
                held: cost <= COST,
            },
            Budget {
                promise: "no event lost".into(),
                found: format!("{lost} lost"),
                held: lost == 0,
            },
        ]
    }

    /// The bare folder is a floor and promises nothing.
    fn promises(&self) -> bool {
        self.shape != Shape::Local
    }

    fn json(&self) -> Value {
        let delays = |series: &Series| {
            let us = |time: Duration| time.as_nanos() as f64 / 1e3;
            let Delays { p50, p99, max } = series.delays;
            json!({"p50_us": us(p50), "p99_us": us(p99), "max_us": us(max), "lost": series.lost})
        };
        let each = |all: &[Series]| -> Value {
            let kinds = delay::KINDS.iter().map(|kind| kind.name().to_owned());
            kinds.zip(all.iter().map(delays)).collect::<serde_json::Map<_, _>>().into()
        };
        let costs = |cost: &[Used]| -> Value {
            let each = cost.iter().map(|used| (used.name.to_owned(), ms(used.time).into()));
            each.collect::<serde_json::Map<_, _>>().into()
        };
        let run = |run: &Run| {
            let storms = storm::KINDS.iter().zip(&run.storms).map(|(kind, storm)| {
                let figures = json!({
                    "events": storm.events, "lost": storm.lost, "per_second": storm.per_second(),
                    "host_ms": ms(storm.making), "ms": ms(storm.time),
                    "processor_ms_per_change": costs(&storm.cost),
                });
                (kind.name().to_owned(), figures)
            });
            json!({
                "delay_idle": each(&run.idle),
                "delay_loaded": each(&run.loaded),
                "load": {
                    "per_second": run.steady.per_second, "lost": run.load_lost + run.steady.lost,
                    "processor_ms_per_change": costs(&run.steady.cost),
                },
                "storms": storms.collect::<serde_json::Map<_, _>>(),
                "repeated": run.trouble.repeated, "watcher_overflows": run.trouble.overflows,
            })
        };
        let runs: Vec<_> = self.runs.iter().map(run).collect();
        json!({"shape": format!("{:?}", self.shape), "runs": runs})
    }
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

impl fmt::Display for ShapeReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "### {}\n", self.shape.name())?;
        let head = ["delay, ms", "idle: p50", "p99", "max", "under load: p50", "p99", "max"];
        let mut table = Table::new(head);
        for (index, kind) in delay::KINDS.iter().enumerate() {
            let idle = self.delays(|run| &run.idle, index);
            let loaded = self.delays(|run| &run.loaded, index);
            let times = [idle, loaded].map(|of| [of.p50, of.p99, of.max].map(milliseconds));
            table.row([kind.name().to_owned()].into_iter().chain(times.into_iter().flatten()));
        }
        writeln!(f, "{table}")?;

        let processes: Vec<_> = self.cost(|run| &run.steady.cost);
        let costs = |costs: &[Used]| -> Vec<_> {
            costs.iter().map(|used| format!("{:.3}", ms(used.time))).collect()
        };
        let head = ["as many as go through", "events/s", "least", "most", "host's part", "lost"];
        let of_each = processes.iter().map(|used| format!("`{}`: CPU ms a change", used.name));
        let mut table = Table::new(head.into_iter().map(str::to_owned).chain(of_each));
        for (index, kind) in storm::KINDS.iter().enumerate() {
            let Spread { median, least, most } = self.per_second(index);
            let lost: usize = self.runs.iter().map(|run| run.storms[index].lost).sum();
            let cost = costs(&self.cost(|run| &run.storms[index].cost));
            let figures = [median, least, most].map(thousands);
            let cells = [kind.name().to_owned()].into_iter().chain(figures);
            let part = format!("{:.0} %", self.hosts_part(index) * 100.0);
            table.row(cells.chain([part, lost.to_string()]).chain(cost));
        }
        let load: Vec<_> = self.runs.iter().map(|run| run.steady.per_second).collect();
        let Spread { median, least, most } = Spread::of(&load);
        let lost: usize = self.runs.iter().map(|run| run.load_lost + run.steady.lost).sum();
        let figures = [median, least, most].map(thousands);
        let cells = ["mixed, at a steady pace".to_owned()].into_iter().chain(figures);
        table.row(cells.chain(["".into(), lost.to_string()]).chain(costs(&processes)));
        writeln!(f, "{table}")?;

        let repeated: u64 = self.runs.iter().map(|run| run.trouble.repeated).sum();
        let overflows: u64 = self.runs.iter().map(|run| run.trouble.overflows).sum();
        if repeated > 0 {
            writeln!(f, "{repeated} events came more than once")?;
        }
        if overflows > 0 {
            writeln!(f, "the watcher's own queue overflowed {overflows} times")?;
        }
        Ok(())
    }
}

/// All of it.
pub struct Report {
    environment: Environment,
    shapes: Vec<ShapeReport>,
}

impl Report {
    pub fn new(environment: Environment, shapes: Vec<ShapeReport>) -> Self {
        Self { environment, shapes }
    }

    fn budgets(&self) -> impl Iterator<Item = (&ShapeReport, Budget)> {
        let promising = self.shapes.iter().filter(|shape| shape.promises());
        promising.flat_map(|shape| shape.budgets().into_iter().map(move |budget| (shape, budget)))
    }

    /// How many budgets are missed.
    pub fn missed(&self) -> usize {
        self.budgets().filter(|(_, budget)| !budget.held).count()
    }

    pub fn json(&self) -> Value {
        let budget = |(of, budget): (&ShapeReport, Budget)| {
            json!({
                "shape": format!("{:?}", of.shape), "promise": budget.promise,
                "found": budget.found, "held": budget.held,
            })
        };
        json!({
            "environment": self.environment.json(),
            "budgets": self.budgets().map(budget).collect::<Vec<_>>(),
            "shapes": self.shapes.iter().map(ShapeReport::json).collect::<Vec<_>>(),
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (of, Budget { promise, found, held }) in self.budgets() {
            let word = if held { "PASS" } else { "FAIL" };
            writeln!(f, "{word}  {}: {promise}: {found}", of.shape.name())?;
        }
        Ok(())
    }
}
