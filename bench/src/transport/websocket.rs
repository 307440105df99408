//! MQTT over WebSocket (RFC 6455): a request, an answer, and then a frame for every packet. A client's frames are
//! masked. Frames that come may be of any length, and fragmented; those that ask for something are an error, because
//! no broker has a reason to send one.

use std::io;

/// Frames whose bytes are payload.
const CONTINUATION: u8 = 0;
const BINARY: u8 = 2;
const FIN: u8 = 0x80;
const MASKED: u8 = 0x80;
/// Bytes of the longest request or answer.
const HEAD_BYTES_MAX: usize = 4096;

/// The key of RFC 6455, section 1.3, and its answer: nobody's cache stands between.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// One end of one connection.
#[derive(Debug)]
pub(super) struct WebSocket {
    /// The next mask; the broker's end has none.
    mask: Option<u32>,
    open: bool,
    /// The other end's request or answer, or the header of its frame, as far as it has come.
    head: Vec<u8>,
    /// Bytes of the frame at hand still to come.
    left: u64,
    /// What they are masked with, turned so that it fits the next one.
    unmask: u32,
}

impl WebSocket {
    /// The end that asks.
    pub(super) fn client(number: u32) -> WebSocket {
        WebSocket { mask: Some(number.wrapping_mul(0x9e37_79b9) | 1), ..WebSocket::server() }
    }

    /// The end that is asked.
    pub(super) fn server() -> WebSocket {
        WebSocket { mask: None, open: false, head: Vec::new(), left: 0, unmask: 0 }
    }

    /// Appends what is said before anything has come.
    pub(super) fn begin(&mut self, out: &mut Vec<u8>) {
        if self.mask.is_some() {
            let request = format!(
                "GET /mqtt HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                 Sec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n"
            );
            out.extend_from_slice(request.as_bytes());
        }
    }

    /// Frames may be sent.
    pub(super) fn is_open(&self) -> bool {
        self.open
    }

    /// Takes what has come in `bytes` from `from` on and leaves its payload there.
    pub(super) fn receive(&mut self, bytes: &mut Vec<u8>, from: usize, out: &mut Vec<u8>) -> io::Result<()> {
        if !self.open {
            self.head.extend_from_slice(&bytes[from..]);
            bytes.truncate(from);
            let Some(end) = self.head.windows(4).position(|end| end == b"\r\n\r\n") else {
                return if self.head.len() > HEAD_BYTES_MAX { Err(invalid()) } else { Ok(()) };
            };
            let rest = self.head.split_off(end + 4);
            self.on_head(out)?;
            self.head.clear();
            bytes.extend_from_slice(&rest);
        }
        let kept = self.take_frames(&mut bytes[from..])?;
        bytes.truncate(from + kept);
        Ok(())
    }

    fn on_head(&mut self, out: &mut Vec<u8>) -> io::Result<()> {
        let head = std::str::from_utf8(&self.head).map_err(|_| invalid())?;
        let (first, word) = if self.mask.is_some() { ("HTTP/1.1 101", ACCEPT) } else { ("GET /mqtt", KEY) };
        if !head.starts_with(first) || !head.contains(word) {
            return Err(invalid());
        }
        if self.mask.is_none() {
            let answer = format!(
                "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                 Sec-WebSocket-Accept: {ACCEPT}\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n"
            );
            out.extend_from_slice(answer.as_bytes());
        }
        self.open = true;
        Ok(())
    }

    /// Moves payload to the front of `bytes` and says how much there is.
    fn take_frames(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let (mut kept, mut at) = (0, 0);
        while at < bytes.len() {
            if self.left == 0 {
                at += self.take_header(&bytes[at..])?;
                continue;
            }
            let now = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len() - at);
            bytes.copy_within(at..at + now, kept);
            self.unmask = mask(&mut bytes[kept..kept + now], self.unmask);
            self.left -= now as u64;
            kept += now;
            at += now;
        }
        Ok(kept)
    }

    /// Takes bytes of a header, and says how many.
    fn take_header(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let before = self.head.len();
        let length = loop {
            let wanted = self.header_bytes();
            let have = self.head.len();
            if have == wanted {
                break have - before;
            }
            let more = (wanted - have).min(bytes.len() - (have - before));
            if more == 0 {
                return Ok(have - before);
            }
            self.head.extend_from_slice(&bytes[have - before..][..more]);
        };
        let (opcode, masked) = (self.head[0] & 0x0f, self.head[1] & MASKED != 0);
        if self.head[0] & 0x70 != 0
            || ![CONTINUATION, BINARY].contains(&opcode)
            || masked == self.mask.is_some()
        {
            return Err(invalid());
        }
        let mask_bytes = if masked { 4 } else { 0 };
        let (long, mask) = self.head[2..].split_at(self.head.len() - 2 - mask_bytes);
        self.left = match long {
            [] => u64::from(self.head[1] & !MASKED),
            long => long.iter().fold(0, |length, byte| length << 8 | u64::from(*byte)),
        };
        self.unmask = mask.try_into().map_or(0, u32::from_ne_bytes);
        self.head.clear();
        Ok(length)
    }

    /// Of the header at hand, as far as its first two bytes say.
    fn header_bytes(&self) -> usize {
        let Some(second) = self.head.get(1) else { return 2 };
        let long = match second & !MASKED {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        2 + long + if second & MASKED != 0 { 4 } else { 0 }
    }

    /// Appends each packet as a frame of its own.
    pub(super) fn send(&mut self, mut packets: &[u8], out: &mut Vec<u8>) {
        while !packets.is_empty() {
            let (packet, rest) = packets.split_at(packet_bytes(packets));
            self.frame(packet, out);
            packets = rest;
        }
    }

    fn frame(&mut self, payload: &[u8], out: &mut Vec<u8>) {
        let masked = if self.mask.is_some() { MASKED } else { 0 };
        out.push(FIN | BINARY);
        match (payload.len(), u16::try_from(payload.len())) {
            (length @ 0..126, _) => out.push(masked | length as u8),
            (_, Ok(length)) => {
                out.push(masked | 126);
                out.extend_from_slice(&length.to_be_bytes());
            }
            (length, Err(_)) => {
                out.push(masked | 127);
                out.extend_from_slice(&(length as u64).to_be_bytes());
            }
        }
        let Some(next) = &mut self.mask else { return out.extend_from_slice(payload) };
        // Xorshift: what a mask is for (section 10.3) does not matter here, but each frame has to have its own.
        *next ^= *next << 13;
        *next ^= *next >> 17;
        *next ^= *next << 5;
        out.extend_from_slice(&next.to_ne_bytes());
        let begin = out.len();
        out.extend_from_slice(payload);
        mask(&mut out[begin..], *next);
    }
}

/// Puts a mask on or takes it off; returns it turned so that it fits what follows.
fn mask(bytes: &mut [u8], mask: u32) -> u32 {
    if mask == 0 {
        return 0;
    }
    let mut words = bytes.chunks_exact_mut(8);
    let wide = u64::from(mask) | u64::from(mask) << 32;
    for word in &mut words {
        let plain = u64::from_ne_bytes(std::array::from_fn(|place| word[place])) ^ wide;
        word.copy_from_slice(&plain.to_ne_bytes());
    }
    let rest = words.into_remainder();
    let turn = rest.len() % 4;
    let mut key = mask.to_ne_bytes();
    for (byte, key) in rest.iter_mut().zip(key.iter().cycle()) {
        *byte ^= key;
    }
    key.rotate_left(turn);
    u32::from_ne_bytes(key)
}

/// Bytes of the first MQTT packet, which is there whole.
fn packet_bytes(packets: &[u8]) -> usize {
    let (mut length, mut at) = (0, 1);
    loop {
        let byte = usize::from(packets[at]);
        length |= (byte & 0x7f) << (7 * (at - 1));
        at += 1;
        if byte & 0x80 == 0 {
            return at + length;
        }
    }
}

fn invalid() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "no answer of a WebSocket of MQTT's")
}
