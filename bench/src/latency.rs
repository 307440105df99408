//! Latency histograms and the percentiles shown of them.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// Nanoseconds, three significant digits.
pub(crate) type Latency = Histogram<u64>;

/// Longest latency told apart: a minute.
const LATENCY_NS_MAX: u64 = 60_000_000_000;

/// An empty histogram.
pub(crate) fn histogram() -> Latency {
    Histogram::new_with_bounds(1, LATENCY_NS_MAX, 3).expect("the bounds are constants in order")
}

/// What is shown of a histogram, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct Percentiles {
    /// Values recorded.
    pub(crate) count: u64,
    /// Average.
    pub(crate) mean: f64,
    /// Median.
    pub(crate) p50: f64,
    /// 90th percentile.
    pub(crate) p90: f64,
    /// 99th percentile.
    pub(crate) p99: f64,
    /// 99.9th percentile.
    pub(crate) p999: f64,
    /// Largest value.
    pub(crate) max: f64,
}

impl Percentiles {
    /// Of a histogram in nanoseconds.
    pub(crate) fn of(latency: &Latency) -> Percentiles {
        let at = |quantile: f64| latency.value_at_quantile(quantile) as f64 / 1e3;
        if latency.is_empty() {
            return Percentiles::default();
        }
        Percentiles {
            count: latency.len(),
            mean: latency.mean() / 1e3,
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: latency.max() as f64 / 1e3,
        }
    }
}

/// Points of the curve latency over percentile: (quantile below 1, microseconds), as far out as there
/// are values.
pub(crate) fn curve(latency: &Latency) -> Vec<(f64, f64)> {
    const STEPS_PER_HALVING: u32 = 4;
    let mut points = Vec::new();
    for step in 0.. {
        let rest = 0.5f64.powf(f64::from(step) / f64::from(STEPS_PER_HALVING));
        if rest * (latency.len() as f64) < 1.0 {
            break;
        }
        points.push((1.0 - rest, latency.value_at_quantile(1.0 - rest) as f64 / 1e3));
    }
    points
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Percentiles of 1 to 1000 µs are what they must be, to three digits.
    #[test]
    fn percentiles_of_a_ramp() {
        let mut latency = histogram();
        (1..=1_000u64).for_each(|us| latency.record(us * 1_000).unwrap());
        let shown = Percentiles::of(&latency);
        assert_eq!(shown.count, 1_000);
        for (value, expected) in [
            (shown.p50, 500.0),
            (shown.p90, 900.0),
            (shown.p99, 990.0),
            (shown.p999, 999.0),
            (shown.max, 1_000.0),
        ] {
            assert!((value - expected).abs() <= expected * 0.002, "{value} is not {expected}");
        }
        let curve = curve(&latency);
        assert!(curve.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 <= pair[1].1));
        assert!(curve.last().unwrap().0 > 0.998);
    }

    /// Nothing recorded shows nothing, and longer than a minute is a minute, not an error.
    #[test]
    fn edges_are_held() {
        assert_eq!(Percentiles::of(&histogram()), Percentiles::default());
        let mut latency = histogram();
        latency.saturating_record(u64::MAX);
        assert!(Percentiles::of(&latency).max >= 60e6);
    }
}
