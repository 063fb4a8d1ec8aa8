//! Numbers and addresses as text, for what is printed by the hundred thousand: `core::fmt` takes twice as long for the
//! same characters.

use std::fmt::Write;
use std::net::IpAddr;

/// As `{}` prints it.
pub fn decimal(number: u32, out: &mut String) {
    digits::<10>(number, out);
}

/// As `{:#x}` prints it.
pub fn hexadecimal(number: u32, out: &mut String) {
    out.push_str("0x");
    digits::<16>(number, out);
}

/// As `{}` prints it.
pub fn address(address: IpAddr, out: &mut String) {
    match address {
        IpAddr::V4(v4) => {
            for (place, octet) in v4.octets().into_iter().enumerate() {
                if place > 0 {
                    out.push('.');
                }
                decimal(octet.into(), out);
            }
        }
        // Which zeros are left out is the standard library's to know (RFC 5952).
        IpAddr::V6(v6) => {
            let _ = write!(out, "{v6}");
        }
    }
}

/// The base is constant so that the compiler divides by multiplying.
fn digits<const BASE: u32>(mut number: u32, out: &mut String) {
    let mut digits = [0; 10];
    let mut first = digits.len();
    loop {
        first -= 1;
        digits[first] = b"0123456789abcdef"[(number % BASE) as usize];
        number /= BASE;
        if number == 0 {
            break;
        }
    }
    out.extend(digits[first..].iter().map(|digit| char::from(*digit)));
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn all_is_as_the_standard_library_prints_it(number: u32, shift in 0u32..32, v4: [u8; 4], v6: [u16; 8]) {
            let number = number >> shift;
            let mut text = String::new();
            decimal(number, &mut text);
            text.push(' ');
            hexadecimal(number, &mut text);
            for of in [IpAddr::from(v4), IpAddr::from(v6)] {
                text.push(' ');
                address(of, &mut text);
            }
            prop_assert_eq!(text, format!("{number} {number:#x} {} {}", IpAddr::from(v4), IpAddr::from(v6)));
        }
    }
}
