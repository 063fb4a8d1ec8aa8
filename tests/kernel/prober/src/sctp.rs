//! Just enough of SCTP (RFC 9260) to open a conversation with raw sockets: INIT and INIT-ACK.
//!
//! In: packet bytes without the IP header. Out: the same. Conntrack follows these two packets as the start of an
//! association and NATs them, which is all that a kernel without SCTP sockets can be asked to show.
//! Deliberately not here: associations, data, timers.

const COMMON_HEADER: usize = 12;
const INIT_FIXED: usize = 20;
const CHUNK_INIT: u8 = 1;
const CHUNK_INIT_ACK: u8 = 2;
/// A parameter type whose highest bits say "skip me when unknown, without a report" (RFC 9260 §3.2.1).
const PARAMETER_REPORT: u16 = 0x8f01;

/// One INIT or INIT-ACK, as far as this tool reads it.
#[derive(Debug, PartialEq, Eq)]
pub struct Packet {
    pub source_port: u16,
    pub destination_port: u16,
    /// 0 in an INIT; the peer's initiate tag in an INIT-ACK.
    pub verification_tag: u32,
    pub initiate_tag: u32,
    pub is_ack: bool,
    /// What the answering side saw; empty in an INIT.
    pub report: Vec<u8>,
}

impl Packet {
    /// The bytes on the wire, checksum included.
    pub fn encode(&self) -> Vec<u8> {
        let parameter = if self.report.is_empty() { 0 } else { 4 + self.report.len() };
        let chunk_length = INIT_FIXED + parameter;
        let mut bytes = Vec::with_capacity(COMMON_HEADER + chunk_length + 3);
        bytes.extend(self.source_port.to_be_bytes());
        bytes.extend(self.destination_port.to_be_bytes());
        bytes.extend(self.verification_tag.to_be_bytes());
        bytes.extend([0; 4]);
        bytes.extend([if self.is_ack { CHUNK_INIT_ACK } else { CHUNK_INIT }, 0]);
        bytes.extend((chunk_length as u16).to_be_bytes());
        bytes.extend(self.initiate_tag.to_be_bytes());
        bytes.extend(65_536u32.to_be_bytes());
        bytes.extend(1u16.to_be_bytes());
        bytes.extend(1u16.to_be_bytes());
        bytes.extend(self.initiate_tag.to_be_bytes());
        if !self.report.is_empty() {
            bytes.extend(PARAMETER_REPORT.to_be_bytes());
            bytes.extend((parameter as u16).to_be_bytes());
            bytes.extend(&self.report);
        }
        while bytes.len() % 4 != 0 {
            bytes.push(0);
        }
        let sum = crc32c(&bytes);
        bytes[8..12].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    /// `None` for anything that is not one INIT or INIT-ACK with a right checksum: a NAT that forgets the checksum
    /// must look like a lost packet.
    pub fn decode(bytes: &[u8]) -> Option<Packet> {
        let mut unsummed = bytes.to_vec();
        unsummed.get_mut(8..12)?.fill(0);
        if u32::from_le_bytes(bytes[8..12].try_into().ok()?) != crc32c(&unsummed) {
            return None;
        }
        let chunk = bytes.get(COMMON_HEADER..COMMON_HEADER + INIT_FIXED)?;
        let is_ack = match chunk[0] {
            CHUNK_INIT => false,
            CHUNK_INIT_ACK => true,
            _ => return None,
        };
        let end = COMMON_HEADER + usize::from(u16::from_be_bytes([chunk[2], chunk[3]]));
        let report = bytes.get(COMMON_HEADER + INIT_FIXED + 4..end).unwrap_or_default().to_vec();
        Some(Packet {
            source_port: u16::from_be_bytes([bytes[0], bytes[1]]),
            destination_port: u16::from_be_bytes([bytes[2], bytes[3]]),
            verification_tag: u32::from_be_bytes(bytes[4..8].try_into().ok()?),
            initiate_tag: u32::from_be_bytes(chunk[4..8].try_into().ok()?),
            is_ack,
            report,
        })
    }
}

/// CRC-32C (Castagnoli), bit by bit: the packets are tens of bytes.
fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = !0u32;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0x82f6_3b78 } else { crc >> 1 };
        }
    }
    !crc
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crc_matches_rfc_3720_appendix_b4() {
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
    }

    #[test]
    fn packets_round_trip_and_a_broken_checksum_is_refused() {
        let packet = Packet {
            source_port: 40_001,
            destination_port: 9000,
            verification_tag: 7,
            initiate_tag: 9,
            is_ack: true,
            report: b"10.180.0.11 9000".to_vec(),
        };
        let mut bytes = packet.encode();
        assert_eq!(Packet::decode(&bytes), Some(packet));
        bytes[1] ^= 1;
        assert_eq!(Packet::decode(&bytes), None);
    }
}
