//! Virtual servers and real servers as typed values: printed here in the language of `ipvsadm --restore`.

use crate::address::Family;
use crate::balance::{Scheduler, Target};
use crate::model::Protocol;
use std::fmt::{self, Write};
use std::net::{IpAddr, SocketAddr};

/// What a virtual server answers at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ServerKey {
    /// Protocol, address, port.
    At(Protocol, IpAddr, u16),
    /// Packets with exactly this mark.
    Mark(Family, u32),
}

impl fmt::Display for ServerKey {
    /// As options of ipvsadm.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ServerKey::At(protocol, address, port) => {
                let option = match protocol {
                    Protocol::Tcp => "-t",
                    Protocol::Udp => "-u",
                    Protocol::Sctp => "--sctp-service",
                };
                write!(f, "{option} {}", SocketAddr::new(*address, *port))
            }
            ServerKey::Mark(Family::V4, mark) => write!(f, "-f {mark}"),
            ServerKey::Mark(Family::V6, mark) => write!(f, "-f {mark} -6"),
        }
    }
}

/// A virtual server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Server {
    /// What it answers at.
    pub key: ServerKey,
    /// How it chooses.
    pub scheduler: Scheduler,
    /// Seconds for which a client stays with its real server.
    pub persistent_seconds: Option<u32>,
}

impl Server {
    /// Options of the scheduler: a real server that only waits for its connections to end (weight 0) is passed over, where
    /// hashing would still meet it; Maglev looks at the port too.
    pub fn flags(&self) -> &'static str {
        match self.scheduler {
            Scheduler::SOURCE_HASH => "sh-fallback",
            Scheduler::MAGLEV => "mh-fallback,mh-port",
            _ => "",
        }
    }

    /// Line that adds it (`-A`) or changes it (`-E`).
    pub fn print(&self, verb: &str, out: &mut String) {
        let _ = write!(out, "{verb} {} -s {}", self.key, self.scheduler.name());
        if let Some(seconds) = self.persistent_seconds {
            let _ = write!(out, " -p {seconds}");
        }
        if !self.flags().is_empty() {
            let _ = write!(out, " -b {}", self.flags());
        }
        out.push('\n');
    }
}

/// An endpoint behind a virtual server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Real {
    /// The virtual server.
    pub server: ServerKey,
    /// The endpoint.
    pub target: Target,
    /// Its share; 0 while it waits for its connections to end.
    pub weight: u32,
}

impl Real {
    /// Line that adds it (`-a`) or changes it (`-e`).
    pub fn print(&self, verb: &str, out: &mut String) {
        let _ = writeln!(out, "{verb} {} -r {} -m -w {}", self.server, self.target, self.weight);
    }

    /// Line that takes it away.
    pub fn print_delete(&self, out: &mut String) {
        let _ = writeln!(out, "-d {} -r {}", self.server, self.target);
    }
}

/// Marks of virtual servers: 8 bits that say whose they are, a number, and between them never the bit that asks for
/// masquerading, which would make another mark of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marks {
    masquerade_mark: u32,
}

/// Bits that say whose a mark is.
pub const TAG_MASK: u32 = 0xff00_0000;

impl Marks {
    /// For the bit of the settings.
    pub fn new(masquerade_mark: u32) -> Marks {
        Marks { masquerade_mark }
    }

    /// What all marks have under [`TAG_MASK`].
    pub fn tag(self) -> u32 {
        let tag = 0x4600_0000;
        if tag & self.masquerade_mark == 0 { tag } else { !tag & TAG_MASK }
    }

    /// The mark of a number below 2^23.
    pub fn mark(self, number: u32) -> u32 {
        let below = self.masquerade_mark.wrapping_sub(1) & !TAG_MASK;
        let low = number & below;
        let high = number & !below;
        // Without a hole if the bit is among the tag's.
        let high = if self.masquerade_mark & TAG_MASK == 0 { high << 1 } else { high };
        self.tag() | ((low | high) & !TAG_MASK)
    }

    /// The number of a mark, if it is one of ours.
    pub fn number(self, mark: u32) -> Option<u32> {
        if mark & TAG_MASK != self.tag() || mark & self.masquerade_mark != 0 {
            return None;
        }
        let below = self.masquerade_mark.wrapping_sub(1) & !TAG_MASK;
        let rest = mark & !TAG_MASK;
        let high = rest & !below;
        let high = if self.masquerade_mark & TAG_MASK == 0 { high >> 1 } else { high };
        Some((rest & below) | high)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_leave_the_masquerade_bit_alone() {
        for bit in 0..32 {
            let marks = Marks::new(1 << bit);
            let mut seen = std::collections::BTreeSet::new();
            for number in [0, 1, 2, 3, 0x1fff, 0x2000, 0x3fff, 0x4000, 0x4001, 0x7f_ffff] {
                let mark = marks.mark(number);
                assert_eq!(mark & (1 << bit), 0, "bit {bit}, number {number}");
                assert_eq!(marks.number(mark), Some(number), "bit {bit}");
                assert!(seen.insert(mark), "bit {bit}, number {number}");
            }
            assert_eq!(marks.number(0x4000), None);
            assert_eq!(marks.number(0), None);
        }
    }

    #[test]
    fn lines_are_ipvsadms() {
        let key = ServerKey::At(Protocol::Sctp, "fd00::1".parse().unwrap(), 80);
        let server = Server { key, scheduler: Scheduler::MAGLEV, persistent_seconds: Some(600) };
        let target = Target { address: "fd00::2".parse().unwrap(), port: 8080 };
        let mut out = String::new();
        server.print("-A", &mut out);
        Real { server: key, target, weight: 3 }.print("-a", &mut out);
        Real { server: ServerKey::Mark(Family::V6, 7), target, weight: 0 }.print_delete(&mut out);
        assert_eq!(
            out,
            "-A --sctp-service [fd00::1]:80 -s mh -p 600 -b mh-fallback,mh-port\n\
             -a --sctp-service [fd00::1]:80 -r [fd00::2]:8080 -m -w 3\n\
             -d -f 7 -6 -r [fd00::2]:8080\n"
        );
    }
}
