//! One stored password: how it is written in a password file, and whether a password is the one.
//!
//! ```text
//! $6$SALT$HASH                                    SHA-512 of password and salt     Mosquitto to 1.6
//! $7$ITERATIONS$SALT$HASH                         PBKDF2 with HMAC-SHA-512         Mosquitto from 2.0
//! $argon2id$v=19$m=KIB,t=PASSES,p=LANES$SALT$HASH Argon2id (RFC 9106)              ours, for new passwords
//! $scram-sha-256$ITERATIONS$SALT$STORED$SERVER    keys of SCRAM-SHA-256 (RFC 7677) ours, for clients that have SCRAM
//! ```
//!
//! Base64 with padding in all but the third, without in the third, as in the PHC string format. All work is done
//! by whoever calls, and takes up to tens of milliseconds: never a core.

use std::fmt;

use argon2::{Algorithm, Argon2, Params, Version};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use sha2::{Digest, Sha512};
use subtle::ConstantTimeEq;

use super::scram::{self, Credential, KEY_BYTES};

/// What a new password costs whoever checks it, also us: 19 MiB and about 20 ms (the second of the settings
/// that OWASP's password storage cheat sheet recommends).
const ARGON2_KIB: u32 = 19 * 1024;
const ARGON2_PASSES: u32 = 2;

/// What one entry of a password file may cost at most: beyond, one login would hold a thread for seconds.
const ARGON2_KIB_MAX: u32 = 256 * 1024;
const ARGON2_PASSES_MAX: u32 = 16;
const ITERATIONS_MAX: u32 = 5_000_000;

/// What new keys of SCRAM cost a client, and us when it logs in by the password itself: a small device takes a second
/// for it. RFC 7677 wants 4 096 at least.
const SCRAM_ITERATIONS: u32 = 15_000;
const SCRAM_ITERATIONS_MIN: u32 = 4096;

/// Bytes of salts and hashes that are made or taken.
const SALT_BYTES: usize = 16;
const SALT_BYTES_MAX: usize = 64;
const ARGON2_BYTES: usize = 32;
const SHA512_BYTES: usize = 64;

/// A password that is stored, so that it can be recognised and not read.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Hash {
    kind: Kind,
    salt: Box<[u8]>,
    /// Of SCRAM: the stored key.
    hash: Box<[u8]>,
    /// Of SCRAM.
    server_key: Option<[u8; KEY_BYTES]>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Sha512,
    Pbkdf2 { iterations: u32 },
    Argon2id { kib: u32, passes: u32, lanes: u32 },
    Scram { iterations: u32 },
}

/// Why a text is no stored password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HashError {
    /// It begins like none that is known.
    Unknown,
    /// A part is missing, or not what it has to be.
    Malformed,
    /// To check it would take more time or memory than one login may.
    TooCostly,
}

impl std::error::Error for HashError {}

impl fmt::Display for HashError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            HashError::Unknown => {
                "no stored password ($7$, $6$, $argon2id$ and $scram-sha-256$ are; a password itself is not: see hermod passwd)"
            }
            HashError::Malformed => "a stored password of which a part is missing or broken",
            HashError::TooCostly => "a stored password that costs too much to check",
        })
    }
}

impl Hash {
    /// Stores a password under the given salt.
    pub(crate) fn new(password: &[u8], salt: [u8; SALT_BYTES]) -> Hash {
        let kind = Kind::Argon2id { kib: ARGON2_KIB, passes: ARGON2_PASSES, lanes: 1 };
        let hash = kind.hash(password, &salt, ARGON2_BYTES);
        Hash { kind, salt: salt.into(), hash, server_key: None }
    }

    /// The same for clients that prove by SCRAM that they know it.
    pub(crate) fn new_scram(password: &[u8], salt: [u8; SALT_BYTES]) -> Hash {
        let [stored_key, server_key] = scram::keys(password, &salt, SCRAM_ITERATIONS);
        Hash {
            kind: Kind::Scram { iterations: SCRAM_ITERATIONS },
            salt: salt.into(),
            hash: stored_key.into(),
            server_key: Some(server_key),
        }
    }

    /// What SCRAM needs, if that is how it is stored.
    pub(super) fn scram(&self) -> Option<Credential> {
        let Kind::Scram { iterations } = self.kind else { return None };
        let stored_key = self.hash[..].try_into().expect("checked when it was read");
        Some(Credential { iterations, salt: self.salt.clone(), stored_key, server_key: self.server_key? })
    }

    /// Whether this is the password. Takes as long for a wrong one as for the right one.
    pub(crate) fn verify(&self, password: &[u8]) -> bool {
        let hash = self.kind.hash(password, &self.salt, self.hash.len());
        bool::from(hash.ct_eq(&self.hash))
    }

    /// Reads what a password file has behind the user's name.
    pub(crate) fn parse(text: &str) -> Result<Hash, HashError> {
        let parts: Vec<&str> = text.split('$').collect();
        let mut server_key = None;
        let (kind, salt, hash, bytes, engine) = match parts[..] {
            ["", "scram-sha-256", iterations, salt, stored, server] => {
                let iterations = iterations.parse().map_err(|_| HashError::Malformed)?;
                let key = STANDARD.decode(server).ok().and_then(|key| key.try_into().ok());
                server_key = Some(key.ok_or(HashError::Malformed)?);
                (Kind::Scram { iterations }, salt, stored, KEY_BYTES, STANDARD)
            }
            ["", "6", salt, hash] => (Kind::Sha512, salt, hash, SHA512_BYTES, STANDARD),
            ["", "7", iterations, salt, hash] => {
                let iterations = iterations.parse().map_err(|_| HashError::Malformed)?;
                (Kind::Pbkdf2 { iterations }, salt, hash, SHA512_BYTES, STANDARD)
            }
            ["", "argon2id", "v=19", costs, salt, hash] => {
                (parse_costs(costs)?, salt, hash, ARGON2_BYTES, STANDARD_NO_PAD)
            }
            ["", "6" | "7" | "argon2id" | "scram-sha-256", ..] => return Err(HashError::Malformed),
            _ => return Err(HashError::Unknown),
        };
        kind.check()?;
        let salt = engine.decode(salt).map_err(|_| HashError::Malformed)?;
        let hash = engine.decode(hash).map_err(|_| HashError::Malformed)?;
        let salt_is_fit = (1..=SALT_BYTES_MAX).contains(&salt.len())
            && (salt.len() >= argon2::MIN_SALT_LEN || !matches!(kind, Kind::Argon2id { .. }));
        if !salt_is_fit || hash.len() != bytes {
            return Err(HashError::Malformed);
        }
        Ok(Hash { kind, salt: salt.into(), hash: hash.into(), server_key })
    }
}

impl Kind {
    fn check(self) -> Result<(), HashError> {
        let (least, most) = match self {
            Kind::Sha512 => (true, true),
            Kind::Pbkdf2 { iterations } => (iterations > 0, iterations <= ITERATIONS_MAX),
            Kind::Scram { iterations } => (iterations >= SCRAM_ITERATIONS_MIN, iterations <= ITERATIONS_MAX),
            Kind::Argon2id { kib, passes, lanes } => (
                passes > 0 && lanes > 0 && kib >= lanes.saturating_mul(8),
                kib <= ARGON2_KIB_MAX && passes <= ARGON2_PASSES_MAX,
            ),
        };
        match (least, most) {
            (false, _) => Err(HashError::Malformed),
            (_, false) => Err(HashError::TooCostly),
            _ => Ok(()),
        }
    }

    fn hash(self, password: &[u8], salt: &[u8], bytes: usize) -> Box<[u8]> {
        let mut hash = vec![0; bytes].into_boxed_slice();
        match self {
            Kind::Sha512 => {
                hash.copy_from_slice(&Sha512::new().chain_update(password).chain_update(salt).finalize());
            }
            Kind::Pbkdf2 { iterations } => {
                pbkdf2::pbkdf2_hmac::<Sha512>(password, salt, iterations, &mut hash);
            }
            Kind::Scram { iterations } => {
                let [stored_key, _] = scram::keys(password, salt, iterations);
                hash.copy_from_slice(&stored_key);
            }
            Kind::Argon2id { kib, passes, lanes } => {
                let params = Params::new(kib, passes, lanes, Some(bytes)).expect("checked when it was read");
                let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
                argon2.hash_password_into(password, salt, &mut hash).expect("checked when it was read");
            }
        }
        hash
    }
}

/// `m=KIB,t=PASSES,p=LANES`
fn parse_costs(text: &str) -> Result<Kind, HashError> {
    let mut numbers = [0; 3];
    let mut parts = text.split(',');
    for (name, number) in ["m=", "t=", "p="].into_iter().zip(&mut numbers) {
        let part = parts.next().and_then(|part| part.strip_prefix(name)).ok_or(HashError::Malformed)?;
        *number = part.parse().map_err(|_| HashError::Malformed)?;
    }
    let [kib, passes, lanes] = numbers;
    if parts.next().is_some() { Err(HashError::Malformed) } else { Ok(Kind::Argon2id { kib, passes, lanes }) }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, engine) = match self.kind {
            Kind::Sha512 => ("6".to_owned(), STANDARD),
            Kind::Pbkdf2 { iterations } => (format!("7${iterations}"), STANDARD),
            Kind::Scram { iterations } => (format!("scram-sha-256${iterations}"), STANDARD),
            Kind::Argon2id { kib, passes, lanes } => {
                (format!("argon2id$v=19$m={kib},t={passes},p={lanes}"), STANDARD_NO_PAD)
            }
        };
        write!(f, "${kind}${}${}", engine.encode(&self.salt), engine.encode(&self.hash))?;
        self.server_key.map_or(Ok(()), |key| write!(f, "${}", engine.encode(key)))
    }
}

/// Stored passwords are nobody's business, not even a log's.
impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hash({:?})", self.kind)
    }
}

#[cfg(test)]
pub(in crate::auth) mod tests {
    use super::*;

    /// Made by `mosquitto_passwd` 2.0.11: user, password, what stands in the file.
    pub(in crate::auth) const MOSQUITTO: [(&str, &str, &str); 5] = [
        (
            "ann",
            "correct horse",
            "$7$101$kG712y/W4xwQJkzG$4f9cG7u4IgWWG6E8zxtGXeaZnDuzq5Jb3YTsiwFC8tPCZ8bOb5oiKhq2bEx8/8iHoBFepcxcKtoMUo2yXyatiw==",
        ),
        (
            "bob",
            "",
            "$7$101$UWd3FZyKvNvmBz9+$sRspryoiQsbPW/UEwH3n9SLKL46h/22ykK1Vr4utaI0NZ3Pi5QzgZ0kvvCAAnNDePHd6BPyCGl1pPmyJKyvdPg==",
        ),
        (
            "zoë",
            "päss:word$7$",
            "$7$101$xFz/zYA7HzhfB+r4$gc6FyTVTjI//2ZoTgFt1O71n5Lbfq8ZLCD5Z88KWCkEBzx4n9diaMAF2HsuC2XNzlg/GCAXqtR8y8FiAAaBflA==",
        ),
        (
            "dan",
            "secret",
            "$7$20000$cP1eBvD4PPQrSnNj$dAmbG8JE/dp+kJfLXNOK8bz7GyQqntP0TmmPxbYDnLzv2ROAzXSzDTXQT9Sxnlo7x7UeuarFe1UojNEFifFitw==",
        ),
        (
            "old",
            "old secret",
            "$6$Bw5r4tdgffc8QO6w$p8hPo1AfICYJGm2HC/BTFPc/tMmcSTeeEg5HtyJmv4s4Gnmw2iluJ7DDZjBNgCLTvaa5jEJR8IFJyZEDBterKA==",
        ),
    ];

    /// RFC 9106 has vectors with a secret only; this one is the reference implementation's own
    /// (`phc-winner-argon2`, test.c): password "password", salt "somesalt".
    const ARGON2: &str =
        "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4";

    /// What other programs have stored is recognised, and nothing else is; it is written as it was read.
    #[test]
    fn stored_by_others() {
        for (user, password, stored) in MOSQUITTO.into_iter().chain([("", "password", ARGON2)]) {
            let hash = Hash::parse(stored).unwrap_or_else(|error| panic!("{user}: {error}"));
            assert!(hash.verify(password.as_bytes()), "{user}");
            for wrong in ["wrong", " ", &password.to_uppercase(), &format!("{password}x")] {
                assert_eq!(hash.verify(wrong.as_bytes()), wrong == password, "{user}: {wrong}");
            }
            assert_eq!(hash.to_string(), stored);
        }
    }

    /// A new password is recognised after it was written and read; the salt makes the difference.
    #[test]
    fn new_passwords() {
        let hash = Hash::new(b"secret", [7; 16]);
        let text = hash.to_string();
        assert!(text.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{text}");
        let read = Hash::parse(&text).unwrap();
        assert!(read == hash && read.verify(b"secret") && !read.verify(b"Secret"));
        assert!(Hash::new(b"secret", [8; 16]).to_string() != text);
    }

    /// Keys of SCRAM are written and read, know their password, and are none when a part is missing or too cheap.
    #[test]
    fn keys_of_scram() {
        let hash = Hash::new_scram(b"secret", [7; 16]);
        let text = hash.to_string();
        let read = Hash::parse(&text).unwrap();
        assert!(read == hash && read.verify(b"secret") && !read.verify(b"Secret"));
        assert!(read.scram().is_some() && Hash::new(b"secret", [7; 16]).scram().is_none());
        assert!(text.starts_with("$scram-sha-256$15000$"), "{text}");
        for (broken, expected) in [
            (text.replace("15000", "4095"), HashError::Malformed),
            (text.replace("15000", "5000001"), HashError::TooCostly),
            (text[..text.len() - 4].to_owned(), HashError::Malformed),
            (text[..text.rfind('$').unwrap()].to_owned(), HashError::Malformed),
        ] {
            assert_eq!(Hash::parse(&broken).err(), Some(expected), "{broken}");
        }
    }

    /// What is no stored password is refused, and what would cost too much, too; nothing panics.
    #[test]
    fn broken_entries() {
        let (_, _, stored) = MOSQUITTO[0];
        let salt = "kG712y/W4xwQJkzG";
        for (text, expected) in [
            ("secret".to_owned(), HashError::Unknown),
            (String::new(), HashError::Unknown),
            ("$5$a$b".to_owned(), HashError::Unknown),
            ("$argon2i$v=19$m=256,t=2,p=1$c29tZXNhbHQ$x".to_owned(), HashError::Unknown),
            (format!("$7$0${salt}$x"), HashError::Malformed),
            (stored.replace("$101$", "$x$"), HashError::Malformed),
            (stored.replace("$101$", "$4000000000$"), HashError::TooCostly),
            (stored.replace(salt, "!"), HashError::Malformed),
            (stored.replace(salt, ""), HashError::Malformed),
            (stored.replace("==", ""), HashError::Malformed),
            (ARGON2.replace("m=256", "m=1"), HashError::Malformed),
            (ARGON2.replace("m=256", "m=4000000"), HashError::TooCostly),
            (ARGON2.replace("t=2", "t=0"), HashError::Malformed),
            (ARGON2.replace("p=1", "p=4000000000"), HashError::Malformed),
            (ARGON2.replace("p=1", "p=1,x=1"), HashError::Malformed),
            (ARGON2.replace("c29tZXNhbHQ", "YQ"), HashError::Malformed),
        ] {
            assert_eq!(Hash::parse(&text).err(), Some(expected), "{text}");
        }
        for end in 0..stored.len() {
            assert!(Hash::parse(&stored[..end]).is_err(), "{end}");
        }
    }
}
