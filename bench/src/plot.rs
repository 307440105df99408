//! Latency over percentile as SVG, the tail drawn out: 90, 99, 99.9 … at equal distances.

use std::io;
use std::path::Path;

use plotters::prelude::*;

/// One curve: its name and points (quantile below 1, microseconds).
pub(crate) struct Curve<'a> {
    /// In the legend.
    pub(crate) name: String,
    /// Ascending in both.
    pub(crate) points: &'a [(f64, f64)],
}

const SIZE: (u32, u32) = (960, 540);
const COLOURS: [RGBColor; 6] = [
    RGBColor(0x1F, 0x77, 0xB4),
    RGBColor(0xD6, 0x27, 0x28),
    RGBColor(0x2C, 0xA0, 0x2C),
    RGBColor(0xFF, 0x7F, 0x0E),
    RGBColor(0x94, 0x67, 0xBD),
    RGBColor(0x7F, 0x7F, 0x7F),
];

/// Draws the curves to `path`.
pub(crate) fn write(path: &Path, title: &str, curves: &[Curve<'_>]) -> io::Result<()> {
    let mut svg = String::new();
    draw(&mut svg, title, curves).map_err(|error| io::Error::other(error.to_string()))?;
    std::fs::write(path, svg)
}

fn draw(svg: &mut String, title: &str, curves: &[Curve<'_>]) -> Result<(), Box<dyn std::error::Error>> {
    let points = || curves.iter().flat_map(|curve| curve.points.iter());
    let nines_max = points().map(|(quantile, _)| nines(*quantile)).fold(1.0, f64::max);
    let low = points().map(|(_, us)| *us).fold(f64::INFINITY, f64::min).clamp(0.1, 1e9);
    let high = points().map(|(_, us)| *us).fold(low * 10.0, f64::max);
    let area = SVGBackend::with_string(svg, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&area)
        .caption(title, ("sans-serif", 20))
        .margin(12)
        .x_label_area_size(44)
        .y_label_area_size(72)
        .build_cartesian_2d(0.0..nines_max, (low..high * 1.2).log_scale())?;
    chart
        .configure_mesh()
        .x_desc("percentile")
        .y_desc("latency, µs")
        .x_labels(nines_max.ceil() as usize + 1)
        .x_label_formatter(&|nines| percentile(*nines))
        .y_label_formatter(&|us| format!("{us:.0}"))
        .draw()?;
    for (index, curve) in curves.iter().enumerate() {
        let colour = COLOURS[index % COLOURS.len()];
        let line = curve.points.iter().map(|(quantile, us)| (nines(*quantile), us.max(low)));
        chart
            .draw_series(LineSeries::new(line, colour.stroke_width(2)))?
            .label(curve.name.clone())
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(2)));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK.mix(0.3))
        .draw()?;
    area.present()?;
    Ok(())
}

/// 0 for 0, 1 for 90 %, 2 for 99 %, and so on.
fn nines(quantile: f64) -> f64 {
    -(1.0 - quantile).max(1e-12).log10()
}

fn percentile(nines: f64) -> String {
    let percent = 100.0 * (1.0 - 10f64.powf(-nines));
    let digits = (nines.round() as usize).saturating_sub(2);
    format!("{percent:.digits$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A drawing is SVG and names its curves and the tail's percentiles.
    #[test]
    fn a_drawing_names_its_curves() {
        let points: Vec<(f64, f64)> =
            (0..40).map(|n| (1.0 - 0.7f64.powi(n), 10.0 * f64::from(n + 1))).collect();
        let mut svg = String::new();
        draw(&mut svg, "title", &[Curve { name: "hermod".into(), points: &points }]).unwrap();
        assert!(svg.starts_with("<svg") && svg.contains("hermod") && svg.contains("99.9"));
        assert!(draw(&mut String::new(), "empty", &[]).is_ok());
    }

    /// The axis counts nines.
    #[test]
    fn the_axis_counts_nines() {
        assert!((nines(0.999) - 3.0).abs() < 1e-9);
        assert_eq!(percentile(3.0), "99.9");
        assert_eq!(percentile(1.0), "90");
    }
}
