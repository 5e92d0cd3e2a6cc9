//! Percentiles and medians.

use std::time::Duration;

/// The smallest sample that at least `percent` of all are not above. Zero if there are none.
pub fn percentile(sorted: &[Duration], percent: u32) -> Duration {
    let rank = (sorted.len() * percent as usize).div_ceil(100);
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or_default()
}

/// What is said of a run's delays.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Delays {
    pub p50: Duration,
    pub p99: Duration,
    pub max: Duration,
}

impl Delays {
    pub fn of(mut samples: Vec<Duration>) -> Self {
        samples.sort_unstable();
        let at = |percent| percentile(&samples, percent);
        Self { p50: at(50), p99: at(99), max: at(100) }
    }

    /// Of several runs: the medians, and the greatest of all.
    pub fn median(runs: &[Self]) -> Self {
        let of = |field: fn(&Self) -> Duration| {
            let all: Vec<_> = runs.iter().map(|run| field(run).as_secs_f64()).collect();
            Duration::from_secs_f64(Spread::of(&all).median)
        };
        let max = runs.iter().map(|run| run.max).max().unwrap_or_default();
        Self { p50: of(|run| run.p50), p99: of(|run| run.p99), max }
    }
}

/// The median of several runs, and between what they lie.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Spread {
    pub median: f64,
    pub least: f64,
    pub most: f64,
}

impl Spread {
    pub fn of(values: &[f64]) -> Self {
        let mut sorted = values.to_vec();
        sorted.sort_unstable_by(f64::total_cmp);
        let at = |index: usize| sorted.get(index).copied().unwrap_or_default();
        let last = sorted.len().saturating_sub(1);
        let median = f64::midpoint(at(last / 2), at(sorted.len() / 2));
        Self { median, least: at(0), most: at(last) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(values: impl IntoIterator<Item = u64>) -> Vec<Duration> {
        values.into_iter().map(Duration::from_millis).collect()
    }

    #[test]
    fn a_percentile_is_the_smallest_sample_that_enough_are_not_above() {
        let hundred = samples(1..=100);
        for (percent, expected) in [(0, 1), (1, 1), (50, 50), (99, 99), (100, 100)] {
            assert_eq!(percentile(&hundred, percent), Duration::from_millis(expected), "{percent}");
        }
        let three = samples([5, 6, 7]);
        for (percent, expected) in [(33, 5), (34, 6), (50, 6), (67, 7), (99, 7)] {
            assert_eq!(percentile(&three, percent), Duration::from_millis(expected), "{percent}");
        }
    }

    #[test]
    fn of_one_sample_every_percentile_is_it_and_of_none_nothing() {
        for percent in [0, 50, 99, 100] {
            assert_eq!(percentile(&samples([3]), percent), Duration::from_millis(3));
            assert_eq!(percentile(&[], percent), Duration::ZERO);
        }
    }

    #[test]
    fn delays_are_told_of_samples_in_any_order() {
        let delays = Delays::of(samples((1..=200).rev()));
        let [p50, p99, max] = [100, 198, 200].map(Duration::from_millis);
        assert_eq!(delays, Delays { p50, p99, max });
    }

    #[test]
    fn a_spread_has_the_middle_of_two_as_median() {
        let spread = |values: &[f64]| {
            let Spread { median, least, most } = Spread::of(values);
            [median, least, most]
        };
        assert_eq!(spread(&[3.0, 1.0, 2.0]), [2.0, 1.0, 3.0]);
        assert_eq!(spread(&[4.0, 1.0]), [2.5, 1.0, 4.0]);
        assert_eq!(spread(&[]), [0.0; 3]);
    }
}
