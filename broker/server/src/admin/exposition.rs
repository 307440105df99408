//! Prometheus' text format, version 0.0.4: families of samples, each with HELP and TYPE in front.

use std::fmt::{Display, Write};

/// What kind of numbers a family has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Only grows, from 0 at the start of the process.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts by upper bounds, a sum and a count.
    Histogram,
}

/// A page of metrics.
#[derive(Debug, Default)]
pub(super) struct Exposition {
    text: String,
}

/// One family, whose samples follow.
pub(super) struct Family<'a> {
    text: &'a mut String,
    name: &'static str,
}

impl Exposition {
    /// Begins a family.
    pub(super) fn family(&mut self, kind: Kind, name: &'static str, help: &str) -> Family<'_> {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        // Writing to a string cannot fail.
        let _ = write!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
        Family { text: &mut self.text, name }
    }

    /// A family of one number.
    pub(super) fn single(&mut self, kind: Kind, name: &'static str, help: &str, value: impl Display) {
        self.family(kind, name, help).sample(&[], value);
    }

    pub(super) fn into_text(self) -> String {
        self.text
    }
}

impl Family<'_> {
    pub(super) fn sample(&mut self, labels: &[(&str, &str)], value: impl Display) {
        self.sample_of("", labels, value);
    }

    /// A sample of a histogram, whose name has a suffix.
    pub(super) fn sample_of(&mut self, suffix: &str, labels: &[(&str, &str)], value: impl Display) {
        self.text.push_str(self.name);
        self.text.push_str(suffix);
        let mut open = '{';
        for (label, value) in labels {
            self.text.push(open);
            open = ',';
            let _ = write!(self.text, "{label}=\"");
            escape(self.text, value);
            self.text.push('"');
        }
        if !labels.is_empty() {
            self.text.push('}');
        }
        let _ = writeln!(self.text, " {value}");
    }
}

/// Appends a label's value.
fn escape(text: &mut String, value: &str) {
    for letter in value.chars() {
        match letter {
            '\\' => text.push_str("\\\\"),
            '"' => text.push_str("\\\""),
            '\n' => text.push_str("\\n"),
            other => text.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The format's own example, and a label that is anything.
    #[test]
    fn text_is_the_formats() {
        let mut page = Exposition::default();
        page.single(Kind::Gauge, "up", "Whether.", 1);
        let mut family = page.family(Kind::Counter, "requests_total", "How many.");
        family.sample(&[("method", "post"), ("tenant", "a\"b\\c\nd")], 3);
        let expected = "# HELP up Whether.\n# TYPE up gauge\nup 1\n\
                        # HELP requests_total How many.\n# TYPE requests_total counter\n\
                        requests_total{method=\"post\",tenant=\"a\\\"b\\\\c\\nd\"} 3\n";
        assert_eq!(page.into_text(), expected);
    }
}
