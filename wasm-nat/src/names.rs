//! Names that are unique on the machine and readable for the person who lists the rules.
//!
//! kube-proxy's scheme: the first characters of base32(SHA-256(text)), RFC 4648 alphabet. SHA-256 (FIPS 180-4) is
//! written out here because it is 60 lines and the only cryptography of the crate.

use crate::model::{ObjectName, Protocol};
use std::borrow::Cow;

/// What `nft` takes as the name of a chain or as a comment, with room for a prefix.
const LONGEST_READABLE: usize = 100;

/// `namespace/name/protocol/port`, the readable part of every name; the port is left out when it has no name.
pub fn readable(service: &ObjectName, protocol: Protocol, port: &str) -> String {
    let parts = [service.as_str(), "/", protocol.name()];
    let mut text = String::with_capacity(parts.iter().map(|part| part.len()).sum::<usize>() + 1 + port.len());
    parts.into_iter().for_each(|part| text.push_str(part));
    if !port.is_empty() {
        text.push('/');
        text.push_str(port);
    }
    text
}

/// `PREFIX-HASH8-namespace/name/protocol/port`, where the hash is of the readable part; a long one is cut.
pub fn chain_name(prefix: &str, service: &ObjectName, protocol: Protocol, port: &str) -> String {
    let readable = readable(service, protocol, port);
    let hash = base32_sha256(&readable);
    format!("{prefix}-{}-{}", &hash[..8], shortened(&readable))
}

/// At most [`LONGEST_READABLE`] characters, with `...` where something was cut.
pub fn shortened(text: &str) -> Cow<'_, str> {
    if text.len() <= LONGEST_READABLE {
        return Cow::Borrowed(text);
    }
    // Names of Kubernetes are ASCII; anything else is cut at a character's border all the same.
    let end = (0..=LONGEST_READABLE - 3).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    Cow::Owned(format!("{}...", &text[..end]))
}

/// base32 without padding of SHA-256 of the text: 52 characters.
pub fn base32_sha256(text: &str) -> String {
    const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let digest = sha256(text.as_bytes());
    let mut out = String::with_capacity(52);
    let (mut bits, mut count) = (0u32, 0u32);
    for byte in digest {
        bits = (bits << 8) | u32::from(byte);
        count += 8;
        while count >= 5 {
            count -= 5;
            out.push(char::from(ALPHABET[(bits >> count) as usize & 31]));
        }
    }
    out.push(char::from(ALPHABET[(bits << (5 - count)) as usize & 31]));
    out
}

/// SHA-256 of FIPS 180-4.
pub fn sha256(message: &[u8]) -> [u8; 32] {
    let mut state: [u32; 8] = [
        0x6a09_e667,
        0xbb67_ae85,
        0x3c6e_f372,
        0xa54f_f53a,
        0x510e_527f,
        0x9b05_688c,
        0x1f83_d9ab,
        0x5be0_cd19,
    ];
    let bit_length = (message.len() as u64).wrapping_mul(8);
    let mut padded = message.to_vec();
    padded.push(0x80);
    padded.resize((padded.len() + 8).next_multiple_of(64) - 8, 0);
    padded.extend(bit_length.to_be_bytes());
    for block in padded.chunks_exact(64) {
        compress(&mut state, block);
    }
    let mut digest = [0u8; 32];
    for (bytes, word) in digest.chunks_exact_mut(4).zip(state) {
        bytes.copy_from_slice(&word.to_be_bytes());
    }
    digest
}

fn compress(state: &mut [u32; 8], block: &[u8]) {
    let mut schedule = [0u32; 64];
    for (word, bytes) in schedule.iter_mut().zip(block.chunks_exact(4)) {
        *word = u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    }
    for i in 16..64 {
        let (w15, w2) = (schedule[i - 15], schedule[i - 2]);
        let s0 = w15.rotate_right(7) ^ w15.rotate_right(18) ^ (w15 >> 3);
        let s1 = w2.rotate_right(17) ^ w2.rotate_right(19) ^ (w2 >> 10);
        schedule[i] = schedule[i - 16].wrapping_add(s0).wrapping_add(schedule[i - 7]).wrapping_add(s1);
    }
    let [mut a, mut b, mut c, mut d, mut e, mut f, mut g, mut h] = *state;
    for (word, constant) in schedule.iter().zip(ROUND_CONSTANTS) {
        let s1 = e.rotate_right(6) ^ e.rotate_right(11) ^ e.rotate_right(25);
        let choice = (e & f) ^ (!e & g);
        let t1 = h.wrapping_add(s1).wrapping_add(choice).wrapping_add(constant).wrapping_add(*word);
        let s0 = a.rotate_right(2) ^ a.rotate_right(13) ^ a.rotate_right(22);
        let majority = (a & b) ^ (a & c) ^ (b & c);
        let t2 = s0.wrapping_add(majority);
        (h, g, f, e, d, c, b, a) = (g, f, e, d.wrapping_add(t1), c, b, a, t1.wrapping_add(t2));
    }
    for (word, change) in state.iter_mut().zip([a, b, c, d, e, f, g, h]) {
        *word = word.wrapping_add(change);
    }
}

#[rustfmt::skip]
const ROUND_CONSTANTS: [u32; 64] = [
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sha256_of_the_standard() {
        let hex = |text: &[u8]| sha256(text).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        assert_eq!(hex(b""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        assert_eq!(hex(b"abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        for length in [55, 56, 57, 63, 64, 65, 119, 120] {
            assert_eq!(sha256(&vec![b'a'; length]).len(), 32, "{length}");
        }
        assert_eq!(
            hex(&[b'a'; 1_000_000]),
            "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"
        );
    }

    /// Hashes that kube-proxy's own tests hold.
    #[test]
    fn hashes_are_kube_proxys() {
        assert_eq!(&base32_sha256("ns1/svc1:p80tcp")[..16], "XPGD46QRK7WJZT7O");
        assert_eq!(&base32_sha256("ns1/svc1:p80tcp10.180.0.1:80")[..16], "SXIVWICOYRO3J4NJ");
        assert_eq!(
            chain_name("service", &ObjectName::new("testing", "service"), Protocol::Tcp, "http"),
            "service-P4ZYZVCF-testing/service/tcp/http"
        );
    }

    #[test]
    fn long_names_are_cut() {
        let name = ObjectName::new(&"n".repeat(63), &"s".repeat(63));
        let chain = chain_name("service", &name, Protocol::Tcp, "http");
        assert!(chain.ends_with("..."), "{chain}");
        assert!(chain.len() < 128, "{}", chain.len());
    }
}
