//! Echo requests for raw ICMP and ICMPv6 sockets (RFC 792, RFC 4443).

const ECHO_REQUEST_V4: u8 = 8;
const ECHO_REPLY_V4: u8 = 0;
const ECHO_REQUEST_V6: u8 = 128;
const ECHO_REPLY_V6: u8 = 129;

/// One echo request. The kernel fills in the ICMPv6 checksum, which covers addresses that only it knows.
pub fn echo_request(v6: bool, id: u16) -> Vec<u8> {
    let mut bytes = vec![if v6 { ECHO_REQUEST_V6 } else { ECHO_REQUEST_V4 }, 0, 0, 0];
    bytes.extend(id.to_be_bytes());
    bytes.extend([0, 1]);
    bytes.extend(b"prober..");
    if !v6 {
        let sum = internet_checksum(&bytes);
        bytes[2..4].copy_from_slice(&sum.to_be_bytes());
    }
    bytes
}

/// Whether `bytes`, an ICMP message without the IP header, answers the request with this id.
pub fn is_reply(v6: bool, id: u16, bytes: &[u8]) -> bool {
    let kind = if v6 { ECHO_REPLY_V6 } else { ECHO_REPLY_V4 };
    bytes.first() == Some(&kind) && identifies(id, bytes)
}

/// Whether the message, a reply or the request quoted in an error, carries this id.
pub fn identifies(id: u16, bytes: &[u8]) -> bool {
    bytes.get(4..6) == Some(&id.to_be_bytes())
}

fn internet_checksum(bytes: &[u8]) -> u16 {
    let mut sum: u32 =
        bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_of_a_summed_message_is_zero() {
        assert_eq!(internet_checksum(&echo_request(false, 0x1234)), 0);
        assert!(identifies(0x1234, &echo_request(true, 0x1234)));
    }
}
