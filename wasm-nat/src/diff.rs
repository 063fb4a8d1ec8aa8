//! From what stands to what shall stand: transactions, and the order of slots.
//!
//! In: two states. Out: as little as leads from one to the other. Shared by the backends; what an operation looks like
//! is theirs.

use crate::balance::Target;
use std::collections::BTreeMap;

/// What the agent hands to one program, which applies all of it or nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transaction {
    /// Who applies it.
    pub program: Program,
    /// Its standard input.
    pub text: String,
    /// How many elements, rules or objects it touches.
    pub operations: usize,
    /// May be applied at the same time as the one before it: neither counts on what the other brings.
    pub beside: bool,
    /// Only adds, and never in the place of something else.
    pub adds_only: bool,
    /// Leaves chains, rules and declarations as they are.
    pub elements_only: bool,
}

/// Programs of the kernel's side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Program {
    /// `nft -f -`; one transaction may change both families.
    Nft,
    /// `iptables-restore --noflush --counters --wait`.
    IptablesRestore,
    /// `ip6tables-restore --noflush --counters --wait`.
    Ip6tablesRestore,
    /// `ip -batch -`.
    IpBatch,
    /// `ipset restore`.
    IpsetRestore,
    /// `ipvsadm --restore`.
    IpvsadmRestore,
}

impl Program {
    /// As the wire spells it.
    pub fn name(self) -> &'static str {
        match self {
            Program::Nft => "nft",
            Program::IptablesRestore => "iptables-restore",
            Program::Ip6tablesRestore => "ip6tables-restore",
            Program::IpBatch => "ip-batch",
            Program::IpsetRestore => "ipset-restore",
            Program::IpvsadmRestore => "ipvsadm-restore",
        }
    }
}

/// The wanted slots, each kept where it stood, so that one changed endpoint changes one or two slots.
///
/// `wanted` tells which targets and how often; a slot of `standing` stays if its target is still wanted and its place
/// still exists. What is left fills the gaps in order. The result is a permutation of `wanted`.
pub fn arrange(standing: &[Target], wanted: &mut [Target]) {
    if standing.is_empty() || standing == wanted {
        return;
    }
    let mut open: BTreeMap<Target, u32> = BTreeMap::new();
    for target in wanted.iter() {
        *open.entry(*target).or_default() += 1;
    }
    let mut gaps = Vec::new();
    for (place, slot) in wanted.iter_mut().enumerate() {
        let stays = standing.get(place).filter(|target| open.get(target).is_some_and(|count| *count > 0));
        match stays {
            Some(target) => {
                *slot = *target;
                if let Some(count) = open.get_mut(target) {
                    *count -= 1;
                }
            }
            None => gaps.push(place),
        }
    }
    let rest = open.into_iter().flat_map(|(target, count)| std::iter::repeat_n(target, count as usize));
    for (place, target) in gaps.into_iter().zip(rest) {
        wanted[place] = target;
    }
}

/// What only the old list has, and what only the new one has. Both are sorted by the call.
pub fn difference<T: Ord>(mut old: Vec<T>, mut new: Vec<T>) -> (Vec<T>, Vec<T>) {
    old.sort_unstable();
    new.sort_unstable();
    let (mut gone, mut added) = (Vec::new(), Vec::new());
    let mut new = new.into_iter().peekable();
    for element in old {
        while new.peek().is_some_and(|next| *next < element) {
            added.extend(new.next());
        }
        if new.peek() == Some(&element) {
            new.next();
        } else {
            gone.push(element);
        }
    }
    added.extend(new);
    (gone, added)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::net::IpAddr;

    fn targets(numbers: &[u8]) -> Vec<Target> {
        numbers.iter().map(|n| Target { address: IpAddr::from([10, 180, 0, *n]), port: 80 }).collect()
    }

    #[test]
    fn one_change_moves_one_slot() {
        for (name, standing, wanted, want) in [
            ("added", &[1, 3][..], &[1, 2, 3][..], &[1, 3, 2][..]),
            ("removed at the end", &[1, 2, 3], &[1, 2], &[1, 2]),
            ("removed at the front: the last fills the gap", &[1, 2, 3], &[2, 3], &[3, 2]),
            ("replaced", &[1, 2, 3], &[1, 3, 4], &[1, 4, 3]),
            ("shares", &[1, 1, 2], &[1, 2, 2], &[1, 2, 2]),
            ("new", &[], &[1, 2], &[1, 2]),
            ("all gone", &[1, 2], &[], &[]),
        ] {
            let mut got = targets(wanted);
            arrange(&targets(standing), &mut got);
            assert_eq!(got, targets(want), "{name}");
        }
    }

    proptest! {
        #[test]
        fn arranging_keeps_what_is_wanted(standing in prop::collection::vec(0u8..9, 0..12), wanted in prop::collection::vec(0u8..9, 0..12)) {
            let mut wanted = targets(&wanted);
            wanted.sort();
            let mut got = wanted.clone();
            arrange(&targets(&standing), &mut got);
            got.sort();
            prop_assert_eq!(got, wanted);
        }

        #[test]
        fn a_difference_leads_from_old_to_new(old in prop::collection::btree_set(0u8..30, 0..20), new in prop::collection::btree_set(0u8..30, 0..20)) {
            let (gone, added) = difference(old.iter().copied().collect(), new.iter().copied().collect());
            let mut got = old.clone();
            for element in &gone { prop_assert!(got.remove(element)); }
            for element in &added { prop_assert!(got.insert(*element)); }
            prop_assert_eq!(got, new);
        }
    }
}
