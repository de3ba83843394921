//! What is said of many measurements.

use std::time::Duration;

/// A median and how far its values lie from it.
#[derive(Clone, Copy, Debug)]
pub struct Median {
    /// The median.
    pub value: f64,
    /// Median distance from the median, as a share of it.
    pub noise: f64,
}

impl Median {
    /// Of these.
    pub fn of(values: &[f64]) -> Self {
        let value = middle(values.to_vec());
        let distances = values.iter().map(|one| (one - value).abs()).collect();
        Self { value, noise: middle(distances) / value.abs().max(f64::MIN_POSITIVE) }
    }
}

fn middle(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let half = values.len() / 2;
    match values.len() {
        0 => f64::NAN,
        odd if odd % 2 == 1 => values[half],
        _ => f64::midpoint(values[half - 1], values[half]),
    }
}

/// In milliseconds.
pub fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// The time that so many per cent of these do not exceed, in milliseconds: the nearest rank.
pub fn percentile(times: &[Duration], per_cent: usize) -> f64 {
    percentile_of(&times.iter().copied().map(millis).collect::<Vec<_>>(), per_cent)
}

/// The value that so many per cent of these do not exceed: the nearest rank. Not a number when
/// there are none.
pub fn percentile_of(values: &[f64], per_cent: usize) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    let rank = (values.len() * per_cent).div_ceil(100).max(1);
    values.get(rank - 1).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_the_nearest_rank() {
        let times: Vec<_> = (1..=200).rev().map(Duration::from_millis).collect();
        let found = [1, 50, 99, 100].map(|per_cent| percentile(&times, per_cent));
        assert!(found.iter().zip([2.0, 100.0, 198.0, 200.0]).all(|(a, b)| (a - b).abs() < 1e-9));
        assert!(percentile(&[], 99).is_nan());
    }
}
