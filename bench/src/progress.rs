//! The line that moves while a run goes on; silent when standard error is no terminal.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::clock;

/// How often the line is drawn.
const DRAW: Duration = Duration::from_millis(250);

/// One run's progress line.
#[derive(Debug)]
pub(crate) struct Progress {
    bar: ProgressBar,
    drawn: u64,
    counted: (u64, u64),
    rate: f64,
}

impl Progress {
    /// Begins a line for scenario `name`.
    pub(crate) fn new(name: &str) -> Progress {
        let bar = ProgressBar::new_spinner().with_prefix(name.to_owned());
        if let Ok(style) = ProgressStyle::with_template("{spinner} {prefix}: {msg}") {
            bar.set_style(style);
        }
        Progress { bar, drawn: 0, counted: (clock::now(), 0), rate: 0.0 }
    }

    /// Shows `text`, at most four times a second.
    pub(crate) fn show(&mut self, text: impl std::fmt::Display) {
        let now = clock::now();
        if now - self.drawn > DRAW.as_nanos() as u64 {
            self.drawn = now;
            self.bar.set_message(text.to_string());
            self.bar.tick();
        }
    }

    /// Count per second over the last second or so.
    pub(crate) fn rate(&mut self, count: u64) -> f64 {
        let now = clock::now();
        let (since, before) = self.counted;
        if now - since > 1_000_000_000 {
            self.rate = count.saturating_sub(before) as f64 / clock::seconds(now - since);
            self.counted = (now, count);
        }
        self.rate
    }

    /// Takes the line away.
    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
