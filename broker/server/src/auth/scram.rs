//! SCRAM-SHA-256 (RFC 5802, RFC 7677) as enhanced authentication: the server's side of one exchange, as a state machine
//! over texts. Who has listened to it, or read the password file, cannot log in by what it has seen.
//!
//! ```text
//! CONNECT  n,,n=USER,r=NONCE          ┐ first
//! AUTH     r=NONCE+OURS,s=SALT,i=N    ┘
//! AUTH     c=biws,r=NONCE+OURS,p=PROOF┐ last
//! CONNACK  v=SIGNATURE                ┘
//! ```
//!
//! Names and passwords are taken as they come: nobody prepares them as SASLprep would. There is no channel binding.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use pbkdf2::hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// What MQTT calls it.
pub(super) const METHOD: &str = "SCRAM-SHA-256";

/// Bytes of a key, a signature and a proof.
pub(super) const KEY_BYTES: usize = 32;

/// Bytes of a message from a client.
const MESSAGE_BYTES_MAX: usize = 1024;

/// What a password file has of a password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Credential {
    pub(super) iterations: u32,
    pub(super) salt: Box<[u8]>,
    pub(super) stored_key: [u8; KEY_BYTES],
    pub(super) server_key: [u8; KEY_BYTES],
}

/// The exchange does not go on: what came is none of it, or the proof is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Failed;

/// An exchange of which the first half is over.
#[derive(Clone, Debug)]
pub(crate) struct Exchange {
    user: String,
    /// What a client repeats of its first message, in its own words: whether there is channel binding.
    header: String,
    /// Both ends' part of what makes this exchange another than all others.
    nonce: String,
    /// What both sign, as far as it has been said.
    said: String,
    /// Of a user who is known.
    credential: Option<Credential>,
}

pub(super) fn sha256(bytes: &[u8]) -> [u8; KEY_BYTES] {
    Sha256::digest(bytes).into()
}

pub(super) fn hmac(key: &[u8], bytes: &[u8]) -> [u8; KEY_BYTES] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("keys of any length");
    mac.update(bytes);
    mac.finalize().into_bytes().into()
}

/// The keys that a file keeps of a password: which takes as long as the iterations say.
pub(super) fn keys(password: &[u8], salt: &[u8], iterations: u32) -> [[u8; KEY_BYTES]; 2] {
    let mut salted = [0; KEY_BYTES];
    pbkdf2::pbkdf2_hmac::<Sha256>(password, salt, iterations, &mut salted);
    [sha256(&hmac(&salted, b"Client Key")), hmac(&salted, b"Server Key")]
}

/// A client's first message and our answer. `find` gives what the file has of a user, and a stand-in (which no proof
/// fits) of one that is not in it; `ours` is our part of the nonce.
pub(super) fn begin(
    message: &[u8],
    ours: &str,
    find: impl FnOnce(&str) -> (Option<Credential>, Credential),
) -> Result<(Exchange, String), Failed> {
    let message = text(message)?;
    // "n": the client knows no channel binding; "y": it does, and takes us not to. An authorization identity is
    // for who acts as somebody else, which nobody may.
    let bare_at = ["n,,", "y,,"].iter().find(|header| message.starts_with(**header)).ok_or(Failed)?.len();
    let (header, bare) = message.split_at(bare_at);
    let mut fields = bare.split(',');
    let user = name(field(fields.next(), "n=")?)?;
    let theirs = field(fields.next(), "r=")?;
    if theirs.is_empty() || !theirs.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Failed);
    }
    let nonce = format!("{theirs}{ours}");
    let (credential, shown) = find(&user);
    let answer = format!("r={nonce},s={},i={}", STANDARD.encode(&shown.salt), shown.iterations);
    let said = format!("{bare},{answer}");
    Ok((Exchange { user, header: STANDARD.encode(header), nonce, said, credential }, answer))
}

impl Exchange {
    /// The client's last message: who it has proved to be, and our own proof.
    pub(super) fn finish(self, message: &[u8]) -> Result<(String, String), Failed> {
        let message = text(message)?;
        let (unproved, proof) = message.rsplit_once(",p=").ok_or(Failed)?;
        let mut fields = unproved.split(',');
        if field(fields.next(), "c=")? != self.header || field(fields.next(), "r=")? != self.nonce {
            return Err(Failed);
        }
        let proof: [u8; KEY_BYTES] =
            STANDARD.decode(proof).map_err(|_| Failed)?.try_into().map_err(|_| Failed)?;
        let credential = self.credential.ok_or(Failed)?;
        let said = format!("{},{unproved}", self.said);
        let signature = hmac(&credential.stored_key, said.as_bytes());
        let key: [u8; KEY_BYTES] = std::array::from_fn(|byte| proof[byte] ^ signature[byte]);
        if !bool::from(sha256(&key).ct_eq(&credential.stored_key)) {
            return Err(Failed);
        }
        let ours = hmac(&credential.server_key, said.as_bytes());
        Ok((self.user, format!("v={}", STANDARD.encode(ours))))
    }
}

fn text(message: &[u8]) -> Result<&str, Failed> {
    if message.len() > MESSAGE_BYTES_MAX {
        return Err(Failed);
    }
    str::from_utf8(message).map_err(|_| Failed)
}

fn field<'a>(field: Option<&'a str>, name: &str) -> Result<&'a str, Failed> {
    field.and_then(|field| field.strip_prefix(name)).ok_or(Failed)
}

/// A user's name, in which a comma is `=2C` and an equals sign `=3D`.
fn name(text: &str) -> Result<String, Failed> {
    let mut parts = text.split('=');
    let mut name = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (escaped, rest) = part.split_at_checked(2).ok_or(Failed)?;
        name.push(match escaped {
            "2C" => ',',
            "3D" => '=',
            _ => return Err(Failed),
        });
        name.push_str(rest);
    }
    if name.is_empty() { Err(Failed) } else { Ok(name) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 7677, section 3: user "user", password "pencil".
    const SALT: &str = "W22ZaJ0SNY7soEsUEjb6gQ==";
    const FIRST: &str = "n,,n=user,r=rOprNGfwEbeRWgbNEkqO";
    const OURS: &str = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
    const ANSWER: &str =
        "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
    const LAST: &str = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                        p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
    const SIGNATURE: &str = "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";

    fn credential() -> Credential {
        let salt = STANDARD.decode(SALT).unwrap();
        let [stored_key, server_key] = keys(b"pencil", &salt, 4096);
        Credential { iterations: 4096, salt: salt.into(), stored_key, server_key }
    }

    fn begin_as(first: &str, known: bool) -> Result<(Exchange, String), Failed> {
        begin(first.as_bytes(), OURS, |_| (known.then(credential), credential()))
    }

    /// The exchange of the RFC goes as it stands there.
    #[test]
    fn exchange_of_the_rfc() {
        let (exchange, answer) = begin_as(FIRST, true).unwrap();
        assert_eq!(answer, ANSWER);
        assert_eq!(exchange.finish(LAST.as_bytes()), Ok(("user".to_owned(), SIGNATURE.to_owned())));
    }

    /// A stranger is answered like a user, and not let in by any proof; nor is a user by another one.
    #[test]
    fn proofs_that_are_none() {
        let (exchange, answer) = begin_as(FIRST, false).unwrap();
        assert_eq!((answer.as_str(), exchange.finish(LAST.as_bytes())), (ANSWER, Err(Failed)));
        for (from, to) in [
            ("dHzb", "eHzb"),
            ("c=biws", "c=eSws"),
            ("k0,", "k1,"),
            ("p=", "q="),
            ("VQ=", "VQ"),
            (",p=", ",x=1,p="),
        ] {
            let (exchange, _) = begin_as(FIRST, true).unwrap();
            assert!(LAST.contains(from));
            assert_eq!(exchange.finish(LAST.replace(from, to).as_bytes()), Err(Failed), "{to}");
        }
    }

    /// First messages that ask for what there is not, or do not hold together, are refused.
    #[test]
    fn first_messages_that_are_none() {
        for first in [
            "",
            "n,,",
            "n,,n=user",
            "n,,n=,r=a",
            "n,,n=user,r=",
            "n,,n=us=er,r=a",
            "n,,n=us=2,r=a",
            "n,,m=ext,n=user,r=a",
            "n,a=other,n=user,r=a",
            "p=tls-unique,,n=user,r=a",
            "n,,r=a,n=user",
        ] {
            assert_eq!(begin_as(first, true).err(), Some(Failed), "{first}");
        }
        assert!(begin_as(&format!("n,,n={},r=a", "u".repeat(2000)), true).is_err());
        assert!(begin(b"n,,n=\xff,r=a", OURS, |_| (None, credential())).is_err());
    }

    /// Names are unescaped; what follows the nonce is an extension, and allowed.
    #[test]
    fn names_are_unescaped() {
        let mut asked = String::new();
        let first = b"y,,n=a=2Cb=3Dc,r=x,e=1";
        let begun = begin(first, OURS, |user| {
            asked = user.to_owned();
            (None, credential())
        });
        assert!(begun.is_ok());
        assert_eq!(asked, "a,b=c");
    }
}
