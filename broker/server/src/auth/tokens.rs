//! JSON Web Tokens (RFC 7519) as passwords: who the client is, what it may do and for how long, signed by
//! whoever issues them.
//!
//! The key decides which algorithms there are, never the token alone: a token that names another family than its
//! key's is refused. A token without `exp` is refused, too: it could never be taken back.

use std::sync::Arc;

use broker_core::access::{Action, Doubt, Identity, Permissions, Rule, Rules};
use broker_core::config::Config;
use broker_core::time::Wall;
use jsonwebtoken::errors::{Error, ErrorKind};
use jsonwebtoken::{Validation, decode, decode_header};
use serde_json::{Map, Value};

use super::settings::Settings;
use super::token_keys::{KeyError, Keys};

/// The issuer's keys, and what is expected of a token.
pub(crate) struct Tokens {
    keys: Keys,
    issuer: Option<Box<str>>,
    audience: Option<Box<str>>,
    leeway_seconds: u32,
    user_claim: Box<str>,
    tenant_claim: Box<str>,
    acl_claim: Box<str>,
}

/// What a password says as a token.
pub(super) enum Said {
    /// It is none.
    NoToken,
    /// It is one, and not to be believed.
    Refused(Doubt),
    /// Who the client is.
    Allowed(Identity),
}

impl Tokens {
    /// Reads the content of a key file: a JSON Web Key Set, a public key in PEM, or else a shared secret.
    pub(super) fn new(content: &[u8], settings: &Settings) -> Result<Tokens, KeyError> {
        let optional = |text: &str| (!text.is_empty()).then(|| text.into());
        Ok(Tokens {
            keys: Keys::read(content)?,
            issuer: optional(&settings.jwt_issuer.0),
            audience: optional(&settings.jwt_audience.0),
            leeway_seconds: settings.jwt_leeway_seconds,
            user_claim: settings.jwt_user_claim.0.as_str().into(),
            tenant_claim: settings.jwt_tenant_claim.0.as_str().into(),
            acl_claim: settings.jwt_acl_claim.0.as_str().into(),
        })
    }

    /// By what they are signed.
    pub(super) fn keys(&self) -> &Keys {
        &self.keys
    }

    /// Judges a password that came by a listener, under a name that may say the tenant.
    pub(super) fn judge(&self, config: &Config, place: (u16, Option<&Arc<str>>), password: &[u8]) -> Said {
        let Ok(header) = decode_header(password) else { return Said::NoToken };
        let validation = self.validation(header.alg);
        let mut doubt = Doubt::TokenKey;
        for key in self.keys.fitting(&header) {
            match decode::<Map<String, Value>>(password, key, &validation) {
                Ok(token) => {
                    let identity = self.identity(config, place, &token.claims);
                    return identity.map_or(Said::Refused(Doubt::TokenClaims), Said::Allowed);
                }
                Err(error) => doubt = doubt.max(doubt_of(&error)),
            }
        }
        Said::Refused(doubt)
    }

    fn validation(&self, algorithm: jsonwebtoken::Algorithm) -> Validation {
        let mut validation = Validation::new(algorithm);
        let mut required = vec!["exp"];
        validation.leeway = u64::from(self.leeway_seconds);
        validation.validate_nbf = true;
        if let Some(issuer) = &self.issuer {
            validation.set_issuer(&[issuer]);
            required.push("iss");
        }
        match &self.audience {
            Some(audience) => {
                validation.set_audience(&[audience]);
                required.push("aud");
            }
            None => validation.validate_aud = false,
        }
        validation.set_required_spec_claims(&required);
        validation
    }

    /// Who the claims say the client is. None if they do not, or say what is not possible.
    fn identity(
        &self,
        config: &Config,
        (listener, by_name): (u16, Option<&Arc<str>>),
        claims: &Map<String, Value>,
    ) -> Option<Identity> {
        let user = claims.get(&*self.user_claim)?.as_str().filter(|user| !user.is_empty())?;
        let of_listener =
            || config.listeners.get(usize::from(listener)).and_then(|listener| listener.tenant.as_ref());
        let fixed = by_name.or_else(of_listener);
        let tenant = match (claims.get(&*self.tenant_claim), fixed) {
            (None, fixed) => Arc::clone(fixed.unwrap_or(&config.default_tenant)),
            (Some(claimed), Some(fixed)) => (claimed.as_str()? == &**fixed).then(|| Arc::clone(fixed))?,
            (Some(claimed), None) => {
                let tenant = claimed.as_str()?;
                let known = tenant == &*config.default_tenant || config.tenants.contains_key(tenant);
                known.then(|| Arc::from(tenant))?
            }
        };
        let permissions = match claims.get(&*self.acl_claim) {
            None => Permissions::Listed,
            Some(acl) => Permissions::Own(Arc::new(Rules::new(read_acl(acl)?))),
        };
        // `exp` may have a fraction.
        let expires = claims.get("exp")?.as_f64()? + f64::from(self.leeway_seconds);
        let expires = Some(Wall((expires * 1000.0) as u64));
        Some(Identity {
            tenant,
            user: user.into(),
            response_information: None,
            permissions,
            expires,
            listed: false,
        })
    }
}

/// What is wrong with a token. Of several keys the one that came further says more.
fn doubt_of(error: &Error) -> Doubt {
    match error.kind() {
        ErrorKind::InvalidSignature => Doubt::TokenSignature,
        ErrorKind::ExpiredSignature => Doubt::TokenExpired,
        ErrorKind::ImmatureSignature => Doubt::TokenEarly,
        _ => Doubt::TokenClaims,
    }
}

/// `{"pub": [FILTER…], "sub": […], "all": […]}`, or a list of
/// `{"permission": "allow"|"deny", "action": "publish"|"subscribe"|"all", "topic": FILTER}`: EMQX's two forms.
/// None if it is anything else: what cannot be understood must not be ignored.
pub(super) fn read_acl(acl: &Value) -> Option<Vec<Rule>> {
    let mut rules = Vec::new();
    match acl {
        Value::Object(lists) => {
            for (name, filters) in lists {
                let action = read_action(name)?;
                for filter in filters.as_array()? {
                    rules.push(rule(action, filter, true)?);
                }
            }
        }
        Value::Array(list) => {
            for entry in list {
                let text = |name: &str| entry.get(name).and_then(Value::as_str);
                let allow = match text("permission")? {
                    "allow" => true,
                    "deny" => false,
                    _ => return None,
                };
                rules.push(rule(read_action(text("action")?)?, entry.get("topic")?, allow)?);
            }
        }
        _ => return None,
    }
    Some(rules)
}

fn read_action(name: &str) -> Option<Action> {
    match name {
        "pub" | "publish" => Some(Action::Publish),
        "sub" | "subscribe" => Some(Action::Subscribe),
        "all" => Some(Action::Any),
        _ => None,
    }
}

fn rule(action: Action, filter: &Value, allow: bool) -> Option<Rule> {
    let filter =
        filter.as_str().filter(|filter| mqtt::validate_filter(filter).is_ok_and(|it| it.share.is_none()))?;
    Some(Rule { action, filter: filter.into(), allow })
}

#[cfg(test)]
mod tests {
    use broker_core::config::Listener;
    use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
    use serde_json::json;

    use super::super::settings::Text;
    use super::*;

    const SECRET: &str = "a shared secret of 32 bytes or more";
    /// Seconds since 1970: in the year 2286.
    const LATER: u64 = 10_000_000_000;

    fn tokens(key: &[u8]) -> Tokens {
        Tokens::new(key, &Settings::default()).unwrap()
    }

    fn signed(algorithm: Algorithm, key: &EncodingKey, claims: &Value) -> String {
        encode(&Header::new(algorithm), claims, key).unwrap()
    }

    fn by_secret(claims: &Value) -> String {
        signed(Algorithm::HS256, &EncodingKey::from_secret(SECRET.as_bytes()), claims)
    }

    fn judge(tokens: &Tokens, token: &str) -> Option<Identity> {
        match tokens.judge(&Config::default(), (0, None), token.as_bytes()) {
            Said::Allowed(identity) => Some(identity),
            Said::Refused(_) => None,
            Said::NoToken => panic!("{token} is a token"),
        }
    }

    /// Claims become an identity; `exp`, with the leeway, is when it ends.
    #[test]
    fn claims_are_read() {
        let tokens = tokens(SECRET.as_bytes());
        let claims = json!({"sub": "ann", "exp": LATER, "acl": {"pub": ["a/#"], "all": ["b"]}});
        let identity = judge(&tokens, &by_secret(&claims)).unwrap();
        assert_eq!((&*identity.user, &*identity.tenant), ("ann", "default"));
        assert_eq!(identity.expires, Some(Wall((LATER + 30) * 1000)));
        let Permissions::Own(rules) = identity.permissions else { panic!("rules of its own") };
        assert_eq!(rules.decide(Action::Publish, "a/x"), Some(true));
        assert_eq!(rules.decide(Action::Subscribe, "a/x"), None);
        assert_eq!(rules.decide(Action::Subscribe, "b"), Some(true));
        let identity = judge(&tokens, &by_secret(&json!({"sub": "ann", "exp": LATER}))).unwrap();
        assert_eq!(identity.permissions, Permissions::Listed);
    }

    /// A listener's fixed tenant is that of a token that names none, and of no token that names another.
    #[test]
    fn tenant_of_the_listener_holds() {
        let tokens = tokens(SECRET.as_bytes());
        let mut config = Config::default();
        let fixed = Listener { tenant: Some(Arc::from("acme")), ..Listener::default() };
        config.listeners = vec![Listener::default(), fixed];
        let tenant =
            |listener, claims| match tokens.judge(&config, (listener, None), by_secret(&claims).as_bytes()) {
                Said::Allowed(identity) => Some(identity.tenant.to_string()),
                _ => None,
            };
        assert_eq!(tenant(0, json!({"sub": "ann", "exp": LATER})).as_deref(), Some("default"));
        assert_eq!(tenant(1, json!({"sub": "ann", "exp": LATER})).as_deref(), Some("acme"));
        assert_eq!(tenant(1, json!({"sub": "ann", "exp": LATER, "tenant": "acme"})).as_deref(), Some("acme"));
        assert_eq!(tenant(1, json!({"sub": "ann", "exp": LATER, "tenant": "default"})), None);
    }

    /// What is not signed by the key, not valid now, or not understood is refused; what is no token is none.
    #[test]
    fn others_are_refused() {
        let tokens = tokens(SECRET.as_bytes());
        for claims in [
            json!({"sub": "ann"}),
            json!({"exp": LATER}),
            json!({"sub": "", "exp": LATER}),
            json!({"sub": 7, "exp": LATER}),
            json!({"sub": "ann", "exp": 1}),
            json!({"sub": "ann", "exp": LATER, "nbf": LATER - 1}),
            json!({"sub": "ann", "exp": LATER, "tenant": "unknown"}),
            json!({"sub": "ann", "exp": LATER, "acl": "#"}),
            json!({"sub": "ann", "exp": LATER, "acl": {"publish_all": ["#"]}}),
            json!({"sub": "ann", "exp": LATER, "acl": {"pub": ["a/#/b"]}}),
            json!({"sub": "ann", "exp": LATER, "acl": [{"permission": "maybe", "action": "all", "topic": "a"}]}),
        ] {
            assert_eq!(judge(&tokens, &by_secret(&claims)), None, "{claims}");
        }
        let good = by_secret(&json!({"sub": "ann", "exp": LATER}));
        assert!(judge(&tokens, &good).is_some());
        let (signed_part, signature) = good.rsplit_once('.').unwrap();
        assert_eq!(judge(&tokens, &format!("{signed_part}.")), None);
        assert_eq!(judge(&tokens, &format!("{signed_part}.{}", signature.to_lowercase() + "A")), None);
        let other = EncodingKey::from_secret(b"another secret of 32 bytes or more");
        let forged = signed(Algorithm::HS256, &other, &json!({"sub": "ann", "exp": LATER}));
        assert_eq!(judge(&tokens, &forged), None);
        for password in ["", "secret", "a.b.c", "..", &good.replace('.', "")] {
            let said = tokens.judge(&Config::default(), (0, None), password.as_bytes());
            assert!(matches!(said, Said::NoToken), "{password}");
        }
    }

    /// A token that is refused is refused for a reason with a name.
    #[test]
    fn refusals_say_why() {
        let tokens = tokens(SECRET.as_bytes());
        let other = EncodingKey::from_secret(b"another secret of 32 bytes or more");
        let rsa = EncodingKey::from_rsa_pem(RSA_PRIVATE).unwrap();
        let good = json!({"sub": "ann", "exp": LATER});
        for (token, expected) in [
            (by_secret(&json!({"sub": "ann", "exp": 1})), Doubt::TokenExpired),
            (by_secret(&json!({"sub": "ann", "exp": LATER, "nbf": LATER - 1})), Doubt::TokenEarly),
            (by_secret(&json!({"sub": "ann"})), Doubt::TokenClaims),
            (by_secret(&json!({"exp": LATER})), Doubt::TokenClaims),
            (signed(Algorithm::HS256, &other, &good), Doubt::TokenSignature),
            (signed(Algorithm::RS256, &rsa, &good), Doubt::TokenKey),
        ] {
            let said = tokens.judge(&Config::default(), (0, None), token.as_bytes());
            assert!(matches!(said, Said::Refused(doubt) if doubt == expected), "{expected:?}");
        }
    }

    /// Issuer and audience are wanted when they are set, from every token.
    #[test]
    fn issuer_and_audience() {
        let settings = Settings {
            jwt_issuer: Text("us".to_owned()),
            jwt_audience: Text("mqtt".to_owned()),
            ..Settings::default()
        };
        let tokens = Tokens::new(SECRET.as_bytes(), &settings).unwrap();
        for (issuer, audience, expected) in [
            (json!("us"), json!("mqtt"), true),
            (json!("us"), json!(["web", "mqtt"]), true),
            (json!("them"), json!("mqtt"), false),
            (json!("us"), json!("web"), false),
            (Value::Null, json!("mqtt"), false),
            (json!("us"), Value::Null, false),
        ] {
            let claims = json!({"sub": "ann", "exp": LATER, "iss": issuer, "aud": audience});
            assert_eq!(judge(&tokens, &by_secret(&claims)).is_some(), expected, "{claims}");
        }
        assert_eq!(judge(&tokens, &by_secret(&json!({"sub": "ann", "exp": LATER}))), None);
    }

    const EC_PRIVATE: &[u8] = include_bytes!("../../tests/keys/ec-private.pem");
    const EC_PUBLIC: &[u8] = include_bytes!("../../tests/keys/ec-public.pem");
    const RSA_PRIVATE: &[u8] = include_bytes!("../../tests/keys/rsa-private.pem");
    const RSA_PUBLIC: &[u8] = include_bytes!("../../tests/keys/rsa-public.pem");
    const ED_PRIVATE: &[u8] = include_bytes!("../../tests/keys/ed-private.pem");
    const ED_PUBLIC: &[u8] = include_bytes!("../../tests/keys/ed-public.pem");

    /// Public keys of each kind recognise what was signed with the private one, and nothing that was signed with
    /// the public one as a secret.
    #[test]
    fn public_keys() {
        let claims = json!({"sub": "ann", "exp": LATER});
        let rsa = EncodingKey::from_rsa_pem(RSA_PRIVATE).unwrap();
        let ec = EncodingKey::from_ec_pem(EC_PRIVATE).unwrap();
        let ed = EncodingKey::from_ed_pem(ED_PRIVATE).unwrap();
        let all = [
            (RSA_PUBLIC, Algorithm::RS256, &rsa),
            (RSA_PUBLIC, Algorithm::RS512, &rsa),
            (RSA_PUBLIC, Algorithm::PS256, &rsa),
            (EC_PUBLIC, Algorithm::ES256, &ec),
            (ED_PUBLIC, Algorithm::EdDSA, &ed),
        ];
        for (public, algorithm, _) in all {
            let tokens = tokens(public);
            for (_, other, key) in all {
                let fits = other.family() == algorithm.family();
                let token = signed(other, key, &claims);
                assert_eq!(judge(&tokens, &token).is_some(), fits, "{algorithm:?} {other:?}");
            }
            let confused = signed(Algorithm::HS256, &EncodingKey::from_secret(public), &claims);
            assert_eq!(judge(&tokens, &confused), None);
        }
    }

    /// A set of keys: the one that the token names, or any that fits; what cannot be used is passed over.
    #[test]
    fn key_sets() {
        let encoded = |secret: &str| {
            use base64::Engine;
            base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(secret)
        };
        let set = json!({"keys": [
            {"kty": "oct", "kid": "one", "k": encoded(SECRET)},
            {"kty": "oct", "kid": "two", "k": encoded("a second secret, as long as the first")},
        ]});
        let tokens = tokens(set.to_string().as_bytes());
        assert_eq!(tokens.keys().len(), 2);
        let key = EncodingKey::from_secret(SECRET.as_bytes());
        for (kid, expected) in [(Some("one"), true), (Some("two"), false), (None, true)] {
            let header = Header { kid: kid.map(str::to_owned), ..Header::new(Algorithm::HS256) };
            let token = encode(&header, &json!({"sub": "ann", "exp": LATER}), &key).unwrap();
            assert_eq!(judge(&tokens, &token).is_some(), expected, "{kid:?}");
        }
    }
}
