//! MQTT over WebSocket (RFC 6455; section 6 of both specifications of MQTT): the request, then frames. A machine over
//! memory that keeps no payload: a frame of any length passes through as it comes, and only a header, a request or a
//! control frame that has come in part is kept. A client's text is an error, as is a frame without a mask.

use super::Broken;
use super::tls::Stream;
use super::upgrade::{self, Answer};

const CONTINUATION: u8 = 0;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

/// Bits of a header's first two bytes.
const FIN: u8 = 0x80;
const MASKED: u8 = 0x80;

/// Status codes of closing, RFC 6455, section 7.4.1.
const NORMAL: u16 = 1000;
const PROTOCOL_ERROR: u16 = 1002;
const UNSUPPORTED_DATA: u16 = 1003;

/// Bytes of the longest header of ours.
pub(super) const HEADER_BYTES_MAX: usize = 10;

/// Bytes of a control frame's payload.
const CONTROL_BYTES_MAX: usize = 125;

/// Bytes that wait for the socket, beyond which a ping is not answered: whoever does not read gets the answer to
/// another one, as section 5.5.3 allows.
const PONG_WIRE_BYTES_MAX: usize = 4096;

/// The state of one connection.
pub(super) struct WebSocket {
    phase: Phase,
}

enum Phase {
    /// The request has not come whole: what there is of it.
    Request(Vec<u8>),
    Open(Frames),
    /// Nothing more is said or heard.
    Closed,
}

/// Where in the stream of frames it is.
#[derive(Default)]
struct Frames {
    /// The header of the next frame, as far as it has come.
    header: [u8; 14],
    header_bytes: u8,
    opcode: u8,
    /// Of the payload, still to come.
    left: u64,
    mask: [u8; 4],
    /// A fragmented message is not at its end.
    fragmented: bool,
    /// Payload of a control frame that has not come whole.
    control: Vec<u8>,
}

/// Why a connection is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Wrong(u16);

impl WebSocket {
    pub(super) fn new() -> WebSocket {
        WebSocket { phase: Phase::Request(Vec::new()) }
    }

    /// What the frames that come may carry is heard, and frames may be sent.
    pub(super) fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Open(_))
    }

    /// Takes what has come in `bytes` from `from` on, and leaves its payload there; what is to be answered is appended
    /// to `wire`, the reason included when the connection is broken.
    pub(super) fn receive(
        &mut self,
        bytes: &mut Vec<u8>,
        from: usize,
        wire: &mut Vec<u8>,
    ) -> Result<Stream, Broken> {
        if let Phase::Request(request) = &mut self.phase {
            request.extend_from_slice(&bytes[from..]);
            bytes.truncate(from);
            match upgrade::answer(request) {
                Answer::Incomplete => return Ok(Stream::Open),
                Answer::Refused(response) => {
                    wire.extend_from_slice(response.as_bytes());
                    self.phase = Phase::Closed;
                    return Err(Broken);
                }
                Answer::Accepted { response, used } => {
                    wire.extend_from_slice(response.as_bytes());
                    bytes.extend_from_slice(&request[used..]);
                    self.phase = Phase::Open(Frames::default());
                }
            }
        }
        let Phase::Open(frames) = &mut self.phase else {
            bytes.truncate(from);
            return Ok(Stream::Ended);
        };
        let (kept, result) = frames.receive(&mut bytes[from..], wire);
        bytes.truncate(from + kept);
        match result {
            Ok(Stream::Open) => Ok(Stream::Open),
            Ok(Stream::Ended) => {
                self.phase = Phase::Closed;
                Ok(Stream::Ended)
            }
            Err(Wrong(code)) => {
                append_frame(wire, CLOSE, &code.to_be_bytes());
                self.phase = Phase::Closed;
                Err(Broken)
            }
        }
    }

    /// Appends `payload` to `wire` as a frame.
    pub(super) fn send(payload: &[u8], wire: &mut Vec<u8>) {
        append_frame(wire, BINARY, payload);
    }

    /// Appends the end of our side to `wire`.
    pub(super) fn finish(&mut self, wire: &mut Vec<u8>) {
        if self.is_open() {
            append_frame(wire, CLOSE, &NORMAL.to_be_bytes());
            self.phase = Phase::Closed;
        }
    }
}

impl Frames {
    /// Returns how many bytes of payload there are, at the front of `bytes`.
    fn receive(&mut self, bytes: &mut [u8], wire: &mut Vec<u8>) -> (usize, Result<Stream, Wrong>) {
        let (mut kept, mut at) = (0, 0);
        while at < bytes.len() {
            if !self.has_header() {
                if let Err(wrong) = self.take_header(bytes[at]) {
                    return (kept, Err(wrong));
                }
                at += 1;
                if !self.has_header() {
                    continue;
                }
            }
            let left = usize::try_from(self.left).unwrap_or(usize::MAX);
            let now = left.min(bytes.len() - at);
            if self.opcode < CLOSE {
                bytes.copy_within(at..at + now, kept);
                unmask(&mut bytes[kept..kept + now], &mut self.mask);
                kept += now;
            } else {
                unmask(&mut bytes[at..at + now], &mut self.mask);
                self.control.extend_from_slice(&bytes[at..at + now]);
            }
            at += now;
            self.left -= now as u64;
            if self.left > 0 {
                break;
            }
            self.header_bytes = 0;
            match self.end_of_frame(wire) {
                Ok(Stream::Open) => {}
                ended => return (kept, ended),
            }
        }
        (kept, Ok(Stream::Open))
    }

    /// A whole header is there, and its frame is not at its end.
    fn has_header(&self) -> bool {
        self.header_bytes >= 2 && self.header_bytes == self.header_length()
    }

    /// Of the header whose first two bytes are there: they, the longer forms of the length, the mask.
    fn header_length(&self) -> u8 {
        match self.header[1] & !MASKED {
            126 => 2 + 2 + 4,
            127 => 2 + 8 + 4,
            _ => 2 + 4,
        }
    }

    /// Takes the next byte of a header.
    fn take_header(&mut self, byte: u8) -> Result<(), Wrong> {
        self.header[usize::from(self.header_bytes)] = byte;
        self.header_bytes += 1;
        if self.header_bytes == 2 {
            self.check_header()?;
        }
        if !self.has_header() {
            return Ok(());
        }
        let header = &self.header[..usize::from(self.header_bytes)];
        let (length, mask) = header[1..].split_at(header.len() - 1 - 4);
        self.left = match length {
            [short] => u64::from(short & !MASKED),
            [_, long @ ..] => long.iter().fold(0, |length, byte| length << 8 | u64::from(*byte)),
            [] => unreachable!("a header has a length"),
        };
        self.mask.copy_from_slice(mask);
        // The most significant bit must be 0 (section 5.2).
        if self.left >> 63 != 0 { Err(Wrong(PROTOCOL_ERROR)) } else { Ok(()) }
    }

    /// Judges the first two bytes of a header (section 5.2).
    fn check_header(&mut self) -> Result<(), Wrong> {
        let [first, second, ..] = self.header;
        let (fin, opcode) = (first & FIN != 0, first & 0x0f);
        let control = opcode >= CLOSE;
        let known = matches!(opcode, CONTINUATION | TEXT | BINARY | CLOSE | PING | PONG);
        let reserved = first & 0x70 != 0;
        if reserved || !known || second & MASKED == 0 {
            return Err(Wrong(PROTOCOL_ERROR));
        }
        if control && (!fin || usize::from(second & !MASKED) > CONTROL_BYTES_MAX) {
            return Err(Wrong(PROTOCOL_ERROR));
        }
        // [MQTT-6.0.0-1]
        if opcode == TEXT {
            return Err(Wrong(UNSUPPORTED_DATA));
        }
        if !control {
            if self.fragmented != (opcode == CONTINUATION) {
                return Err(Wrong(PROTOCOL_ERROR));
            }
            self.fragmented = !fin;
        }
        self.opcode = opcode;
        Ok(())
    }

    /// Does what a control frame asks for.
    fn end_of_frame(&mut self, wire: &mut Vec<u8>) -> Result<Stream, Wrong> {
        if self.opcode < CLOSE {
            return Ok(Stream::Open);
        }
        let payload = std::mem::take(&mut self.control);
        match self.opcode {
            PING if wire.len() <= PONG_WIRE_BYTES_MAX => append_frame(wire, PONG, &payload),
            CLOSE if payload.len() == 1 => return Err(Wrong(PROTOCOL_ERROR)),
            CLOSE => {
                append_frame(wire, CLOSE, &payload[..payload.len().min(2)]);
                return Ok(Stream::Ended);
            }
            _ => {}
        }
        Ok(Stream::Open)
    }
}

/// Takes the mask off, and turns it so that it fits what follows.
fn unmask(bytes: &mut [u8], mask: &mut [u8; 4]) {
    let twice = u64::from(u32::from_ne_bytes(*mask));
    let wide = twice | twice << 32;
    let mut words = bytes.chunks_exact_mut(8);
    for word in &mut words {
        let plain = u64::from_ne_bytes(std::array::from_fn(|place| word[place])) ^ wide;
        word.copy_from_slice(&plain.to_ne_bytes());
    }
    let rest = words.into_remainder();
    for (byte, mask) in rest.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= mask;
    }
    mask.rotate_left(rest.len() % 4);
}

/// Appends a frame of ours: whole, and without a mask.
fn append_frame(wire: &mut Vec<u8>, opcode: u8, payload: &[u8]) {
    wire.push(FIN | opcode);
    match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
        (Ok(length), _) if usize::from(length) <= CONTROL_BYTES_MAX => wire.push(length),
        (_, Ok(length)) => {
            wire.push(126);
            wire.extend_from_slice(&length.to_be_bytes());
        }
        _ => {
            wire.push(127);
            wire.extend_from_slice(&(payload.len() as u64).to_be_bytes());
        }
    }
    wire.extend_from_slice(payload);
}
