//! Why a client is not let in, beyond the reason code that it is told: for the operator, who may know more than a
//! stranger.

macro_rules! doubts {
    ($($(#[$doc:meta])* $doubt:ident = $name:literal),+ $(,)?) => {
        /// What is wrong with what a client has shown of itself.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum Doubt {
            $($(#[$doc])* $doubt,)+
        }

        impl Doubt {
            /// All of them, in order.
            pub const ALL: &'static [Doubt] = &[$(Doubt::$doubt),+];

            /// Its name in metrics, events and logs.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    $(Doubt::$doubt => $name,)+
                }
            }
        }
    };
}

doubts! {
    /// Neither user name nor password, where some are needed.
    Anonymous = "anonymous",
    /// No method knows the user, or its password as a token.
    UnknownUser = "unknown_user",
    /// The user has another password.
    WrongPassword = "wrong_password",
    /// The user's name says a tenant that is not configured, or the listener does not let it say one.
    UnknownTenant = "unknown_tenant",
    /// There is no key that may have signed such a token: another name, kind or algorithm.
    TokenKey = "token_key",
    /// The token is not signed by that key.
    TokenSignature = "token_signature",
    /// The token has run out.
    TokenExpired = "token_expired",
    /// The token does not hold yet.
    TokenEarly = "token_early",
    /// The token lacks a claim, or has one that is not as it should be: `exp`, issuer, audience, user, tenant, list.
    TokenClaims = "token_claims",
    /// An authentication method that there is not.
    Method = "method",
    /// An exchange of it that is none, of an unknown user, or with a wrong proof.
    Proof = "proof",
    /// The webhook says no.
    Service = "service",
    /// The webhook does not answer, or not as it should.
    ServiceFailed = "service_failed",
    /// What the webhook says has run out.
    ServiceExpired = "service_expired",
    /// Too many others wait to be judged.
    QueueFull = "login_queue_max",
    /// What a proxy says before all else is missing, or was said by somebody else.
    Proxy = "proxy",
    /// The TLS handshake failed: another protocol, or nothing that both can do.
    Tls = "tls",
    /// The client broke off the TLS handshake: as one does that does not trust the certificate it was shown.
    TlsAlert = "tls_alert",
    /// No certificate, or one that is not good: of another authority, out of date.
    Certificate = "certificate",
    /// The certificate is revoked.
    CertificateRevoked = "certificate_revoked",
    /// The certificate names nobody.
    CertificateName = "certificate_name",
    /// The request for a WebSocket is none.
    WebSocket = "websocket",
}
