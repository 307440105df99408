//! `hermod passwd`: one user of a password file is added, replaced or taken away, and the file with it (`replace.rs`).

use std::fmt;
use std::fs;
use std::io::{self, ErrorKind, Read};
use std::path::PathBuf;

use clap::Args;

use super::hash::Hash;
use super::password_file::{self, LineError, PasswordFile};
use crate::replace::replace;
use crate::sys;

/// The longest name and password that MQTT can carry, bytes.
const BYTES_MAX: usize = 65_535;

/// Changing a password file.
#[derive(Debug, Args)]
pub(crate) struct Passwd {
    /// The file; made if there is none.
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// The user.
    #[arg(value_name = "USER")]
    user: String,

    /// Take the user away.
    #[arg(long, conflicts_with_all = ["password_stdin", "scram"])]
    delete: bool,

    /// Store keys of SCRAM-SHA-256: the user can log in by it, without saying the password, and by the password, too.
    ///
    /// They are cheaper to guess passwords by than what is stored without this flag.
    #[arg(long)]
    scram: bool,

    /// Read the password from standard input, up to the first line's end, instead of asking for it twice.
    #[arg(long)]
    password_stdin: bool,
}

/// Why a password file was not changed.
#[derive(Debug)]
pub(crate) enum PasswdError {
    /// A name that the file cannot hold or no client can send.
    User,
    /// A password that no client can send.
    Password,
    /// The two passwords typed in are not the same.
    Mismatch,
    /// Nothing to take away.
    Unknown,
    /// The file is none.
    Line(LineError),
    /// It cannot be read or written.
    File(PathBuf, io::Error),
    /// There is nobody to ask for the password.
    Terminal(io::Error),
    /// Nothing can be read from standard input, or the kernel has no random numbers.
    Io(io::Error),
}

impl std::error::Error for PasswdError {}

impl fmt::Display for PasswdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PasswdError::User => f.write_str(
                "a user name has 1 to 65535 bytes, no colon or control character in it, no space at its ends \
                 and no # at its beginning",
            ),
            PasswdError::Password => f.write_str("a password has 1 to 65535 bytes"),
            PasswdError::Mismatch => f.write_str("the passwords are not the same"),
            PasswdError::Unknown => f.write_str("there is no such user in the file"),
            PasswdError::Line(error) => write!(f, "the file is not changed: {error}"),
            PasswdError::File(path, error) => write!(f, "{}: {error}", path.display()),
            PasswdError::Terminal(error) => {
                write!(f, "the password cannot be asked for ({error}); --password-stdin reads it")
            }
            PasswdError::Io(error) => error.fmt(f),
        }
    }
}

impl From<io::Error> for PasswdError {
    fn from(error: io::Error) -> PasswdError {
        PasswdError::Io(error)
    }
}

impl Passwd {
    /// Does what was asked for.
    pub(crate) fn run(&self) -> Result<(), PasswdError> {
        check_user(&self.user)?;
        let text = match fs::read_to_string(&self.file) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound && !self.delete => String::new(),
            Err(error) => return Err(self.failed(error)),
        };
        PasswordFile::parse(&text).map_err(PasswdError::Line)?;
        let hash = if self.delete { None } else { Some(self.hash()?) };
        let edited = password_file::edit(&text, &self.user, hash.as_ref()).ok_or(PasswdError::Unknown)?;
        replace(&self.file, &edited).map_err(|error| self.failed(error))
    }

    fn failed(&self, error: io::Error) -> PasswdError {
        PasswdError::File(self.file.clone(), error)
    }

    fn hash(&self) -> Result<Hash, PasswdError> {
        let password = if self.password_stdin { read_password()? } else { ask_password(&self.user)? };
        if password.is_empty() || password.len() > BYTES_MAX {
            return Err(PasswdError::Password);
        }
        let mut salt = [0; 16];
        salt[..8].copy_from_slice(&sys::random()?.to_le_bytes());
        salt[8..].copy_from_slice(&sys::random()?.to_le_bytes());
        Ok(if self.scram { Hash::new_scram(&password, salt) } else { Hash::new(&password, salt) })
    }
}

fn check_user(user: &str) -> Result<(), PasswdError> {
    let fits = (1..=BYTES_MAX).contains(&user.len())
        && !user.contains(|c: char| c == ':' || c.is_control())
        && !user.starts_with('#')
        && user.trim() == user;
    if fits { Ok(()) } else { Err(PasswdError::User) }
}

fn read_password() -> Result<Vec<u8>, PasswdError> {
    let mut password = Vec::new();
    io::stdin().lock().take(BYTES_MAX as u64 + 3).read_to_end(&mut password)?;
    let end = password.iter().position(|byte| *byte == b'\n').unwrap_or(password.len());
    password.truncate(end);
    if password.last() == Some(&b'\r') {
        password.pop();
    }
    Ok(password)
}

fn ask_password(user: &str) -> Result<Vec<u8>, PasswdError> {
    let ask = |prompt: String| rpassword::prompt_password(prompt).map_err(PasswdError::Terminal);
    let password = ask(format!("Password of {user}: "))?;
    if ask("Once more: ".to_owned())? != password {
        return Err(PasswdError::Mismatch);
    }
    Ok(password.into_bytes())
}
