//! Questions to the host about who a client is, and what follows from the answers (MQTT 5.0, section 4.12).

use std::sync::Arc;

use mqtt::encode;
use mqtt::{Auth, Connect, ReasonCode};

use super::Core;
use crate::access::{Decided, Identity, Question, Step, Verdict};
use crate::connection::{Connection, Greeting, Phase, Reauthentication};
use crate::identity::ConnectionId;
use crate::input::Outputs;
use crate::time::Now;

impl Core {
    /// Asks the host about a CONNECT; the packet is kept until the answer is there.
    pub(super) fn ask_about_connect(
        &mut self,
        id: ConnectionId,
        connect: &Connect<'_>,
        packet: &[u8],
        out: &mut Outputs,
    ) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        connection.phase = Phase::Deciding(Box::new(Greeting { connect: packet.to_vec() }));
        out.questions.push(question(connection, connect, Step::Connect, None));
    }

    /// The client goes on with an enhanced authentication, or begins a new one.
    pub(super) fn on_auth(&mut self, now: Now, id: ConnectionId, auth: &Auth<'_>, out: &mut Outputs) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        let phase = std::mem::replace(&mut connection.phase, Phase::Closing);
        let result = match phase {
            Phase::Authenticating(greeting) => self.continue_greeting(id, auth, greeting, out),
            Phase::Online => {
                connection.phase = Phase::Online;
                self.reauthenticate(id, auth, out)
            }
            other => {
                connection.phase = other;
                Err(ReasonCode::PROTOCOL_ERROR)
            }
        };
        if let Err(reason) = result {
            self.refuse(now, id, reason, out);
        }
    }

    fn continue_greeting(
        &mut self,
        id: ConnectionId,
        auth: &Auth<'_>,
        greeting: Box<Greeting>,
        out: &mut Outputs,
    ) -> Result<(), ReasonCode> {
        let limits = self.connect_limits();
        let Ok(Some((connect, _))) = mqtt::decode_connect(&greeting.connect, &limits) else {
            unreachable!("decoded before under the same limits");
        };
        let Some(connection) = self.connections.get_mut(id) else { return Ok(()) };
        // [MQTT-4.12.0-3, MQTT-4.12.0-5]: Continue, with the method of CONNECT.
        let fits = auth.reason == ReasonCode::CONTINUE_AUTHENTICATION;
        if !fits || auth.method != connect.properties.authentication_method {
            connection.phase = Phase::Authenticating(Box::new(Greeting { connect: Vec::new() }));
            return Err(if fits {
                ReasonCode::BAD_AUTHENTICATION_METHOD
            } else {
                ReasonCode::PROTOCOL_ERROR
            });
        }
        out.questions.push(question(connection, &connect, Step::Continue, auth.data));
        connection.phase = Phase::Deciding(greeting);
        Ok(())
    }

    fn reauthenticate(
        &mut self,
        id: ConnectionId,
        auth: &Auth<'_>,
        out: &mut Outputs,
    ) -> Result<(), ReasonCode> {
        let Some(connection) = self.connections.get_mut(id) else { return Ok(()) };
        let method = connection.extras.as_ref().and_then(|extras| extras.authentication_method.as_deref());
        // [MQTT-4.12.1-1]: only with the method of CONNECT, so not without one.
        if method.is_none() {
            return Err(ReasonCode::PROTOCOL_ERROR);
        }
        if auth.method != method {
            return Err(ReasonCode::PROTOCOL_ERROR);
        }
        let step = match (auth.reason, connection.reauthentication) {
            (ReasonCode::REAUTHENTICATE, Reauthentication::Idle) => Step::Reauthenticate,
            (ReasonCode::CONTINUE_AUTHENTICATION, Reauthentication::Continuing) => Step::Continue,
            _ => return Err(ReasonCode::PROTOCOL_ERROR),
        };
        let client_id = self.sessions.get(connection.session).client().to_owned();
        out.questions.push(Question {
            connection: id,
            listener: connection.listener,
            tenant_by_name: Some(Arc::clone(&self.tenants.get(connection.tenant).name)),
            peer: connection.peer(),
            client_id,
            username: None,
            password: None,
            method: auth.method.map(str::to_owned),
            data: auth.data.map(<[u8]>::to_vec),
            step,
        });
        connection.reauthentication = Reauthentication::Deciding;
        Ok(())
    }

    /// The host has answered.
    pub(super) fn on_decided(&mut self, now: Now, decided: Decided, out: &mut Outputs) {
        let id = decided.connection;
        let Some(connection) = self.connections.get_mut(id) else { return };
        match &mut connection.phase {
            Phase::Deciding(greeting) => {
                let connect = std::mem::take(&mut greeting.connect);
                connection.phase = Phase::Connecting;
                self.on_greeting_decided(now, id, connect, decided.verdict, out);
            }
            Phase::Online if connection.reauthentication == Reauthentication::Deciding => {
                self.on_reauthentication_decided(now, id, decided.verdict, out);
            }
            _ => {}
        }
    }

    fn on_greeting_decided(
        &mut self,
        now: Now,
        id: ConnectionId,
        mut bytes: Vec<u8>,
        verdict: Verdict,
        out: &mut Outputs,
    ) {
        match verdict {
            Verdict::Refuse { reason, doubt, server_reference } => {
                self.refuse_doubted(now, id, (reason, doubt), server_reference.as_deref(), out);
            }
            Verdict::Continue { data } => {
                if !self.send_auth(id, &bytes, data.as_deref(), out) {
                    self.refuse_connect(now, id, ReasonCode::BAD_AUTHENTICATION_METHOD, None, out);
                    return;
                }
                if let Some(connection) = self.connections.get_mut(id) {
                    connection.phase = Phase::Authenticating(Box::new(Greeting { connect: bytes }));
                }
                self.resume(id);
            }
            Verdict::Allow { identity, data } => {
                let Some(connection) = self.connections.get_mut(id) else { return };
                // What came after CONNECT goes along to the home core.
                let rest = std::mem::take(&mut connection.received);
                let packet_bytes = bytes.len();
                bytes.extend_from_slice(&rest);
                let limits = self.connect_limits();
                let Ok(Some((connect, _))) = mqtt::decode_connect(&bytes[..packet_bytes], &limits) else {
                    unreachable!("decoded before under the same limits");
                };
                self.admit(now, id, &connect, &bytes, identity, data, out);
                if let Some(connection) = self.connections.get_mut(id) {
                    connection.received = rest;
                    self.resume(id);
                }
            }
        }
    }

    /// Sends the next AUTH of the exchange that `connect` began. False if it began none, or the client takes no
    /// packet so large.
    fn send_auth(
        &mut self,
        id: ConnectionId,
        connect: &[u8],
        data: Option<&[u8]>,
        out: &mut Outputs,
    ) -> bool {
        let limits = self.connect_limits();
        let Ok(Some((connect, _))) = mqtt::decode_connect(connect, &limits) else {
            unreachable!("decoded before under the same limits");
        };
        let auth = Auth {
            reason: ReasonCode::CONTINUE_AUTHENTICATION,
            method: connect.properties.authentication_method,
            data,
            ..Auth::default()
        };
        // [MQTT-4.12.0-6]
        auth.method.is_some() && self.write(id, out, |tail, _| encode::auth(tail, &auth))
    }

    fn on_reauthentication_decided(
        &mut self,
        now: Now,
        id: ConnectionId,
        verdict: Verdict,
        out: &mut Outputs,
    ) {
        let (reason, data) = match verdict {
            Verdict::Refuse { reason, doubt, server_reference } => {
                if let Some(doubt) = doubt {
                    self.counters.doubt(doubt);
                }
                self.disconnect(now, id, reason, server_reference.as_deref(), out);
                return;
            }
            Verdict::Continue { data } => {
                if let Some(connection) = self.connections.get_mut(id) {
                    connection.reauthentication = Reauthentication::Continuing;
                }
                (ReasonCode::CONTINUE_AUTHENTICATION, data)
            }
            Verdict::Allow { identity, .. } if !self.is_same_client(id, &identity) => {
                self.disconnect(now, id, ReasonCode::NOT_AUTHORIZED, None, out);
                return;
            }
            Verdict::Allow { identity, data } => {
                self.finish_reauthentication(now, id, &identity);
                (ReasonCode::SUCCESS, data)
            }
        };
        let Some(connection) = self.connections.get(id) else { return };
        let method = connection.extras.as_ref().and_then(|extras| extras.authentication_method.clone());
        let auth = Auth { reason, method: method.as_deref(), data: data.as_deref(), ..Auth::default() };
        self.write(id, out, |tail, _| encode::auth(tail, &auth));
    }

    /// A session's tenant and user never change: who shows to be somebody else has to connect as such.
    fn is_same_client(&self, id: ConnectionId, identity: &Identity) -> bool {
        self.connections.get(id).is_some_and(|connection| {
            let user = connection.grant.as_ref().map(|grant| grant.user());
            self.tenants.get(connection.tenant).name == identity.tenant && user == Some(&identity.user)
        })
    }

    /// Permissions may change.
    fn finish_reauthentication(&mut self, now: Now, id: ConnectionId, identity: &Identity) {
        if let Some(connection) = self.connections.get_mut(id) {
            connection.reauthentication = Reauthentication::Idle;
            self.change_grant(id, identity);
            self.set_expiry(now, id, identity.expires);
        }
    }
}

fn question(connection: &Connection, connect: &Connect<'_>, step: Step, data: Option<&[u8]>) -> Question {
    let properties = &connect.properties;
    let data = if step == Step::Connect { properties.authentication_data } else { data };
    Question {
        connection: connection.id,
        listener: connection.listener,
        tenant_by_name: connection.tenant_by_name().cloned(),
        peer: connection.peer(),
        client_id: connect.client_id.to_owned(),
        username: connect.username.map(str::to_owned),
        password: connect.password.map(<[u8]>::to_vec),
        method: properties.authentication_method.map(str::to_owned),
        data: data.map(<[u8]>::to_vec),
        step,
    }
}
