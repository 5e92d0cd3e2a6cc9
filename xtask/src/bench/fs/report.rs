//! The page that a run writes, in Markdown.

use std::fmt;

use serde_json::{Value, json};

use super::super::environment::Environment;
use super::super::stats::Spread;
use super::super::table::{Table, thousands};
use super::contest::System;
use super::mounted::Requests;
use super::results::Results;
use super::rows::Limit;

/// More than this of the processors used by others is told as a disturbance.
const DISTURBED: f64 = 0.1;

pub struct Report {
    pub environment: Environment,
    /// What is compared with what, and how.
    pub peers: String,
    pub sizes: String,
    pub rounds: u32,
    pub results: Results,
}

impl Report {
    /// How many budgets are missed.
    pub fn missed(&self) -> usize {
        self.results.verdicts().iter().filter(|verdict| !verdict.held()).count()
    }

    pub fn json(&self) -> Value {
        json!({
            "environment": self.environment.json(), "peers": self.peers, "sizes": self.sizes,
            "rounds": self.rounds, "results": self.results.json(),
        })
    }

    fn disturbance(&self) -> String {
        let Spread { median, most, .. } = Spread::of(&self.results.disturbance);
        let figures = format!(
            "before the steps, others used {:.0} % of the processors in the median and {:.0} % at most",
            median * 100.0,
            most * 100.0
        );
        let nice = rustix::process::getpriority_process(None).unwrap_or_default();
        let figures = format!("{figures}; all that was measured ran at nice {nice}");
        if most > DISTURBED {
            format!("**This run was disturbed** by other work on the machine: {figures}.")
        } else {
            format!("Nobody else was at work: {figures}.")
        }
    }

    /// Times with their spread.
    fn times(&self) -> Table {
        let head = ["median (least–most), seconds without a unit"].into_iter();
        let systems = self.results.contest.systems;
        let mut table = Table::new(head.chain(systems.iter().map(|system| system.name())));
        for row in self.results.rows() {
            let cell =
                |&system| self.results.seconds(row, system).map_or_else(|| "failed".into(), spread);
            table.row([row.name().to_owned()].into_iter().chain(systems.iter().map(cell)));
        }
        table
    }

    /// How many times as long as on this file system.
    fn ratios(&self, to: System) -> Table {
        let systems = self.results.contest.systems;
        let others = || systems.iter().copied().filter(move |&system| system != to);
        let head = [format!("times the figure of {}", to.name())].into_iter();
        let mut table = Table::new(head.chain(others().map(|system| system.name().to_owned())));
        for row in self.results.rows() {
            let cells = others().map(|system| ratio(self.results.ratio(row, system, to)));
            table.row([row.name().to_owned()].into_iter().chain(cells));
        }
        table
    }

    /// Requests and processor time.
    fn costs(&self) -> Table {
        let contest = self.results.contest;
        let mut head = vec!["medians of one time".to_owned()];
        for system in contest.ours {
            head.push(format!("{}: requests of the kernel", system.name()));
            head.push("on the wire".into());
        }
        let systems = contest.systems.iter();
        let named = |row| systems.clone().filter_map(move |&system| self.results.cost(row, system));
        // Whoever failed in one row may have figures in another.
        let mut names: Vec<&str> = Vec::new();
        for (name, _) in self.results.rows().flat_map(named).flat_map(|cost| cost.used) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        let interrupts = |row, &system: &System| self.results.cost(row, system)?.interrupts;
        let has_any = |of: &&System| self.results.rows().any(|row| interrupts(row, of).is_some());
        let interrupted: Vec<_> = contest.systems.iter().filter(has_any).collect();
        head.extend(interrupted.iter().map(|of| format!("{}: interrupts", of.name())));
        head.extend(names.iter().map(|name| format!("`{name}`: CPU s")));
        let mut table = Table::new(head);
        for row in self.results.rows() {
            let mut cells = vec![row.name().to_owned()];
            for &system in contest.ours {
                let requests = self.results.cost(row, system).and_then(|cost| cost.requests);
                let figures = requests.map(|Requests { kernel, wire }| [kernel, wire]);
                let shown = |figures: [f64; 2]| figures.map(thousands);
                cells.extend(figures.map_or_else(Default::default, shown));
            }
            let count = |of: &&System| interrupts(row, of).map_or_else(String::new, thousands);
            cells.extend(interrupted.iter().map(count));
            let used: Vec<_> = named(row).flat_map(|cost| cost.used).collect();
            cells.extend(names.iter().map(|name| {
                let found = used.iter().find(|(of, _)| of == name);
                found.map_or_else(String::new, |(_, seconds)| format!("{seconds:.2}"))
            }));
            table.row(cells);
        }
        table
    }

    fn budgets(&self) -> Table {
        let mut table = Table::new(["promised", "of", "to", "at most", "found", ""]);
        for verdict in self.results.verdicts() {
            let word = if verdict.held() { "PASS" } else { "MISS" };
            let (to, most) = match verdict.budget.limit {
                Limit::Times(most, to) => (to.name(), format!("{most:.2}")),
                Limit::Requests(most) => ("requests on the wire", format!("{most:.0}")),
            };
            table.row([
                verdict.row.name().to_owned(),
                verdict.budget.of.name().into(),
                to.into(),
                most,
                ratio(verdict.found),
                word.into(),
            ]);
        }
        table
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { environment, peers, sizes, rounds, results } = self;
        writeln!(f, "{}.\n\n{}\n", environment.line(), self.disturbance())?;
        writeln!(
            f,
            "{peers}\n\n\
             Rounds: {rounds}; in each every file system does every row, in an order that rotates. \
             {sizes}.\n"
        )?;
        writeln!(f, "## Times\n\n{}", self.times())?;
        writeln!(f, "## Ratios\n")?;
        for &to in results.contest.measures {
            writeln!(f, "{}", self.ratios(to))?;
        }
        writeln!(f, "## Budgets\n\n{}", self.budgets())?;
        writeln!(f, "## Requests and processor time\n\n{}", self.costs())?;
        writeln!(f, "Processor time is counted in hundredths of a second.")?;
        for (row, system, why) in results.failures() {
            writeln!(f, "\n{} failed at {}: {why}", system.name(), row.name())?;
        }
        Ok(())
    }
}

fn spread(Spread { median, least, most }: Spread) -> String {
    let [median, least, most] = [median, least, most].map(seconds);
    format!("{median} ({least}–{most})")
}

/// With three digits.
fn seconds(time: f64) -> String {
    match time {
        time if time < 1e-3 => format!("{:.1} µs", time * 1e6),
        time if time < 1e-1 => format!("{:.1} ms", time * 1e3),
        time => format!("{time:.2}"),
    }
}

fn ratio(of: Option<f64>) -> String {
    of.map_or_else(|| "none".into(), |of| format!("{of:.2}"))
}
