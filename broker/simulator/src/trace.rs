//! Everything that crosses the border of a core, as one number: two runs of a seed are the same run exactly
//! when their traces have the same hash. On demand the trace is printed as it grows.

use std::fmt::{self, Write};

use broker_core::time::Mono;

/// A running hash over inputs and outputs.
#[derive(Debug, Default)]
pub struct Trace {
    hash: u64,
    lines: u64,
    print: bool,
}

impl Trace {
    /// An empty trace.
    #[must_use]
    pub fn new(print: bool) -> Trace {
        Trace { hash: 0xCBF2_9CE4_8422_2325, lines: 0, print }
    }

    /// The hash so far.
    #[must_use]
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// How many entries there are.
    #[must_use]
    pub fn lines(&self) -> u64 {
        self.lines
    }

    /// An entry in words.
    pub fn note(&mut self, at: Mono, entry: fmt::Arguments<'_>) {
        self.lines += 1;
        self.word(at.0);
        Hasher(self).write_fmt(entry).expect("hashing does not fail");
        if self.print {
            print_line(format_args!("{:>13.6} {entry}", at.0 as f64 / 1e9));
        }
    }

    /// An entry with bytes.
    pub fn bytes(&mut self, at: Mono, entry: fmt::Arguments<'_>, bytes: &[u8]) {
        if self.print {
            self.note(at, format_args!("{entry} {} bytes: {}", bytes.len(), Hex(bytes)));
        } else {
            self.note(at, entry);
        }
        self.take(bytes);
    }

    fn take(&mut self, bytes: &[u8]) {
        let mut words = bytes.chunks_exact(8);
        for word in words.by_ref() {
            self.word(u64::from_le_bytes(word.try_into().expect("8 bytes")));
        }
        let mut last = [0; 8];
        last[..words.remainder().len()].copy_from_slice(words.remainder());
        self.word(u64::from_le_bytes(last) ^ (bytes.len() as u64) << 56);
    }

    /// FNV-1a, a word at a time, with a rotation so that high bits come down again.
    fn word(&mut self, word: u64) {
        self.hash = (self.hash ^ word).wrapping_mul(0x0100_0000_01B3).rotate_left(29);
    }
}

struct Hasher<'a>(&'a mut Trace);

impl Write for Hasher<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.take(text.as_bytes());
        Ok(())
    }
}

/// The first bytes, in hexadecimal.
struct Hex<'a>(&'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for byte in self.0.iter().take(48) {
            write!(f, "{byte:02x}")?;
        }
        f.write_str(if self.0.len() > 48 { "…" } else { "" })
    }
}

#[expect(clippy::print_stdout, reason = "a trace is asked for on the command line")]
fn print_line(line: fmt::Arguments<'_>) {
    println!("{line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Order, time, words and bytes all count.
    #[test]
    fn every_part_counts() {
        let hash = |entries: &[(u64, &str, &[u8])]| {
            let mut trace = Trace::new(false);
            for (at, words, bytes) in entries {
                trace.bytes(Mono(*at), format_args!("{words}"), bytes);
            }
            trace.hash()
        };
        let base = hash(&[(1, "a", b"12345678"), (2, "b", b"")]);
        assert_eq!(base, hash(&[(1, "a", b"12345678"), (2, "b", b"")]));
        assert_ne!(base, hash(&[(2, "b", b""), (1, "a", b"12345678")]));
        assert_ne!(base, hash(&[(1, "a", b"12345679"), (2, "b", b"")]));
        assert_ne!(base, hash(&[(1, "a", b"12345678"), (3, "b", b"")]));
        assert_ne!(base, hash(&[(1, "a", b"12345678"), (2, "b", b"\0")]));
    }
}
