//! Rules as typed values: printed here in iptables' language, walked by `trace`.
//!
//! A rule prints in two spellings that mean the same: as it is handed to `iptables-restore`, and as `iptables-save`
//! lists it. They differ only where the kernel keeps less than was written (probabilities).

use crate::address::{Cidr, Family};
use crate::balance::Target;
use crate::model::Protocol;
use std::fmt::{self, Write};
use std::net::IpAddr;
use std::rc::Rc;

/// A name of at most 28 bytes; the kernel takes no longer one.
pub type ChainName = Rc<str>;

/// For how long a client is remembered if a Service does not say.
const DEFAULT_AFFINITY_SECONDS: u32 = 10_800;

/// The tables that Services need.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Table {
    /// Refuses and drops.
    Filter,
    /// Translates.
    Nat,
}

impl Table {
    /// Both.
    pub const ALL: [Table; 2] = [Table::Filter, Table::Nat];

    /// As `iptables-restore` spells it.
    pub fn name(self) -> &'static str {
        match self {
            Table::Filter => "filter",
            Table::Nat => "nat",
        }
    }
}

/// Something that is, or is not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Is<T> {
    /// It is.
    This(T),
    /// It is anything else.
    Other(T),
}

impl<T> Is<T> {
    /// Whether a packet for which `fits` answers is meant.
    pub fn test(&self, fits: impl FnOnce(&T) -> bool) -> bool {
        match self {
            Is::This(value) => fits(value),
            Is::Other(value) => !fits(value),
        }
    }

    fn print(&self, option: &str, out: &mut impl Write, value: impl Fn(&T) -> String) -> fmt::Result {
        let (not, inner) = match self {
            Is::This(inner) => ("", inner),
            Is::Other(inner) => (" !", inner),
        };
        write!(out, "{not} {option} {}", value(inner))
    }
}

/// One rule. What is absent matches everything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Never a range of everything: `iptables-save` does not list that.
    pub source: Option<Is<Cidr>>,
    /// As `source`.
    pub destination: Option<Is<Cidr>>,
    /// Name of an interface, with `+` for all that begin so.
    pub input: Option<Is<Rc<str>>>,
    /// Its protocol.
    pub protocol: Option<Protocol>,
    /// In the order in which they are printed.
    pub matches: Vec<Match>,
    /// What happens then.
    pub verdict: Verdict,
}

/// What `-m` adds to a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Match {
    /// For people: whose rule it is.
    Comment(Rc<str>),
    /// Destination ports, first and last; the rule has a protocol.
    Ports(u16, u16),
    /// The source is an address of this node.
    SourceIsLocal,
    /// The destination is an address of this node.
    DestinationIsLocal,
    /// The bit of the mark is set.
    Marked(u32),
    /// It is not.
    NotMarked(u32),
    /// The first packet of a connection.
    New,
    /// Any later packet of a connection, or one that belongs to it.
    Established,
    /// Nobody knows of what: no first packet, and outside of every connection's window.
    Invalid,
    /// Neither new nor established, and not translated either.
    NeitherEstablishedNorTranslated,
    /// By chance: so many of so many.
    Chance {
        /// The share.
        share: u32,
        /// Of how many.
        of: u32,
    },
    /// One of so many source addresses, by a hash.
    SourceHash {
        /// Of how many; at most 32.
        of: u32,
        /// Tells one hash from another.
        seed: u32,
    },
    /// Every n-th packet that comes here.
    Every(u32),
    /// The source was seen by [`Match::Remember`] of the same list less than so many seconds ago.
    Recall {
        /// The list, which is named after a chain.
        list: ChainName,
        /// How long it counts.
        seconds: u32,
    },
    /// Always; the source and the time are written down.
    Remember {
        /// The list, which is named after a chain.
        list: ChainName,
        /// How long it will count.
        seconds: u32,
    },
}

/// What a rule does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// On to a chain, and back if nothing there ends the walk.
    Jump(ChainName),
    /// Sets the bit of the mark; the walk goes on.
    Mark(u32),
    /// Turns the bit of the mark; the walk goes on.
    Unmark(u32),
    /// To an endpoint.
    Dnat(Target),
    /// From an address of this node.
    Masquerade,
    /// ICMP port unreachable.
    Reject,
    /// Silence.
    Drop,
    /// No other rule of the table shall see it.
    Accept,
    /// Back to the chain before.
    Return,
}

/// The two spellings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spelling {
    /// For `iptables-restore`: what was decided.
    Wanted,
    /// Of `iptables-save`: what the kernel keeps.
    Listed,
}

impl Rule {
    /// For every packet.
    pub fn new(verdict: Verdict) -> Rule {
        Rule { source: None, destination: None, input: None, protocol: None, matches: Vec::new(), verdict }
    }

    /// On to a chain.
    pub fn jump(chain: &ChainName) -> Rule {
        Rule::new(Verdict::Jump(chain.clone()))
    }

    /// From a range.
    pub fn from(mut self, source: Cidr) -> Rule {
        self.source = (source.prefix() > 0).then_some(Is::This(source));
        self
    }

    /// To a range.
    pub fn to(mut self, destination: Cidr) -> Rule {
        self.destination = (destination.prefix() > 0).then_some(Is::This(destination));
        self
    }

    /// Of a protocol.
    pub fn of(mut self, protocol: Protocol) -> Rule {
        self.protocol = Some(protocol);
        self
    }

    /// With one more match.
    pub fn when(mut self, with: Match) -> Rule {
        self.matches.push(with);
        self
    }

    /// With a comment, of which only what needs no care in a shell or a rule file is kept.
    pub fn saying(self, comment: &str) -> Rule {
        self.when(Match::Comment(plain(comment)))
    }

    /// What follows `-A CHAIN`, with a leading space.
    pub fn print(&self, family: Family, spelling: Spelling, out: &mut impl Write) -> fmt::Result {
        let range = |cidr: &Cidr| format!("{}/{}", cidr.address(), cidr.prefix());
        if let Some(source) = &self.source {
            source.print("-s", out, range)?;
        }
        if let Some(destination) = &self.destination {
            destination.print("-d", out, range)?;
        }
        if let Some(input) = &self.input {
            input.print("-i", out, |name| name.to_string())?;
        }
        if let Some(protocol) = self.protocol {
            write!(out, " -p {protocol}")?;
        }
        for each in &self.matches {
            each.print(family, self.protocol, spelling, out)?;
        }
        self.verdict.print(family, out)
    }

    /// As [`Rule::print`], without the leading space.
    pub fn text(&self, family: Family, spelling: Spelling) -> String {
        let mut text = String::new();
        self.print(family, spelling, &mut text).expect("writing to a string");
        text.split_off(1)
    }
}

impl Match {
    fn print(
        &self,
        family: Family,
        protocol: Option<Protocol>,
        spelling: Spelling,
        out: &mut impl Write,
    ) -> fmt::Result {
        match self {
            Match::Comment(text) => write!(out, " -m comment --comment \"{text}\""),
            Match::Ports(first, last) => {
                let protocol = protocol.map_or("tcp", Protocol::name);
                write!(out, " -m {protocol} --dport {first}")?;
                if first == last { Ok(()) } else { write!(out, ":{last}") }
            }
            Match::SourceIsLocal => write!(out, " -m addrtype --src-type LOCAL"),
            Match::DestinationIsLocal => write!(out, " -m addrtype --dst-type LOCAL"),
            Match::Marked(mark) => write!(out, " -m mark --mark {mark:#x}/{mark:#x}"),
            Match::NotMarked(mark) => write!(out, " -m mark ! --mark {mark:#x}/{mark:#x}"),
            Match::New => write!(out, " -m conntrack --ctstate NEW"),
            Match::Established => write!(out, " -m conntrack --ctstate RELATED,ESTABLISHED"),
            Match::Invalid => write!(out, " -m conntrack --ctstate INVALID"),
            Match::NeitherEstablishedNorTranslated => {
                write!(out, " -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT")
            }
            Match::Chance { share, of } => {
                write!(
                    out,
                    " -m statistic --mode random --probability {}",
                    probability(*share, *of, spelling)
                )
            }
            // The first of so many parts: of other parts `iptables-restore` does not read what `iptables-save` prints.
            Match::SourceHash { of, seed } => write!(
                out,
                " -m cluster --cluster-local-nodemask 0x00000001 --cluster-total-nodes {of} --cluster-hash-seed {seed:#010x}"
            ),
            Match::Every(packets) => write!(out, " -m statistic --mode nth --every {packets} --packet 0"),
            Match::Recall { list, seconds } => write!(
                out,
                " -m recent --rcheck --seconds {seconds} --reap --name {} --mask {} --rsource",
                list_name(list, *seconds),
                full_mask(family)
            ),
            Match::Remember { list, seconds } => write!(
                out,
                " -m recent --set --name {} --mask {} --rsource",
                list_name(list, *seconds),
                full_mask(family)
            ),
        }
    }
}

/// The kernel keeps who came when, and not for how long it counts: in one list, a longer time-out would bring back what a
/// shorter one had forgotten. So each time-out has its list; that of the usual one has kube-proxy's name, and taking over
/// from it forgets nobody.
fn list_name(chain: &ChainName, seconds: u32) -> String {
    if seconds == DEFAULT_AFFINITY_SECONDS { chain.to_string() } else { format!("{chain}-{seconds}s") }
}

impl Verdict {
    fn print(&self, family: Family, out: &mut impl Write) -> fmt::Result {
        match self {
            Verdict::Jump(chain) => write!(out, " -j {chain}"),
            Verdict::Mark(mark) => write!(out, " -j MARK --set-xmark {mark:#x}/{mark:#x}"),
            Verdict::Unmark(mark) => write!(out, " -j MARK --set-xmark {mark:#x}/0x0"),
            Verdict::Dnat(target) => write!(out, " -j DNAT --to-destination {target}"),
            Verdict::Masquerade => write!(out, " -j MASQUERADE --random-fully"),
            Verdict::Reject => match family {
                Family::V4 => write!(out, " -j REJECT --reject-with icmp-port-unreachable"),
                Family::V6 => write!(out, " -j REJECT --reject-with icmp6-port-unreachable"),
            },
            Verdict::Drop => write!(out, " -j DROP"),
            Verdict::Accept => write!(out, " -j ACCEPT"),
            Verdict::Return => write!(out, " -j RETURN"),
        }
    }
}

/// kube-proxy writes ten decimals. The kernel keeps 31 bits, and `iptables-save` lists eleven decimals of those.
fn probability(share: u32, of: u32, spelling: Spelling) -> String {
    let wanted = format!("{:.10}", f64::from(share) / f64::from(of));
    match spelling {
        Spelling::Wanted => wanted,
        Spelling::Listed => {
            const ONE: f64 = 0x8000_0000_u32 as f64;
            let kept = (wanted.parse::<f64>().unwrap_or(1.0) * ONE).round();
            format!("{:.11}", kept / ONE)
        }
    }
}

fn full_mask(family: Family) -> IpAddr {
    match family {
        Family::V4 => IpAddr::from([255; 4]),
        Family::V6 => IpAddr::from([0xffff_u16; 8]),
    }
}

/// Objects from files may be named anything; what is no letter, digit or harmless mark becomes `_`, and long text is cut.
fn plain(text: &str) -> Rc<str> {
    const MOST: usize = 200;
    let harmless = |c: char| c.is_ascii_alphanumeric() || " ._:;/-".contains(c);
    text.chars().take(MOST).map(|c| if harmless(c) { c } else { '_' }).collect::<String>().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Constants of kube-proxy's own test, and what `iptables-save` 1.8.9 makes of them.
    #[test]
    fn probabilities_are_kube_proxys() {
        for (share, of, wanted, listed) in [
            (1, 2, "0.5000000000", "0.50000000000"),
            (1, 3, "0.3333333333", "0.33333333349"),
            (1, 10, "0.1000000000", "0.10000000009"),
            (1, 100_001, "0.0000099999", "0.00001000008"),
            (2, 3, "0.6666666667", "0.66666666651"),
        ] {
            assert_eq!(probability(share, of, Spelling::Wanted), wanted);
            assert_eq!(probability(share, of, Spelling::Listed), listed);
        }
    }

    #[test]
    fn names_from_files_cannot_leave_their_comment() {
        assert_eq!(&*plain("a/b\" -j ACCEPT\n-A"), "a/b_ -j ACCEPT_-A");
        assert_eq!(plain(&"x".repeat(300)).len(), 200);
    }
}
