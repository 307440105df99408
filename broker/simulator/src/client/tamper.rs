//! A fault between the broker and a client: what tests use to see that the checkers bite on whole runs, and
//! not only on histories written by hand.

/// Which fault, and when: counted over the packets of its kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A PUBLISH is lost.
    DropPublish,
    /// A PUBLISH comes twice.
    DuplicatePublish,
    /// Two PUBLISHes change places.
    SwapPublishes,
    /// The DUP flag is wiped off every PUBLISH.
    WipeDup,
    /// The retain flag of a PUBLISH is turned.
    TurnRetain,
    /// A PUBACK, PUBREC or PUBCOMP is lost.
    DropAck,
    /// Two PUBACKs or PUBRECs change places.
    SwapAcks,
    /// A PUBREL is lost.
    DropRelease,
    /// A SUBACK comes twice.
    DuplicateSubAck,
}

/// A fault at work.
#[derive(Clone, Debug)]
pub struct Tamper {
    fault: Fault,
    /// Packets of its kind to let pass between two strikes.
    every: u32,
    seen: u32,
    held: Option<Vec<u8>>,
}

impl Tamper {
    /// Strikes each `every`th packet of the fault's kind.
    #[must_use]
    pub fn new(fault: Fault, every: u32) -> Tamper {
        Tamper { fault, every, seen: 0, held: None }
    }

    /// What reaches the client when the broker has sent this.
    pub(crate) fn pass(&mut self, mut packet: Vec<u8>) -> Vec<Vec<u8>> {
        if !self.concerns(&packet) {
            return vec![packet];
        }
        self.seen += 1;
        let strikes = self.seen.is_multiple_of(self.every);
        match self.fault {
            Fault::WipeDup => {
                packet[0] &= !0x08;
                vec![packet]
            }
            _ if !strikes => {
                self.held.take().map_or_else(|| vec![packet.clone()], |held| vec![packet.clone(), held])
            }
            Fault::DropPublish | Fault::DropAck | Fault::DropRelease => Vec::new(),
            Fault::DuplicatePublish | Fault::DuplicateSubAck => vec![packet.clone(), packet],
            Fault::SwapPublishes | Fault::SwapAcks => {
                self.held = Some(packet);
                Vec::new()
            }
            Fault::TurnRetain => {
                packet[0] ^= 0x01;
                vec![packet]
            }
        }
    }

    fn concerns(&self, packet: &[u8]) -> bool {
        let kind = packet[0] >> 4;
        match self.fault {
            Fault::DropPublish
            | Fault::DuplicatePublish
            | Fault::SwapPublishes
            | Fault::WipeDup
            | Fault::TurnRetain => kind == 3,
            Fault::DropAck => matches!(kind, 4 | 5 | 7),
            Fault::SwapAcks => matches!(kind, 4 | 5),
            Fault::DropRelease => kind == 6,
            Fault::DuplicateSubAck => kind == 9,
        }
    }
}
