//! Commands in bytes, the same way for every service.
//!
//! ```text
//!  ┌──────┬─────────┬──────────────────────────┐
//!  │ kind │ version │ archived struct          │
//!  │  u8  │ u8 = 1  │ rkyv, little-endian      │
//!  └──────┴─────────┴──────────────────────────┘
//! ```

/// The version that this release writes, of every kind.
pub(super) const VERSION: u8 = 1;

/// A command that can be proposed.
pub trait Encode {
    /// Appends the command's bytes.
    fn encode(&self, out: &mut Vec<u8>);
}

/// The commands of a service by their kinds: how each is encoded, and `Command`, which decodes them all.
macro_rules! commands {
    ($($number:literal $kind:ident, written as $written:ty, read as $read:ty;)*) => {
        $(impl $crate::ranges::archived::Encode for $written {
            fn encode(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&[$number, $crate::ranges::archived::VERSION]);
                let archived =
                    rkyv::api::high::to_bytes_in::<_, rkyv::rancor::Error>(self, std::mem::take(out));
                *out = archived.expect("memory is all it takes");
            }
        })*

        /// A command as it stands in the log.
        pub enum Command<'a> {
            $(
                #[doc = concat!("[`", stringify!($kind), "`](struct@", stringify!($kind), ")")]
                $kind(&'a rkyv::Archived<$read>),
            )*
        }

        impl<'a> Command<'a> {
            /// The command in these bytes. An error where they are no command that this release knows: a
            /// checksum has been over them, so it means another release, or a defect.
            pub fn decode(bytes: &'a [u8]) -> Result<Command<'a>, rkyv::rancor::Error> {
                use $crate::ranges::archived::{Unknown, VERSION};
                let unknown = |kind, version| rkyv::rancor::Source::new(Unknown { kind, version });
                let Some(([kind, version], archived)) = bytes.split_first_chunk() else {
                    return Err(unknown(0, 0));
                };
                match (*kind, *version) {
                    $(($number, VERSION) => rkyv::access(archived).map(Command::$kind),)*
                    (kind, version) => Err(unknown(kind, version)),
                }
            }
        }
    };
}

pub(super) use commands;

/// Bytes that are no command of this release.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unknown {
    /// The kind they name.
    pub kind: u8,
    /// Its version.
    pub version: u8,
}

impl std::fmt::Display for Unknown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "no command of kind {} and version {}", self.kind, self.version)
    }
}

impl std::error::Error for Unknown {}
