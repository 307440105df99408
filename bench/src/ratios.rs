//! The arithmetic of comparisons: medians, ratios, and when a row may be called saturated.

/// A row counts as saturated only where the fake broker shows that harness and machine could drive
/// so many times its rate.
pub(crate) const HEADROOM: f64 = 1.3;

/// Middle of the values, mean of the two middle ones for an even count; `None` of none.
pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.into_iter().filter(|value| value.is_finite()).collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        count if count % 2 == 1 => Some(values[middle]),
        _ => Some(f64::midpoint(values[middle - 1], values[middle])),
    }
}

/// `ours / theirs`; `None` when either is missing or nothing.
pub(crate) fn ratio(ours: Option<f64>, theirs: Option<f64>) -> Option<f64> {
    let (ours, theirs) = (ours?, theirs?);
    (ours > 0.0 && theirs > 0.0).then(|| ours / theirs)
}

/// A ratio as people say it: `1/13.0` below a half, else `0.65`.
pub(crate) fn show_ratio(ratio: Option<f64>) -> String {
    match ratio {
        Some(ratio) if ratio < 0.5 => format!("1/{:.1}", 1.0 / ratio),
        Some(ratio) => format!("{ratio:.2}"),
        None => "–".to_owned(),
    }
}

/// Whether a rate is the broker's own limit and not the harness's.
pub(crate) fn is_saturated(rate: f64, ceiling: Option<f64>) -> bool {
    ceiling.is_some_and(|ceiling| ceiling >= HEADROOM * rate)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Odd, even, empty; order does not matter, what is no number is left out.
    #[test]
    fn medians() {
        assert_eq!(median([3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median([4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(median([]), None);
        assert_eq!(median([f64::NAN, 7.0]), Some(7.0));
    }

    /// Ratios are ours over theirs and are shown as fractions when small.
    #[test]
    fn ratios() {
        assert_eq!(show_ratio(ratio(Some(1.0), Some(13.0))), "1/13.0");
        assert_eq!(show_ratio(ratio(Some(13.0), Some(20.0))), "0.65");
        assert_eq!(show_ratio(ratio(Some(1.0), Some(0.0))), "–");
        assert_eq!(show_ratio(ratio(None, Some(1.0))), "–");
    }

    /// The 1.3 rule holds at its edge and without a ceiling.
    #[test]
    fn saturation_needs_headroom() {
        assert!(is_saturated(100.0, Some(130.0)));
        assert!(!is_saturated(100.0, Some(129.0)));
        assert!(!is_saturated(100.0, None));
    }
}
