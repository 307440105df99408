//! The keys by which an issuer's tokens are judged: a JSON Web Key Set (RFC 7517), a public key in PEM, or a shared
//! secret. A key that can be guessed, or is not meant for signatures, judges nothing.

use std::fmt;

use jsonwebtoken::jwk::{AlgorithmParameters, Jwk, JwkSet, KeyAlgorithm, KeyOperations, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, DecodingKeyKind, Header};

/// What a key file holds.
pub(super) struct Keys {
    keys: Vec<Key>,
    /// Keys of a set that are not used, and why the last of them is not.
    passed_over: Option<(usize, Unusable)>,
}

struct Key {
    /// Its name in a set of several.
    id: Option<String>,
    /// The only algorithm that it is for, if the set says one.
    algorithm: Option<KeyAlgorithm>,
    key: DecodingKey,
}

/// Why a key of a set is not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unusable {
    /// Of a kind or curve that is not known, or broken.
    Unknown,
    /// For something else than signatures (`use`, `key_ops`).
    OtherUse,
    /// It can be guessed.
    Weak,
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Unusable::Unknown => "of a kind or curve that is not known",
            Unusable::OtherUse => "not for signatures (use, key_ops)",
            Unusable::Weak => {
                "one that can be guessed: a secret of less than 32 bytes, or RSA of less than 2048 bits"
            }
        })
    }
}

/// A file that holds no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeyError {
    /// Neither a set of keys nor a public key that is known.
    Malformed,
    /// A set without a key that can be used.
    Empty,
    /// A secret that can be guessed.
    Short,
    /// An RSA key that can be factored.
    Small,
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            KeyError::Malformed => "neither a JSON Web Key Set nor an RSA, EC or Ed25519 public key in PEM",
            KeyError::Empty => "a set without a key that can be used",
            KeyError::Short => "a secret of less than 32 bytes, which can be guessed",
            KeyError::Small => "an RSA key of less than 2048 bits",
        })
    }
}

/// Bytes of a shared secret at least: as many as the shortest hash has (RFC 7518, section 3.2).
const SECRET_BYTES_MIN: usize = 32;

/// Bytes of an RSA modulus at least (RFC 7518, section 3.3).
const MODULUS_BYTES_MIN: usize = 256;

impl Keys {
    /// Reads the content of a key file.
    pub(super) fn read(content: &[u8]) -> Result<Keys, KeyError> {
        let text = content.trim_ascii();
        if text.starts_with(b"{") {
            return Keys::of_set(text);
        }
        let key = if text.starts_with(b"-----BEGIN") {
            DecodingKey::from_rsa_pem(text)
                .or_else(|_| DecodingKey::from_ec_pem(text))
                .or_else(|_| DecodingKey::from_ed_pem(text))
                .map_err(|_| KeyError::Malformed)?
        } else {
            DecodingKey::from_secret(text)
        };
        match (is_weak(&key), text.starts_with(b"-----BEGIN")) {
            (false, _) => Ok(Keys { keys: vec![Key { id: None, algorithm: None, key }], passed_over: None }),
            (true, true) => Err(KeyError::Small),
            (true, false) => Err(KeyError::Short),
        }
    }

    /// A set: what cannot be used in it is passed over (RFC 7517, section 5), so that an issuer may add what others
    /// know.
    fn of_set(text: &[u8]) -> Result<Keys, KeyError> {
        let set: JwkSet = serde_json::from_slice(text).map_err(|_| KeyError::Malformed)?;
        let (mut keys, mut passed_over) = (Vec::new(), None::<(usize, Unusable)>);
        for jwk in &set.keys {
            match Key::of_set(jwk) {
                Ok(key) => keys.push(key),
                Err(why) => passed_over = Some((passed_over.map_or(1, |(count, _)| count + 1), why)),
            }
        }
        if keys.is_empty() { Err(KeyError::Empty) } else { Ok(Keys { keys, passed_over }) }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }

    /// Keys that are not used, and why the last of them is not.
    pub(super) fn passed_over(&self) -> Option<(usize, Unusable)> {
        self.passed_over
    }

    /// The keys that a token with such a header may be signed by.
    pub(super) fn fitting(&self, header: &Header) -> impl Iterator<Item = &DecodingKey> {
        let (id, algorithm) = (header.kid.as_deref(), header.alg);
        self.keys.iter().filter(move |key| key.fits(id, algorithm)).map(|key| &key.key)
    }
}

impl Key {
    fn of_set(jwk: &Jwk) -> Result<Key, Unusable> {
        let verifies = |operations: &Vec<KeyOperations>| operations.contains(&KeyOperations::Verify);
        let for_signatures =
            jwk.common.public_key_use.as_ref().is_none_or(|it| *it == PublicKeyUse::Signature)
                && jwk.common.key_operations.as_ref().is_none_or(verifies);
        if !for_signatures {
            return Err(Unusable::OtherUse);
        }
        if matches!(jwk.algorithm, AlgorithmParameters::Other(_)) {
            return Err(Unusable::Unknown);
        }
        let key = DecodingKey::from_jwk(jwk).map_err(|_| Unusable::Unknown)?;
        if is_weak(&key) {
            return Err(Unusable::Weak);
        }
        Ok(Key { id: jwk.common.key_id.clone(), algorithm: jwk.common.key_algorithm, key })
    }

    fn fits(&self, id: Option<&str>, algorithm: Algorithm) -> bool {
        let named = self.id.as_deref().zip(id).is_none_or(|(ours, theirs)| ours == theirs);
        let meant = self.algorithm.is_none_or(|it| it == algorithm.into());
        named && meant && self.key.family() == algorithm.family()
    }
}

fn is_weak(key: &DecodingKey) -> bool {
    use jsonwebtoken::AlgorithmFamily::{Hmac, Rsa};
    match (key.family(), key.kind()) {
        (Hmac, DecodingKeyKind::SecretOrDer(secret)) => secret.len() < SECRET_BYTES_MIN,
        // With the exponent and what is around both it is a little more.
        (Rsa, DecodingKeyKind::SecretOrDer(key)) => key.len() < MODULUS_BYTES_MIN,
        (Rsa, DecodingKeyKind::RsaModulusExponent { n, .. }) => n.len() < MODULUS_BYTES_MIN,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use serde_json::{Value, json};

    use super::*;

    const SECRET: &str = "a shared secret of 32 bytes or more";

    fn set(keys: &[Value]) -> Result<Keys, KeyError> {
        Keys::read(json!({"keys": keys}).to_string().as_bytes())
    }

    fn secret(text: &str, further: &[(&str, Value)]) -> Value {
        let mut key = json!({"kty": "oct", "k": URL_SAFE_NO_PAD.encode(text)});
        for (name, value) in further {
            key[*name] = value.clone();
        }
        key
    }

    fn fitting(keys: &Keys, algorithm: Algorithm, id: Option<&str>) -> usize {
        let header = Header { kid: id.map(str::to_owned), ..Header::new(algorithm) };
        keys.fitting(&header).count()
    }

    /// A key that says what it is for is used for that and nothing else.
    #[test]
    fn keys_do_what_they_are_for() {
        let keys = set(&[
            secret(SECRET, &[("kid", json!("one")), ("alg", json!("HS256")), ("use", json!("sig"))]),
            secret(SECRET, &[("kid", json!("two")), ("key_ops", json!(["verify"]))]),
            secret(SECRET, &[("kid", json!("three")), ("use", json!("enc"))]),
            secret(SECRET, &[("kid", json!("four")), ("key_ops", json!(["wrapKey"]))]),
        ])
        .unwrap();
        assert_eq!((keys.len(), keys.passed_over()), (2, Some((2, Unusable::OtherUse))));
        for (algorithm, id, expected) in [
            (Algorithm::HS256, Some("one"), 1),
            (Algorithm::HS512, Some("one"), 0),
            (Algorithm::HS512, Some("two"), 1),
            (Algorithm::HS256, None, 2),
            (Algorithm::HS256, Some("three"), 0),
            (Algorithm::RS256, None, 0),
        ] {
            assert_eq!(fitting(&keys, algorithm, id), expected, "{algorithm:?} {id:?}");
        }
    }

    /// Keys that can be guessed are refused in a set as they are alone.
    #[test]
    fn weak_keys_are_refused() {
        let modulus =
            |bytes: usize| json!({"kty": "RSA", "e": "AQAB", "n": URL_SAFE_NO_PAD.encode(vec![0xab; bytes])});
        assert_eq!(set(&[secret("too short", &[])]).err(), Some(KeyError::Empty));
        assert_eq!(set(&[modulus(128)]).err(), Some(KeyError::Empty));
        let keys = set(&[modulus(128), modulus(256)]).unwrap();
        assert_eq!((keys.len(), keys.passed_over()), (1, Some((1, Unusable::Weak))));
        assert_eq!(Keys::read(b"too short").err(), Some(KeyError::Short));
        let small = include_bytes!("../../tests/keys/rsa-1024-public.pem");
        assert_eq!(Keys::read(small).err(), Some(KeyError::Small));
    }

    /// What nobody here knows does not spoil the rest of a set.
    #[test]
    fn unknown_keys_are_passed_over() {
        let keys = set(&[
            json!({"kty": "XYZ", "kid": "new"}),
            json!({"kty": "EC", "crv": "secp256k1", "x": "AA", "y": "AA"}),
            secret(SECRET, &[]),
        ])
        .unwrap();
        assert_eq!((keys.len(), keys.passed_over()), (1, Some((2, Unusable::Unknown))));
    }

    /// What holds no key is refused.
    #[test]
    fn broken_keys() {
        for (content, expected) in [
            (&b"{}"[..], KeyError::Malformed),
            (b"{\"keys\": []}", KeyError::Empty),
            (b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", KeyError::Malformed),
            (b"", KeyError::Short),
        ] {
            assert_eq!(Keys::read(content).err(), Some(expected));
        }
    }
}
