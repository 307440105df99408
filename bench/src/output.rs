//! Where the program speaks: results to standard output, remarks to standard error.

use std::io::{self, Write};

/// Writes one line to standard output; a closed pipe is not an error worth a panic.
pub(crate) fn line(text: impl std::fmt::Display) {
    let mut out = io::stdout().lock();
    let _ = writeln!(out, "{text}");
    let _ = out.flush();
}

/// Writes one line to standard error.
pub(crate) fn remark(text: impl std::fmt::Display) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}
