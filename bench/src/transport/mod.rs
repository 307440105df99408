//! What lies between a socket and MQTT where it is not plain TCP: TLS, WebSocket, or WebSocket over TLS. A machine
//! over memory, for both ends: the harness's clients and the fake broker.
//!
//! It is written with other means than the broker's: rustls with its own buffers, one WebSocket frame per packet, as
//! most clients send them.
//!
//! Hot path.

mod tls;
mod websocket;

use std::io;
use std::net::SocketAddrV4;
use std::sync::Arc;

use clap::ValueEnum;
use rustls::{ClientConfig, ServerConfig};

use self::tls::Tls;
use self::websocket::WebSocket;

/// What MQTT travels over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum Transport {
    /// Nothing else.
    #[default]
    Tcp,
    /// TLS; whose certificate it is does not matter.
    Tls,
    /// WebSocket, path /mqtt.
    Ws,
    /// WebSocket over TLS.
    Wss,
}

impl Transport {
    fn has_tls(self) -> bool {
        matches!(self, Transport::Tls | Transport::Wss)
    }

    fn has_websocket(self) -> bool {
        matches!(self, Transport::Ws | Transport::Wss)
    }
}

/// Where a broker is and how it is spoken to.
#[derive(Debug, Clone)]
pub(crate) struct Endpoint {
    /// On 127.0.0.0/8.
    pub(crate) address: SocketAddrV4,
    /// Over what.
    pub(crate) transport: Transport,
    tls: Option<Arc<ClientConfig>>,
}

impl Endpoint {
    /// A broker's address, and what its listener there speaks.
    pub(crate) fn new(address: SocketAddrV4, transport: Transport) -> Endpoint {
        Endpoint { address, transport, tls: transport.has_tls().then(tls::client_config) }
    }

    /// What a new connection to it begins with; none: it is plain.
    pub(crate) fn begin(&self, number: u32) -> Option<Box<Layers>> {
        if self.transport == Transport::Tcp {
            return None;
        }
        let websocket = self.transport.has_websocket().then(|| WebSocket::client(number));
        Some(Box::new(Layers::new(self.tls.as_ref().map(Tls::client), websocket)))
    }
}

/// What the fake broker speaks.
#[derive(Debug)]
pub(crate) struct Service {
    transport: Transport,
    tls: Option<Arc<ServerConfig>>,
}

impl Service {
    /// With a certificate made for this life.
    pub(crate) fn new(transport: Transport) -> Service {
        Service { transport, tls: transport.has_tls().then(tls::server_config) }
    }

    /// As [`Endpoint::begin`].
    pub(crate) fn begin(&self) -> Option<Box<Layers>> {
        if self.transport == Transport::Tcp {
            return None;
        }
        let websocket = self.transport.has_websocket().then(WebSocket::server);
        Some(Box::new(Layers::new(self.tls.as_ref().map(Tls::server), websocket)))
    }
}

/// The layers of one connection.
#[derive(Debug)]
pub(crate) struct Layers {
    tls: Option<Tls>,
    websocket: Option<WebSocket>,
    /// Bytes for the socket; those before `sent` are gone.
    wire: Vec<u8>,
    sent: usize,
    /// Frames on their way into records.
    frames: Vec<u8>,
}

impl Layers {
    fn new(tls: Option<Tls>, websocket: Option<WebSocket>) -> Layers {
        let mut layers = Layers { tls, websocket, wire: Vec::new(), sent: 0, frames: Vec::new() };
        if let Some(websocket) = &mut layers.websocket {
            websocket.begin(&mut layers.frames);
        }
        layers.seal();
        layers
    }

    /// Takes what the socket has delivered and appends what it carries to `plain`. There may be something to send
    /// afterwards.
    ///
    /// # Errors
    /// It is no such transport, or the other end has closed it.
    pub(crate) fn receive(&mut self, bytes: &[u8], plain: &mut Vec<u8>) -> io::Result<()> {
        let from = plain.len();
        match &mut self.tls {
            Some(tls) => tls.receive(bytes, plain)?,
            None => plain.extend_from_slice(bytes),
        }
        if let Some(websocket) = &mut self.websocket {
            websocket.receive(plain, from, &mut self.frames)?;
        }
        self.seal();
        Ok(())
    }

    /// Makes packets ready for the socket; `false`: the other end is not there yet, again later.
    pub(crate) fn send(&mut self, packets: &[u8]) -> bool {
        match (&mut self.websocket, &mut self.tls) {
            (Some(websocket), _) if !websocket.is_open() => return false,
            (Some(websocket), _) => websocket.send(packets, &mut self.frames),
            (None, Some(tls)) => tls.write(packets),
            (None, None) => self.frames.extend_from_slice(packets),
        }
        self.seal();
        true
    }

    /// What is to be written to the socket.
    pub(crate) fn wire(&self) -> &[u8] {
        &self.wire[self.sent..]
    }

    /// So many bytes of it have been.
    pub(crate) fn advance(&mut self, count: usize) {
        self.sent += count;
        if self.sent == self.wire.len() {
            self.sent = 0;
            self.wire.clear();
        }
    }

    /// Moves frames and records to the wire.
    fn seal(&mut self) {
        match &mut self.tls {
            Some(tls) => {
                tls.write(&self.frames);
                self.frames.clear();
                tls.take(&mut self.wire);
            }
            None => self.wire.append(&mut self.frames),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADDRESS: SocketAddrV4 = SocketAddrV4::new(std::net::Ipv4Addr::LOCALHOST, 1);

    /// Packets of every length class of WebSocket's and of MQTT's cross each transport in both directions, cut
    /// anywhere, and nothing is sent before the other end is there.
    #[test]
    fn every_transport_carries_packets_both_ways() {
        for transport in [Transport::Tls, Transport::Ws, Transport::Wss] {
            let mut client = Endpoint::new(ADDRESS, transport).begin(7).expect("layers");
            let mut server = Service::new(transport).begin().expect("layers");
            let packets: Vec<u8> = [3, 130, 70_000, 0].into_iter().flat_map(publish).collect();
            let (mut to_server, mut to_client) = (Vec::new(), Vec::new());
            let (mut client_has_sent, mut server_has_sent) = (false, false);
            for step in 1..40_000 {
                client_has_sent = client_has_sent || client.send(&packets);
                if transport != Transport::Tls {
                    assert!(!client_has_sent || server.websocket.as_ref().is_some_and(WebSocket::is_open));
                }
                carry(&mut client, &mut server, step, &mut to_server);
                server_has_sent = server_has_sent || to_server.len() > 9 && server.send(&packets);
                carry(&mut server, &mut client, step * 3, &mut to_client);
                if to_client.len() == packets.len() && to_server.len() == packets.len() {
                    break;
                }
            }
            assert!(to_server == packets && to_client == packets, "{transport:?}");
            assert!(client.wire().is_empty() && server.wire().is_empty(), "{transport:?}");
        }
    }

    /// Another protocol is an error, and not waited for.
    #[test]
    fn what_is_no_such_transport_is_refused() {
        for transport in [Transport::Tls, Transport::Ws, Transport::Wss] {
            let mut client = Endpoint::new(ADDRESS, transport).begin(1).expect("layers");
            assert!(
                client.receive(b"HTTP/1.1 404 Not Found\r\n\r\n", &mut Vec::new()).is_err(),
                "{transport:?}"
            );
        }
    }

    /// Up to `most` bytes of what one end has to send reach the other.
    fn carry(from: &mut Layers, to: &mut Layers, most: usize, plain: &mut Vec<u8>) {
        let bytes = from.wire()[..from.wire().len().min(most)].to_vec();
        from.advance(bytes.len());
        to.receive(&bytes, plain).expect("it is understood");
    }

    /// Something of the form of a packet with so many bytes behind its header.
    fn publish(length: usize) -> Vec<u8> {
        let (mut packet, mut left) = (vec![0x30], length);
        loop {
            let more = if left > 127 { 0x80 } else { 0 };
            packet.push((left % 128) as u8 | more);
            left /= 128;
            if left == 0 {
                break;
            }
        }
        packet.extend((0..length).map(|place| place as u8));
        packet
    }
}
