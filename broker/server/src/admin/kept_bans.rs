//! Bans that were asked for while the node ran, and those of who came too often, in a file of their own
//! (`admin.bans_file`), so that they outlive it. A line of JSON for each; replaced whole (`replace.rs`).

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use broker_core::bans::{Ban, Target};
use broker_core::time::Wall;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::AdminError;
use crate::clock::Clock;
use crate::replace::replace;

/// Bans by whom they are for.
type Bans = BTreeMap<Target, Ban>;

/// The file, and what is in it. Lives on the administration's thread.
#[derive(Debug, Default)]
pub(crate) struct KeptBans {
    path: Option<PathBuf>,
    bans: Bans,
}

/// Somebody who is kept out: as the file has it, and as the API shows it.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = Ban)]
pub(super) struct Described {
    kind: Kind,
    /// The id, name or network.
    pub(super) name: String,
    /// Of which tenant; not said: of all.
    #[serde(skip_serializing_if = "Option::is_none")]
    tenant: Option<String>,
    /// Until when, milliseconds since 1970; not said: for good.
    #[serde(skip_serializing_if = "Option::is_none")]
    until_ms: Option<u64>,
    /// Why.
    reason: String,
}

#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = BanKind)]
enum Kind {
    Client,
    User,
    Address,
}

impl KeptBans {
    /// What is in the file, if there is one, and holds. A file that is not there yet has none.
    ///
    /// # Errors
    /// It cannot be read, or holds something else.
    pub(crate) fn open(path: Option<&Path>) -> Result<KeptBans, AdminError> {
        let Some(path) = path else { return Ok(KeptBans::default()) };
        KeptBans::read(path).map_err(|error| AdminError::Bans(path.to_owned(), error))
    }

    fn read(path: &Path) -> io::Result<KeptBans> {
        let text = match fs::read_to_string(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            read => read?,
        };
        let mut bans = Bans::new();
        for line in text.lines() {
            let described: Described = serde_json::from_str(line)?;
            let ban = described.into_ban()?;
            bans.insert(ban.target.clone(), ban);
        }
        bans.retain(|_, ban| ban.holds(Clock::wall()));
        Ok(KeptBans { path: Some(path.to_owned()), bans })
    }

    /// Whether anything is.
    pub(super) fn are_kept(&self) -> bool {
        self.path.is_some()
    }

    /// Those that are kept.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Ban> {
        self.bans.values()
    }

    /// Changes them, and the file; without one, nothing is kept.
    ///
    /// # Errors
    /// The file cannot be written; it is as it was.
    pub(super) fn change(&mut self, change: impl FnOnce(&mut Bans)) -> io::Result<()> {
        let Some(path) = &self.path else { return Ok(()) };
        let mut bans = self.bans.clone();
        change(&mut bans);
        bans.retain(|_, ban| ban.holds(Clock::wall()));
        let mut text = String::new();
        for ban in bans.values() {
            text += &serde_json::to_string(&Described::from(ban))?;
            text.push('\n');
        }
        replace(path, &text)?;
        self.bans = bans;
        Ok(())
    }
}

impl Described {
    fn into_ban(self) -> io::Result<Ban> {
        let Described { kind, name, tenant, until_ms, reason } = self;
        let tenant = tenant.map(Into::into);
        let target = match kind {
            Kind::Client => Target::Client { tenant, client: name.into() },
            Kind::User => Target::User { tenant, user: name.into() },
            Kind::Address => Target::Address(name.parse().map_err(io::Error::other)?),
        };
        Ok(Ban { target, until: until_ms.map(Wall), reason: reason.into() })
    }
}

impl From<&Ban> for Described {
    fn from(ban: &Ban) -> Described {
        let (kind, tenant, name) = match &ban.target {
            Target::Client { tenant, client } => (Kind::Client, tenant.as_deref(), client.to_string()),
            Target::User { tenant, user } => (Kind::User, tenant.as_deref(), user.to_string()),
            Target::Address(network) => (Kind::Address, None, network.to_string()),
        };
        let until_ms = ban.until.map(|until| until.0);
        Described { kind, name, tenant: tenant.map(str::to_owned), until_ms, reason: ban.reason.to_string() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is kept comes back as it went, but for what is over; and what is in the file is what it says.
    #[test]
    fn bans_come_back() {
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join("bans");
        let mut kept = KeptBans::open(Some(&path)).unwrap();
        let ban = |target, until| Ban { target, until, reason: "a \"reason\"\n".into() };
        let bans = [
            ban(Target::Client { tenant: Some("acme".into()), client: "a\nb".into() }, None),
            ban(Target::User { tenant: None, user: "eve".into() }, Some(Wall(u64::MAX))),
            ban(Target::Address("192.0.2.0/24".parse().unwrap()), None),
        ];
        let over = ban(Target::User { tenant: None, user: "over".into() }, Some(Wall(1)));
        let all = bans.iter().chain([&over]).cloned();
        kept.change(|kept| kept.extend(all.map(|ban| (ban.target.clone(), ban)))).unwrap();
        let read = KeptBans::open(Some(&path)).unwrap();
        assert_eq!(read.iter().cloned().collect::<Vec<_>>(), bans);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        kept.change(BTreeMap::clear).unwrap();
        assert_eq!(KeptBans::open(Some(&path)).unwrap().iter().count(), 0);
        // What the file cannot have is not remembered for the next time.
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        let over = bans[0].clone();
        assert!(kept.change(|kept| drop(kept.insert(over.target.clone(), over))).is_err());
        assert_eq!(kept.iter().count(), 0);
        fs::remove_dir(&path).unwrap();
        fs::write(&path, "nonsense\n").unwrap();
        assert!(KeptBans::open(Some(&path)).is_err());
    }
}
