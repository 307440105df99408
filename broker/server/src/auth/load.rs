//! The files and services that the settings name, read: all at once, at the start and again on SIGHUP.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use broker_core::access::AccessList;
use broker_core::bans::{Ban, Target};
use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::{self, PemObject};
use rustls::{ClientConfig, RootCertStore};

use super::password_file::PasswordFile;
use super::settings::{FileName, Settings, Text};
use super::token_keys::KeyError;
use super::tokens::Tokens;
use super::webhook::Webhook;
use super::{Knowledge, acl_file, ban_file, password_file};
use crate::http::{NoUrl, Url};

/// A file that cannot be used.
#[derive(Debug)]
pub(crate) struct LoadError {
    /// The setting that names it.
    setting: &'static str,
    path: PathBuf,
    problem: LoadProblem,
}

#[derive(Debug)]
enum LoadProblem {
    Read(io::Error),
    Passwords(password_file::LineError),
    Keys(KeyError),
    Access(acl_file::LineError),
    Bans(ban_file::LineError),
    Url(NoUrl),
    Certificates(pem::Error),
    Authority(rustls::Error),
    /// Nothing could say whether the other end is who it should be.
    Nameless,
}

impl std::error::Error for LoadError {}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "auth.{} {}: ", self.setting, self.path.display())?;
        match &self.problem {
            LoadProblem::Read(error) => error.fmt(f),
            LoadProblem::Passwords(error) => error.fmt(f),
            LoadProblem::Keys(error) => error.fmt(f),
            LoadProblem::Access(error) => error.fmt(f),
            LoadProblem::Bans(error) => error.fmt(f),
            LoadProblem::Url(error) => error.fmt(f),
            LoadProblem::Certificates(error) => error.fmt(f),
            LoadProblem::Authority(error) => error.fmt(f),
            LoadProblem::Nameless => f.write_str("an https:// address needs this file"),
        }
    }
}

/// Everything that the settings name, read.
#[derive(Clone)]
pub(crate) struct Loaded {
    pub(crate) knowledge: Arc<Knowledge>,
    pub(crate) access_list: Option<Arc<AccessList>>,
    /// Who is kept out.
    bans: Arc<ban_file::Bans>,
    /// Those of them who were not, or not so, by what was loaded before: a long list is no work twice.
    pub(crate) banned: Arc<[Ban]>,
    /// Who was kept out by what was loaded before, and is no more.
    pub(crate) unbanned: Arc<[Target]>,
    /// Names of the password file that was loaded before and is not of this one.
    pub(crate) users_gone: Arc<BTreeSet<Arc<str>>>,
}

impl Loaded {
    /// Keeps out others as well: those who are in no file that is read again.
    pub(crate) fn and_bans<'a>(self, others: impl Iterator<Item = &'a Ban>) -> Loaded {
        let banned = self.banned.iter().cloned().chain(others.cloned()).collect();
        Loaded { banned, ..self }
    }

    /// Says what has gone since `former` was loaded.
    pub(crate) fn after(self, former: &Loaded) -> Loaded {
        let stays = |user: &&str| self.knowledge.passwords.as_ref().is_some_and(|file| file.knows(user));
        let users = former.knowledge.passwords.iter().flat_map(PasswordFile::users);
        let users_gone = users.filter(|user| !stays(user)).map(Arc::from).collect();
        let unbanned = former.bans.keys().filter(|target| !self.bans.contains_key(target)).cloned();
        let banned = self.bans.iter().filter(|(target, ban)| former.bans.get(target) != Some(ban));
        let banned = banned.map(|(_, ban)| ban.clone()).collect();
        Loaded { banned, unbanned: unbanned.collect(), users_gone: Arc::new(users_gone), ..self }
    }
}

/// Reads the files that the settings name.
pub(crate) fn load(settings: &Settings) -> Result<Loaded, LoadError> {
    let passwords = read(settings.password_file.path(), "password_file", |text| {
        PasswordFile::parse(text).map_err(LoadProblem::Passwords)
    })?;
    let tokens = read(settings.jwt_key_file.path(), "jwt_key_file", |text| {
        Tokens::new(text.as_bytes(), settings).map_err(LoadProblem::Keys)
    })?;
    let access_list = read(settings.acl_file.path(), "acl_file", |text| {
        acl_file::parse(text).map_err(LoadProblem::Access)
    })?;
    if let Some(passwords) = &passwords {
        tracing::info!("auth.password_file: {} users", passwords.len());
    }
    if let Some(tokens) = &tokens {
        tracing::info!("auth.jwt_key_file: {} keys", tokens.keys().len());
        if let Some((count, why)) = tokens.keys().passed_over() {
            tracing::warn!("auth.jwt_key_file: {count} further keys are not used, the last being {why}");
        }
    }
    if let Some(list) = &access_list {
        tracing::info!("auth.acl_file: rules for {} users", list.users());
        if passwords.is_none() && tokens.is_none() && !settings.asks_webhook() && list.users() > 0 {
            tracing::warn!("auth.acl_file has rules for users, but nothing proves who they are");
        }
    }
    let bans =
        read(settings.ban_file.path(), "ban_file", |text| ban_file::parse(text).map_err(LoadProblem::Bans))?;
    if let Some(bans) = &bans {
        tracing::info!("auth.ban_file: {} bans", bans.len());
    }
    let webhook = webhook(settings)?;
    let knowledge = Knowledge {
        methods: settings.methods.0.clone(),
        passwords,
        tokens,
        webhook,
        allow_anonymous: settings.allow_anonymous,
    };
    let bans = bans.unwrap_or_default();
    Ok(Loaded {
        knowledge: Arc::new(knowledge),
        access_list: access_list.map(Arc::new),
        banned: bans.values().cloned().collect(),
        bans: Arc::new(bans),
        unbanned: Arc::default(),
        users_gone: Arc::default(),
    })
}

fn read<T>(
    path: Option<&Path>,
    setting: &'static str,
    parse: impl Fn(&str) -> Result<T, LoadProblem>,
) -> Result<Option<T>, LoadError> {
    let Some(path) = path else { return Ok(None) };
    let parsed = fs::read_to_string(path).map_err(LoadProblem::Read).and_then(|text| parse(&text));
    parsed.map(Some).map_err(|problem| LoadError { setting, path: path.to_owned(), problem })
}

/// The service that the settings name, if they name one.
fn webhook(settings: &Settings) -> Result<Option<Webhook>, LoadError> {
    let url = |setting, Text(text): &Text| match text.as_str() {
        "" => Ok(None),
        text => text.parse::<Url>().map(Some).map_err(|error| LoadError {
            setting,
            path: PathBuf::from(text),
            problem: LoadProblem::Url(error),
        }),
    };
    let login = url("webhook_url", &settings.webhook_url)?;
    let access = url("webhook_acl_url", &settings.webhook_acl_url)?;
    let secure = [&login, &access].into_iter().flatten().any(Url::is_secure);
    let tls = secure.then(|| authorities("auth.webhook_ca", &settings.webhook_ca)).transpose()?;
    Ok((login.is_some() || access.is_some()).then(|| Webhook {
        login,
        access,
        tls,
        timeout: Duration::from_millis(u64::from(settings.webhook_timeout_ms)),
        cache: Duration::from_secs(u64::from(settings.webhook_cache_seconds)),
        cache_max: settings.webhook_cache_max as usize,
    }))
}

/// Whom to believe that a service is who it says.
pub(crate) fn authorities(setting: &'static str, file: &FileName) -> Result<Arc<ClientConfig>, LoadError> {
    let fail =
        |problem| LoadError { setting, path: file.path().unwrap_or(Path::new("")).to_owned(), problem };
    let path = file.path().ok_or_else(|| fail(LoadProblem::Nameless))?;
    let mut roots = RootCertStore::empty();
    let certificates =
        CertificateDer::pem_file_iter(path).map_err(LoadProblem::Certificates).map_err(fail)?;
    for certificate in certificates {
        let certificate = certificate.map_err(LoadProblem::Certificates).map_err(fail)?;
        roots.add(certificate).map_err(LoadProblem::Authority).map_err(fail)?;
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(LoadProblem::Authority)
        .map_err(fail)?;
    Ok(Arc::new(builder.with_root_certificates(roots).with_no_client_auth()))
}
