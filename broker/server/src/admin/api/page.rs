//! Pages of lists that lie on several cores: one core after the other, and a cursor that says how far it has come.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use broker_core::identity::CoreId;
use serde::Serialize;
use utoipa::ToSchema;

use super::super::gate::Problem;
use super::bad_request;

/// Items of one page, unless asked for otherwise, and at most.
const LIMIT: u16 = 100;
pub(super) const LIMIT_MAX: u16 = 1000;

/// Questions for one page, beyond which it ends early: a search that finds little goes on with the next request.
pub(super) const ASKS_MAX: usize = 512;

/// Some of a list.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct List<T> {
    pub(super) items: Vec<T>,
    /// Of the next page; a page may be short and not be the last. None: it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) cursor: Option<String>,
}

/// How far a list has come. To others it is a word that they bring back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Cursor {
    pub(super) core: CoreId,
    pub(super) slot: u32,
    pub(super) after: Option<Box<str>>,
}

impl Cursor {
    /// The beginning, or where one says.
    pub(super) fn read(text: Option<&str>) -> Result<Cursor, Problem> {
        let Some(text) = text else { return Ok(Cursor::default()) };
        Cursor::decode(text).ok_or_else(|| bad_request("cursor: must be one that came with a page"))
    }

    fn decode(text: &str) -> Option<Cursor> {
        let text = String::from_utf8(URL_SAFE_NO_PAD.decode(text).ok()?).ok()?;
        let mut parts = text.splitn(3, ' ');
        let core = CoreId(parts.next()?.parse().ok()?);
        Some(Cursor { core, slot: parts.next()?.parse().ok()?, after: parts.next().map(Into::into) })
    }

    pub(super) fn write(&self) -> String {
        let Cursor { core, slot, after } = self;
        URL_SAFE_NO_PAD.encode(match after {
            Some(after) => format!("{} {slot} {after}", core.0),
            None => format!("{} {slot}", core.0),
        })
    }

    /// The beginning of the next core's part, if there is one.
    pub(super) fn next_core(&self, cores: usize) -> Option<Cursor> {
        let core = CoreId(self.core.0.checked_add(1)?);
        (core.index() < cores).then(|| Cursor { core, ..Cursor::default() })
    }
}

/// How many items a page is to have.
pub(super) fn limit(wanted: Option<u16>) -> Result<u16, Problem> {
    match wanted.unwrap_or(LIMIT) {
        limit @ 1..=LIMIT_MAX => Ok(limit),
        _ => Err(bad_request(format!("limit: must be 1 to {LIMIT_MAX}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A cursor comes back as it went, whatever is in it, and what is none is refused.
    #[test]
    fn cursors_come_back() {
        for after in [None, Some(""), Some("a b/+/ü #")] {
            let cursor = Cursor { core: CoreId(3), slot: 7, after: after.map(Into::into) };
            assert_eq!(Cursor::read(Some(&cursor.write())).unwrap(), cursor);
        }
        for wrong in ["", "x", "????", "MQ"] {
            assert!(Cursor::read(Some(wrong)).is_err(), "{wrong}");
        }
        assert!(limit(Some(0)).is_err() && limit(Some(1001)).is_err());
    }
}
