//! All samples of a run, and what they say: medians, ratios, budgets held and missed.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::super::stats::Spread;
use super::contest::{Contest, System};
use super::measure::Sample;
use super::mounted::Requests;
use super::rows::{Budget, Limit, Row};

/// What a row costs osxfs or a peer beside the time; medians.
pub struct Cost {
    /// Of ours only.
    pub requests: Option<Requests>,
    /// Of the device, in a guest.
    pub interrupts: Option<f64>,
    /// Seconds of each process.
    pub used: Vec<(&'static str, f64)>,
}

/// A budget, and what was found of it.
pub struct Verdict {
    pub row: Row,
    pub budget: Budget,
    /// Nothing if one of the two has no figure.
    pub found: Option<f64>,
}

impl Verdict {
    pub fn held(&self) -> bool {
        let (Limit::Times(most, _) | Limit::Requests(most)) = self.budget.limit;
        self.found.is_some_and(|found| found <= most)
    }
}

pub struct Results {
    pub contest: &'static Contest,
    samples: BTreeMap<(Row, System), Vec<Sample>>,
    failures: BTreeMap<(Row, System), String>,
    /// Shares of the processors that others used, looked at before each step.
    pub disturbance: Vec<f64>,
}

impl Results {
    pub fn new(contest: &'static Contest) -> Self {
        let (samples, failures, disturbance) = Default::default();
        Self { contest, samples, failures, disturbance }
    }

    pub fn add(&mut self, system: System, samples: Vec<Sample>) {
        for sample in samples {
            self.samples.entry((sample.row, system)).or_default().push(sample);
        }
    }

    /// These rows have no figure of this file system, and why.
    pub fn fail(&mut self, system: System, rows: &[Row], why: &str) {
        for &row in rows {
            self.failures.entry((row, system)).or_insert_with(|| why.to_owned());
        }
    }

    /// The rows that somebody has a figure of, or has failed.
    pub fn rows(&self) -> impl Iterator<Item = Row> {
        let seen = |row: &Row| {
            self.contest.systems.iter().any(|&system| {
                let key = (*row, system);
                self.samples.contains_key(&key) || self.failures.contains_key(&key)
            })
        };
        Row::ALL.iter().copied().filter(seen)
    }

    /// Seconds. A row that failed once has none.
    pub fn seconds(&self, row: Row, system: System) -> Option<Spread> {
        if self.failures.contains_key(&(row, system)) {
            return None;
        }
        let samples = self.samples.get(&(row, system))?;
        Some(Spread::of(&samples.iter().map(|sample| sample.seconds).collect::<Vec<_>>()))
    }

    pub fn ratio(&self, row: Row, system: System, to: System) -> Option<f64> {
        let [of, to] = [system, to].map(|system| self.seconds(row, system));
        Some(of?.median / to?.median.max(1e-9))
    }

    /// On the wire. A row that failed once has none.
    fn requests(&self, row: Row, system: System) -> Option<f64> {
        self.seconds(row, system)?;
        Some(self.cost(row, system)?.requests?.wire)
    }

    pub fn cost(&self, row: Row, system: System) -> Option<Cost> {
        let samples = self.samples.get(&(row, system))?;
        let median = |of: &dyn Fn(&Sample) -> f64| {
            Spread::of(&samples.iter().map(of).collect::<Vec<_>>()).median
        };
        let first = samples.first()?;
        let of = |sample: &Sample| sample.requests.unwrap_or_default();
        let requests = first.requests.map(|_| Requests {
            kernel: median(&|sample| of(sample).kernel),
            wire: median(&|sample| of(sample).wire),
        });
        let used = first.used.iter().enumerate().map(|(index, used)| {
            (used.name, median(&|sample: &Sample| sample.used[index].time.as_secs_f64()))
        });
        let of = |sample: &Sample| sample.interrupts.unwrap_or_default();
        let interrupts = first.interrupts.map(|_| median(&of));
        Some(Cost { requests, interrupts, used: used.collect() })
    }

    pub fn failures(&self) -> impl Iterator<Item = (Row, System, &str)> {
        self.failures.iter().map(|(&(row, system), why)| (row, system, why.as_str()))
    }

    /// Of every budget of the rows that were measured.
    pub fn verdicts(&self) -> Vec<Verdict> {
        let of_row = |row: Row| {
            self.contest.budgets(row).map(move |budget| {
                let found = match budget.limit {
                    Limit::Times(_, to) => self.ratio(row, budget.of, to),
                    Limit::Requests(_) => self.requests(row, budget.of),
                };
                Verdict { row, budget, found }
            })
        };
        self.rows().flat_map(of_row).collect()
    }

    pub fn json(&self) -> Value {
        let of = |(&(row, system), samples): (&(Row, System), &Vec<Sample>)| {
            let sample = |sample: &Sample| {
                let used: serde_json::Map<_, _> = sample
                    .used
                    .iter()
                    .map(|used| (used.name.to_owned(), used.time.as_secs_f64().into()))
                    .collect();
                json!({
                    "seconds": sample.seconds, "processor_seconds": used,
                    "kernel_requests": sample.requests.map(|requests| requests.kernel),
                    "wire_requests": sample.requests.map(|requests| requests.wire),
                    "interrupts": sample.interrupts,
                })
            };
            json!({
                "row": format!("{row:?}"), "system": format!("{system:?}"),
                "samples": samples.iter().map(sample).collect::<Vec<_>>(),
            })
        };
        let failure = |(row, system, why): (Row, System, &str)| json!({"row": format!("{row:?}"), "system": format!("{system:?}"), "why": why});
        let verdict = |verdict: Verdict| {
            let Budget { of, limit } = verdict.budget;
            let (to, most) = match limit {
                Limit::Times(ratio, to) => (format!("{to:?}"), ratio),
                Limit::Requests(most) => ("requests on the wire".into(), most),
            };
            json!({
                "row": format!("{:?}", verdict.row), "system": format!("{of:?}"),
                "to": to, "at_most": most, "found": verdict.found, "held": verdict.held(),
            })
        };
        json!({
            "rows": self.samples.iter().map(of).collect::<Vec<_>>(),
            "failures": self.failures().map(failure).collect::<Vec<_>>(),
            "budgets": self.verdicts().into_iter().map(verdict).collect::<Vec<_>>(),
            "disturbance": self.disturbance,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::contest::{HERE, IN_A_GUEST};
    use super::*;

    fn sample(row: Row, seconds: f64) -> Sample {
        Sample { row, seconds, requests: None, interrupts: None, used: Vec::new() }
    }

    fn results(ours: f64) -> Results {
        let mut results = Results::new(&HERE);
        for seconds in [1.0, 2.0, 9.0] {
            results.add(System::PassthroughHp, vec![sample(Row::Create, seconds)]);
        }
        results.add(System::Embedded, vec![sample(Row::Create, ours)]);
        results
    }

    fn embedded(results: &Results) -> Verdict {
        let mut verdicts = results.verdicts().into_iter();
        verdicts.find(|verdict| verdict.budget.of == System::Embedded).unwrap()
    }

    #[test]
    fn a_budget_is_held_up_to_its_ratio_of_the_medians() {
        for (ours, held) in [(1.6, true), (1.62, false)] {
            let verdict = embedded(&results(ours));
            assert_eq!(verdict.held(), held, "{:?}", verdict.found);
        }
    }

    #[test]
    fn a_row_that_failed_once_holds_no_budget() {
        let mut results = results(0.1);
        results.fail(System::Embedded, &[Row::Create], "it broke");
        assert!(!embedded(&results).held());
        assert!(results.seconds(Row::Create, System::Embedded).is_none());
    }

    #[test]
    fn a_promise_of_no_request_is_broken_by_one() {
        for (wire, held) in [(0.0, true), (1.0 / 7.0, false)] {
            let mut results = Results::new(&IN_A_GUEST);
            let requests = Some(Requests { kernel: 5.0, wire });
            let ours = Sample { requests, ..sample(Row::FindWarm, 1.0) };
            results.add(System::VirtioSock, vec![ours]);
            results.add(System::VirtiofsdAuto, vec![sample(Row::FindWarm, 9.0)]);
            let verdicts = results.verdicts();
            let of_requests =
                |verdict: &&Verdict| matches!(verdict.budget.limit, Limit::Requests(_));
            let verdict = verdicts.iter().find(of_requests).expect("promised");
            assert_eq!(verdict.held(), held, "{:?}", verdict.found);
        }
    }
}
