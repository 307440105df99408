//! CONNECT, the first packet of every connection.

use crate::property::{Properties, Property};
use crate::reader::Reader;
use crate::{DecodeError, Limits, PublishProperties, QoS, UserProperties, Version};

/// A CONNECT of any version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Connect<'a> {
    /// The version every later packet of the connection is in.
    pub version: Version,
    /// Clean Start of 5.0, Clean Session of 3.x.
    pub clean_start: bool,
    /// Seconds; 0 turns it off.
    pub keep_alive: u16,
    /// May be empty: the server then assigns one. The 23 bytes MQTT 3.1 allows at most are not
    /// enforced: clients of that version never kept to it.
    pub client_id: &'a str,
    /// User name.
    pub username: Option<&'a str>,
    /// Password: any bytes.
    pub password: Option<&'a [u8]>,
    /// What the server publishes when the connection ends without a DISCONNECT.
    pub will: Option<Will<'a>>,
    /// 5.0 only; the defaults elsewhere.
    pub properties: ConnectProperties<'a>,
}

impl<'a> Connect<'a> {
    /// A CONNECT with a clean start, no keep-alive and nothing optional.
    pub fn new(version: Version, client_id: &'a str) -> Connect<'a> {
        Connect {
            version,
            clean_start: true,
            keep_alive: 0,
            client_id,
            username: None,
            password: None,
            will: None,
            properties: ConnectProperties::default(),
        }
    }
}

/// The will message of a CONNECT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Will<'a> {
    /// Quality of service it is published with.
    pub qos: QoS,
    /// Whether it is published as a retained message.
    pub retain: bool,
    /// Never empty, without wildcards.
    pub topic: &'a str,
    /// Application message.
    pub payload: &'a [u8],
    /// Seconds between the end of the connection and the will. 5.0 only, else 0.
    pub delay_interval: u32,
    /// 5.0 only; topic alias and subscription identifiers are never among them.
    pub properties: PublishProperties<'a>,
}

/// The properties of a CONNECT; the default is what their absence means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectProperties<'a> {
    /// Seconds the session outlives the connection; `u32::MAX` is for ever.
    pub session_expiry: u32,
    /// Whether the packet named the session expiry, were it to be 0.
    pub session_expiry_given: bool,
    /// QoS 1 and 2 messages the client takes before it acknowledges one; never 0.
    pub receive_maximum: u16,
    /// Largest packet the client takes, in bytes; never 0.
    pub maximum_packet_size: Option<u32>,
    /// Highest topic alias the client takes; 0 is none.
    pub topic_alias_maximum: u16,
    /// The client asks for response information in CONNACK.
    pub request_response_information: bool,
    /// The client takes reason strings and user properties in every packet.
    pub request_problem_information: bool,
    /// Method of enhanced authentication.
    pub authentication_method: Option<&'a str>,
    /// Data of enhanced authentication; never without a method.
    pub authentication_data: Option<&'a [u8]>,
    /// In the order they came.
    pub user_properties: UserProperties<'a>,
}

impl Default for ConnectProperties<'_> {
    fn default() -> Self {
        ConnectProperties {
            session_expiry: 0,
            session_expiry_given: false,
            receive_maximum: u16::MAX,
            maximum_packet_size: None,
            topic_alias_maximum: 0,
            request_response_information: false,
            request_problem_information: true,
            authentication_method: None,
            authentication_data: None,
            user_properties: UserProperties::default(),
        }
    }
}

/// The byte of flags in a CONNECT.
///
/// ```text
/// bit 7 user name   6 password   5 will retain   4-3 will QoS   2 will   1 clean start   0 zero
/// ```
#[derive(Debug, Clone, Copy)]
struct ConnectFlags(u8);

impl ConnectFlags {
    fn decode(version: Version, bits: u8) -> Result<ConnectFlags, DecodeError> {
        let flags = ConnectFlags(bits);
        // 3.1 says of these bits what they mean and not what they must be.
        if version > Version::V31 {
            if bits & 0x01 != 0 {
                return Err(DecodeError::ConnectReservedFlag); // [MQTT-3.1.2-3]
            }
            if !flags.will() && bits & 0x18 != 0 {
                return Err(DecodeError::WillQosWithoutWill); // [MQTT-3.1.2-11]
            }
            if !flags.will() && flags.will_retain() {
                return Err(DecodeError::WillRetainWithoutWill); // [MQTT-3.1.2-13]
            }
        }
        // [MQTT-3.1.2-22] of 3.1.1; 5.0 allows it.
        if version < Version::V5 && flags.password() && !flags.username() {
            return Err(DecodeError::PasswordWithoutUsername);
        }
        Ok(flags)
    }

    fn clean_start(self) -> bool {
        self.0 & 0x02 != 0
    }

    fn will(self) -> bool {
        self.0 & 0x04 != 0
    }

    fn will_qos(self) -> Result<QoS, DecodeError> {
        QoS::from_bits(self.0 >> 3 & 0x03).ok_or(DecodeError::WillQos) // [MQTT-3.1.2-12]
    }

    fn will_retain(self) -> bool {
        self.0 & 0x20 != 0
    }

    fn password(self) -> bool {
        self.0 & 0x40 != 0
    }

    fn username(self) -> bool {
        self.0 & 0x80 != 0
    }
}

impl<'a> Connect<'a> {
    /// The body of a CONNECT. Its fields come in one order. [MQTT-3.1.3-1]
    pub(crate) fn decode(mut body: Reader<'a>, limits: &Limits) -> Result<Connect<'a>, DecodeError> {
        let version = decode_version(&mut body)?;
        let flags = ConnectFlags::decode(version, body.u8()?)?;
        let keep_alive = body.u16()?;
        let properties = match version {
            Version::V5 => ConnectProperties::take(&mut body, limits)?,
            _ => ConnectProperties::default(),
        };
        let client_id = body.string()?;
        // A lasting session needs a name to be found by.
        if client_id.is_empty() && !flags.clean_start() && version < Version::V5 {
            return Err(DecodeError::ClientIdEmpty); // [MQTT-3.1.3-8] of 3.1.1
        }
        if client_id.len() > usize::from(limits.client_id_bytes_max) {
            return Err(DecodeError::ClientIdTooLong); // [MQTT-3.1.3-8]
        }
        let will = if flags.will() { Some(Will::take(version, flags, &mut body, limits)?) } else { None };
        // In 3.1 the packet's length wins over its flags: a string that is flagged and not there is
        // valid, and absent. MQTT 3.1, 3.1 CONNECT, "User name and password flags".
        let missing_allowed = version == Version::V31;
        let username = if flags.username() && !(missing_allowed && body.is_empty()) {
            Some(body.string()?)
        } else {
            None
        };
        let password = if flags.password() && !(missing_allowed && body.is_empty()) {
            Some(body.binary()?)
        } else {
            None
        };
        body.finish()?;
        let clean_start = flags.clean_start();
        Ok(Connect { version, clean_start, keep_alive, client_id, username, password, will, properties })
    }
}

/// The protocol name and level a CONNECT begins with. The name is compared as bytes: one that is not
/// known need not be UTF-8.
pub(crate) fn decode_version(body: &mut Reader<'_>) -> Result<Version, DecodeError> {
    let (name, level) = decode_name_and_level(body)?;
    Version::from_name_and_level(name, level).ok_or(DecodeError::ProtocolLevel) // [MQTT-3.1.2-2]
}

/// The version in whose form a CONNECT is refused, whatever it is refused for: its own, or 5.0 if it names a later one.
/// A level with its highest bit set is none: bridges of Mosquitto mark theirs so, and try again without it when they are
/// refused in the form of 3.1.1.
pub(crate) fn decode_refusal_version(body: &mut Reader<'_>) -> Option<Version> {
    let (name, level) = decode_name_and_level(body).ok()?;
    let later = name == b"MQTT" && (6..0x80).contains(&level);
    Version::from_name_and_level(name, level).or(later.then_some(Version::V5))
}

fn decode_name_and_level<'a>(body: &mut Reader<'a>) -> Result<(&'a [u8], u8), DecodeError> {
    let name = body.binary()?;
    if name != b"MQTT" && name != b"MQIsdp" {
        return Err(DecodeError::ProtocolName); // [MQTT-3.1.2-1]
    }
    Ok((name, body.u8()?))
}

impl<'a> Will<'a> {
    /// The will's fields. [MQTT-3.1.2-9]
    fn take(
        version: Version,
        flags: ConnectFlags,
        body: &mut Reader<'a>,
        limits: &Limits,
    ) -> Result<Will<'a>, DecodeError> {
        let qos = flags.will_qos()?;
        let (properties, delay_interval) = match version {
            Version::V5 => PublishProperties::take_of_will(body, limits)?,
            _ => (PublishProperties::default(), 0),
        };
        let topic = body.topic()?; // [MQTT-3.1.3-11]
        if topic.is_empty() {
            return Err(DecodeError::TopicEmpty); // [MQTT-4.7.3-1]
        }
        let payload = body.binary()?;
        Ok(Will { qos, retain: flags.will_retain(), topic, payload, delay_interval, properties })
    }
}

impl<'a> ConnectProperties<'a> {
    fn take(body: &mut Reader<'a>, limits: &Limits) -> Result<ConnectProperties<'a>, DecodeError> {
        let mut properties = Properties::take(body, limits)?;
        let mut read = ConnectProperties::default();
        while let Some(property) = properties.next()? {
            match property {
                Property::SessionExpiry(seconds) => {
                    read.session_expiry = seconds;
                    read.session_expiry_given = true;
                }
                Property::ReceiveMaximum(maximum) => read.receive_maximum = maximum,
                Property::MaximumPacketSize(bytes) => read.maximum_packet_size = Some(bytes),
                Property::TopicAliasMaximum(maximum) => read.topic_alias_maximum = maximum,
                Property::RequestResponseInformation(wanted) => read.request_response_information = wanted,
                Property::RequestProblemInformation(wanted) => read.request_problem_information = wanted,
                Property::AuthenticationMethod(method) => read.authentication_method = Some(method),
                Property::AuthenticationData(data) => read.authentication_data = Some(data),
                Property::User(..) => {}
                _ => return Err(DecodeError::PropertyNotAllowed),
            }
        }
        if read.authentication_data.is_some() && read.authentication_method.is_none() {
            return Err(DecodeError::AuthenticationMethodMissing);
        }
        read.user_properties = properties.user_properties();
        Ok(read)
    }
}
