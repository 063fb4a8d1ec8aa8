//! Maps whose order nobody sees: for look-ups by name or claim, of which a load makes some twenty a Service.
//!
//! Whoever walks one sorts what comes out, or makes of it something that has no order.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// A hash map without a random seed: the same input takes the same memory and the same time.
pub type Hashed<K, V> = HashMap<K, V, BuildHasherDefault<WordHasher>>;

/// Eight bytes a step, by the multiplication of FxHash; then a last mixing, since the map takes its bits from both ends.
/// With the standard library's SipHash a load of 50 000 Services takes an eighth more.
///
/// Neither has a secret here, so whoever may create objects can choose names that collide: a look-up among n of those
/// compares up to n names.
#[derive(Clone, Copy, Debug, Default)]
pub struct WordHasher(u64);

const FACTOR: u64 = 0x517c_c1b7_2722_0a95;

impl WordHasher {
    fn word(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(FACTOR);
    }
}

impl Hasher for WordHasher {
    fn write(&mut self, bytes: &[u8]) {
        let mut words = bytes.chunks_exact(8);
        for word in &mut words {
            self.word(u64::from_le_bytes(word.try_into().expect("eight bytes")));
        }
        let rest = words.remainder().iter().rev();
        self.word(rest.fold(0, |word, byte| (word << 8) | u64::from(*byte)));
    }

    fn write_u8(&mut self, number: u8) {
        self.word(number.into());
    }

    fn write_u16(&mut self, number: u16) {
        self.word(number.into());
    }

    fn write_u32(&mut self, number: u32) {
        self.word(number.into());
    }

    fn write_u64(&mut self, number: u64) {
        self.word(number);
    }

    fn write_usize(&mut self, number: usize) {
        self.word(number as u64);
    }

    fn finish(&self) -> u64 {
        let mixed = (self.0 ^ (self.0 >> 32)).wrapping_mul(FACTOR);
        mixed ^ (mixed >> 32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::claims::Claim;
    use crate::model::{ObjectName, Protocol};
    use std::collections::BTreeSet;
    use std::hash::{BuildHasher, Hash};

    /// As many places of 2^16 as chance would fill: 1 - 1/e of them.
    fn assert_spread<T: Hash>(values: impl Iterator<Item = T>) {
        let hasher = BuildHasherDefault::<WordHasher>::default();
        let places: BTreeSet<u16> = values.map(|value| hasher.hash_one(value) as u16).collect();
        assert!((41_000..42_000).contains(&places.len()), "{}", places.len());
    }

    #[test]
    fn names_and_addresses_that_differ_little_are_spread() {
        assert_spread((0..65_536).map(|number| ObjectName::new("bulk", &format!("bulk-{number:05}"))));
        let address =
            |number: u32| Claim::Address((0xac1f_0000 + number).to_be_bytes().into(), Protocol::Tcp, 80);
        assert_spread((0..65_536).map(address));
    }
}
