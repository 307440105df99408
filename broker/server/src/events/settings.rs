//! `[events]`: where the node's events can go. Which of them do is each tenant's choice.

use broker_core::config::{Field, Key, Kind, Value};
use broker_core::keys;

use crate::auth::FileName;
use crate::http::Url;

/// `[events]`: where events can go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    /// The file.
    pub(crate) file: FileName,
    /// Its most bytes, then it gives way to a new one.
    pub(crate) file_bytes_max: u64,
    /// Records that may wait to be written, sent or published: of each.
    pub(crate) queue_max: u32,
    /// The service.
    pub(crate) webhook_url: Address,
    /// Whom to believe that it is who it says.
    pub(crate) webhook_ca: FileName,
    /// Milliseconds for a request.
    pub(crate) webhook_timeout_ms: u32,
    /// How often one is repeated.
    pub(crate) webhook_retries_max: u32,
    /// Events in one.
    pub(crate) webhook_batch_max: u32,
    /// How long the first event of one waits for others.
    pub(crate) webhook_linger_ms: u32,
}

impl Settings {
    pub(crate) const KEYS: &'static [Key<Settings>] = keys!(Settings {
        file,
        file_bytes_max in 4096..=9_223_372_036_854_775_807,
        queue_max in 1..=1_000_000,
        webhook_url,
        webhook_ca,
        webhook_timeout_ms in 1..=60_000,
        webhook_retries_max in 0..=100,
        webhook_batch_max in 1..=10_000,
        webhook_linger_ms in 0..=60_000,
    } beside {});
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            file: FileName::default(),
            file_bytes_max: 256 * 1024 * 1024,
            queue_max: 16_384,
            webhook_url: Address(None),
            webhook_ca: FileName::default(),
            webhook_timeout_ms: 5000,
            webhook_retries_max: 3,
            webhook_batch_max: 500,
            webhook_linger_ms: 1000,
        }
    }
}

/// A service, or none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address(pub(crate) Option<Url>);

impl Field for Address {
    const KIND: Kind = Kind::Text("\"http://HOST:PORT/PATH\" or https, or \"\" for none");

    fn read(value: &Value) -> Option<Address> {
        match value {
            Value::Text(text) if text.is_empty() => Some(Address(None)),
            Value::Text(text) => text.parse().ok().map(|url| Address(Some(url))),
            _ => None,
        }
    }

    fn write(&self) -> Value {
        Value::Text(self.0.as_ref().map(Url::to_string).unwrap_or_default())
    }
}
