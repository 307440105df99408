//! Seeded pseudo-random numbers, and the texts and lists that random packets borrow from.

use std::ops::Deref;

use mqtt::encode::PropertyWriter;
use mqtt::{Limits, PacketId, QoS, SubscribeFilter, SubscriptionOptions, UserProperties};

/// SplitMix64: Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        Random(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ mixed >> 31
    }

    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    pub(crate) fn flag(&mut self) -> bool {
        self.below(2) == 0
    }

    /// One of some strings or lists, borrowed.
    pub(crate) fn pick<'a, T: Deref>(&mut self, from: &'a [T]) -> &'a T::Target {
        &from[self.below(from.len())]
    }

    pub(crate) fn maybe<T>(&mut self, make: impl FnOnce(&mut Random) -> T) -> Option<T> {
        self.flag().then(|| make(self))
    }

    /// Small numbers and limits more often than others.
    pub(crate) fn number(&mut self) -> u32 {
        let bits = self.below(33);
        (self.next() >> 1 >> (63 - bits)) as u32
    }

    pub(crate) fn nonzero_u16(&mut self) -> u16 {
        (self.number() as u16).max(1)
    }

    pub(crate) fn packet_id(&mut self) -> PacketId {
        PacketId::new(self.nonzero_u16()).expect("not zero")
    }

    pub(crate) fn qos(&mut self) -> QoS {
        QoS::from_bits(self.below(3) as u8).expect("below 3")
    }

    fn string(&mut self, characters: &[char]) -> String {
        // A length in two bytes, and remaining lengths in one and in two.
        let length = if self.below(10) == 0 { self.below(300) } else { self.below(20) };
        (0..length).map(|_| characters[self.below(characters.len())]).collect()
    }

    pub(crate) fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.next() as u8).collect()
    }
}

const CHARACTERS: [char; 16] = [
    'a',
    'b',
    'c',
    'x',
    'y',
    'z',
    '0',
    '9',
    ' ',
    '/',
    '$',
    '\u{1}',
    'ü',
    '\u{FEFF}',
    '\u{FFFE}',
    '\u{10FFFF}',
];

/// What packets borrow from.
pub(crate) struct Texts {
    strings: Vec<String>,
    pub(crate) topics: Vec<String>,
    data: Vec<Vec<u8>>,
    user_blocks: Vec<Vec<u8>>,
    pub(crate) publish_blocks: Vec<Vec<u8>>,
    pub(crate) subscription_ids: Vec<Vec<u32>>,
}

impl Texts {
    pub(crate) fn new(random: &mut Random) -> Texts {
        let strings: Vec<_> = (0..64).map(|_| random.string(&CHARACTERS)).collect();
        let topics = (0..64).map(|_| format!("t{}", random.string(&CHARACTERS))).collect();
        let data = (0..64).map(|_| random.below(40)).map(|length| vec![length as u8; length]).collect();
        let user_blocks = (0..32).map(|_| user_block(random, &strings)).collect();
        let publish_blocks = (0..64).map(|_| publish_block(random, &strings)).collect();
        let subscription_ids = (0..16)
            .map(|_| (0..random.below(4)).map(|_| random.number() & 0x0FFF_FFFF | 1).collect())
            .collect();
        Texts { strings, topics, data, user_blocks, publish_blocks, subscription_ids }
    }
}

fn user_block(random: &mut Random, strings: &[String]) -> Vec<u8> {
    let mut block = Vec::new();
    for _ in 0..random.below(4) {
        PropertyWriter::new(&mut block).user_property(random.pick(strings), random.pick(strings));
    }
    block
}

/// Properties to forward, in the order that the other codecs write them in as well.
fn publish_block(random: &mut Random, strings: &[String]) -> Vec<u8> {
    let mut block = Vec::new();
    let mut writer = PropertyWriter::new(&mut block);
    if random.flag() {
        writer.payload_format_utf8(random.flag());
    }
    if random.flag() {
        writer.response_topic(&format!("r{}", random.pick(strings)));
    }
    if random.flag() {
        writer.correlation_data(random.pick(strings).as_bytes());
    }
    if random.flag() {
        writer.content_type(random.pick(strings));
    }
    block.extend_from_slice(&user_block(random, strings));
    block
}

/// Lists that borrow from [`Texts`].
pub(crate) struct Pool<'t> {
    pub(crate) texts: &'t Texts,
    pub(crate) subscribe_filters: Vec<Vec<SubscribeFilter<'t>>>,
    pub(crate) unsubscribe_filters: Vec<Vec<&'t str>>,
}

impl<'t> Pool<'t> {
    pub(crate) fn new(random: &mut Random, texts: &'t Texts) -> Pool<'t> {
        let subscribe_filters = (0..16)
            .map(|_| {
                let filters = 0..1 + random.below(4);
                let options = |random: &mut Random| loop {
                    let bits = random.below(0x40) as u8;
                    if let Some(options) = SubscriptionOptions::from_bits(bits) {
                        return options;
                    }
                };
                filters
                    .map(|_| SubscribeFilter { filter: random.pick(&texts.topics), options: options(random) })
                    .collect()
            })
            .collect();
        let unsubscribe_filters =
            (0..16).map(|_| (0..1 + random.below(4)).map(|_| random.pick(&texts.topics)).collect()).collect();
        Pool { texts, subscribe_filters, unsubscribe_filters }
    }

    pub(crate) fn text(&self, random: &mut Random) -> &'t str {
        random.pick(&self.texts.strings)
    }

    pub(crate) fn data(&self, random: &mut Random) -> &'t [u8] {
        random.pick(&self.texts.data)
    }

    pub(crate) fn user_properties(&self, random: &mut Random) -> UserProperties<'t> {
        let block = random.pick(&self.texts.user_blocks);
        UserProperties::parse(block, &Limits::PROTOCOL).expect("valid")
    }

    /// A method, and data only beside it.
    pub(crate) fn authentication(&self, random: &mut Random) -> (Option<&'t str>, Option<&'t [u8]>) {
        let method = random.maybe(|random| self.text(random));
        (method, method.and_then(|_| random.maybe(|random| self.data(random))))
    }
}
