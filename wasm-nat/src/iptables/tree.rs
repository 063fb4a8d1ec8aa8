//! Which chain a packet meets on its way to a Service port: a tree over the bits of what it is addressed to.
//!
//! kube-proxy walks one rule for each address. Here a chain either lists a few addresses or hands the packet to one of
//! four chains by the next two bits in which its addresses differ, so the way grows with the logarithm of their number.
//! The bits are the address, then the protocol, then the port: many ports of one address are a tree as well, and so are
//! the node ports.
//!
//! In: items by their bits. Out: chains as lists of parts, and what differs between two trees. The shape depends on the
//! items alone, never on the order in which they came, and one more or less changes one or two chains.

use crate::model::Protocol;
use std::collections::{BTreeMap, BTreeSet};

/// Bits on which a chain divides its items: with four ways a packet meets the fewest rules.
const STRIDE: u8 = 2;

/// A chain with at most so many items lists them.
const LISTED: usize = 6;

/// Chains below the root. The nft variant takes 16 chains within each other, of which a tree leaves to others seven: the
/// hook, the root, and the longest way through a Service port (firewall, external, cluster, endpoint, mark). Only addresses
/// chosen to that end come so deep; a chain there lists what it has.
const DEEPEST: u8 = 9;

const PROTOCOL_BITS: u8 = 2;
const PORT_BITS: u8 = 16;

/// Address bits; those of an IPv4 address are the first 32.
pub const ADDRESS_BITS: u8 = 128;

/// Protocol after the address.
pub const PROTOCOL_END: u8 = ADDRESS_BITS + PROTOCOL_BITS;

const ALL_BITS: u8 = PROTOCOL_END + PORT_BITS;

/// What a packet is addressed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bits {
    /// From the left; zero for node ports.
    pub address: u128,
    /// Protocol and port: 18 bits.
    rest: u32,
}

impl Bits {
    /// From the parts.
    pub fn new(address: u128, protocol: Protocol, port: u16) -> Bits {
        let number = Protocol::ALL.iter().position(|each| *each == protocol).unwrap_or(0);
        Bits { address, rest: (number as u32) << PORT_BITS | u32::from(port) }
    }

    /// The protocol.
    pub fn protocol(self) -> Protocol {
        Protocol::ALL.get((self.rest >> PORT_BITS) as usize).copied().unwrap_or(Protocol::Tcp)
    }

    /// The port.
    pub fn port(self) -> u16 {
        (self.rest & 0xffff) as u16
    }

    /// How many bits from the left are the same.
    fn common(self, other: Bits) -> u8 {
        if self.address != other.address {
            return (self.address ^ other.address).leading_zeros() as u8;
        }
        let unused = 32 - u32::from(PROTOCOL_BITS + PORT_BITS);
        ADDRESS_BITS + ((self.rest ^ other.rest).leading_zeros() - unused) as u8
    }

    /// With the bits behind `prefix` all zero or all one.
    fn filled(self, prefix: u8, one: bool) -> Bits {
        let address = match prefix {
            ADDRESS_BITS.. => 0,
            _ => u128::MAX >> prefix,
        };
        let rest = (1_u32 << (ALL_BITS - prefix.max(ADDRESS_BITS))) - 1;
        if one {
            Bits { address: self.address | address, rest: self.rest | rest }
        } else {
            Bits { address: self.address & !address, rest: self.rest & !rest }
        }
    }

    fn with(self, place: u8, value: u32) -> Bits {
        if place < ADDRESS_BITS {
            let shift = ADDRESS_BITS - STRIDE - place;
            Bits { address: self.address | u128::from(value) << shift, ..self }
        } else {
            let shift = ALL_BITS - STRIDE - place;
            Bits { rest: self.rest | value << shift, ..self }
        }
    }
}

/// All bits that begin alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cell {
    /// First, so that cells sort from the root down.
    prefix: u8,
    bits: Bits,
}

impl Cell {
    /// Everything.
    pub const ROOT: Cell = Cell { prefix: 0, bits: Bits { address: 0, rest: 0 } };

    /// How many bits its members share.
    pub fn prefix(self) -> u8 {
        self.prefix
    }

    /// The first and the last that may be in it.
    pub fn bounds(self) -> (Bits, Bits) {
        (self.bits, self.bits.filled(self.prefix, true))
    }
}

/// What a chain of a tree does, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part<T> {
    /// An item of its own.
    Item(Bits, T),
    /// On to the chain of a cell.
    Cell(Cell),
}

/// Items, with changes over them.
#[derive(Debug)]
pub struct Tree<'a, T> {
    base: &'a BTreeMap<Bits, T>,
    changes: Option<&'a BTreeMap<Bits, Option<T>>>,
}

impl<'a, T: Clone + PartialEq> Tree<'a, T> {
    /// Of these items.
    pub fn new(base: &'a BTreeMap<Bits, T>) -> Tree<'a, T> {
        Tree { base, changes: None }
    }

    /// Of these items with changes; `None` is one that is gone.
    pub fn changed(base: &'a BTreeMap<Bits, T>, changes: &'a BTreeMap<Bits, Option<T>>) -> Tree<'a, T> {
        Tree { base, changes: Some(changes) }
    }

    fn within(&self, cell: Cell) -> impl Iterator<Item = (Bits, &'a T)> {
        let (first, last) = cell.bounds();
        let overlay = self.changes;
        let kept = self.base.range(first..=last).map(|(bits, item)| (*bits, item));
        let mut kept = kept
            .filter(move |(bits, _)| overlay.is_none_or(|overlay| !overlay.contains_key(bits)))
            .peekable();
        let changed = overlay.map(|overlay| overlay.range(first..=last)).into_iter().flatten();
        let mut changed = changed.filter_map(|(bits, item)| Some((*bits, item.as_ref()?))).peekable();
        std::iter::from_fn(move || match (kept.peek(), changed.peek()) {
            (Some((a, _)), Some((b, _))) if a < b => kept.next(),
            (_, Some(_)) => changed.next(),
            (_, None) => kept.next(),
        })
    }

    fn last(&self, cell: Cell) -> Option<Bits> {
        let (first, last) = cell.bounds();
        let stays = |bits: &&Bits| self.changes.is_none_or(|changes| !changes.contains_key(bits));
        let kept = self.base.range(first..=last).rev().map(|(bits, _)| bits).find(stays);
        let changed = self.changes.and_then(|changes| {
            changes.range(first..=last).rev().find(|(_, item)| item.is_some()).map(|(bits, _)| bits)
        });
        kept.max(changed).copied()
    }

    /// The chain of a cell that stands `depth` chains below the root.
    pub fn chain(&self, cell: Cell, depth: u8) -> Vec<Part<T>> {
        let all = || self.within(cell).map(|(bits, item)| Part::Item(bits, item.clone()));
        if depth >= DEEPEST {
            return all().collect();
        }
        let few: Vec<Part<T>> = all().take(LISTED + 1).collect();
        if few.len() <= LISTED {
            return few;
        }
        let (Some((first, _)), Some(last)) = (self.within(cell).next(), self.last(cell)) else { return few };
        let place = first.common(last) / STRIDE * STRIDE;
        let mut parts = Vec::with_capacity(4);
        for value in 0..1 << STRIDE {
            let cell = Cell { prefix: place + STRIDE, bits: first.filled(place, false).with(place, value) };
            let mut within = self.within(cell);
            match (within.next(), within.next()) {
                (None, _) => {}
                (Some((bits, item)), None) => parts.push(Part::Item(bits, item.clone())),
                (Some(_), Some(_)) => parts.push(Part::Cell(cell)),
            }
        }
        parts
    }

    /// All chains, the root first.
    pub fn chains(&self) -> BTreeMap<Cell, Vec<Part<T>>> {
        let mut chains = BTreeMap::new();
        let mut open = vec![(Cell::ROOT, 0)];
        while let Some((cell, depth)) = open.pop() {
            let parts = self.chain(cell, depth);
            open.extend(cells(&parts).map(|child| (child, depth + 1)));
            chains.insert(cell, parts);
        }
        chains
    }
}

fn cells<T>(parts: &[Part<T>]) -> impl Iterator<Item = Cell> {
    parts.iter().filter_map(|part| match part {
        Part::Cell(cell) => Some(*cell),
        Part::Item(..) => None,
    })
}

/// What leads from one tree to another.
#[derive(Debug)]
pub struct Difference<T> {
    /// Chains that are new or other than before. The root is the first.
    pub written: BTreeMap<Cell, Vec<Part<T>>>,
    /// Chains that are no more. A chain comes before those that it named.
    pub gone: BTreeSet<Cell>,
}

/// Compares two trees that differ at most in `changed`. The cost is that of the chains on the way there, unless a change
/// is so far from everything else that all the rest moves down by one chain.
pub fn difference<T: Clone + PartialEq, C>(
    old: &Tree<'_, T>,
    new: &Tree<'_, T>,
    changed: &BTreeMap<Bits, C>,
) -> Difference<T> {
    let mut before = BTreeMap::new();
    let mut after = BTreeMap::new();
    let mut open = vec![(Cell::ROOT, Some(0_u8), Some(0_u8))];
    while let Some((cell, old_depth, new_depth)) = open.pop() {
        let (first, last) = cell.bounds();
        if old_depth == new_depth && changed.range(first..=last).next().is_none() {
            continue;
        }
        let below = |depth: u8| depth + 1;
        let was = old_depth.map(|depth| old.chain(cell, depth));
        let is = new_depth.map(|depth| new.chain(cell, depth));
        let old_cells: BTreeSet<Cell> = was.iter().flat_map(|parts| cells(parts)).collect();
        let new_cells: BTreeSet<Cell> = is.iter().flat_map(|parts| cells(parts)).collect();
        for child in old_cells.union(&new_cells) {
            let old_depth = old_depth.map(below).filter(|_| old_cells.contains(child));
            let new_depth = new_depth.map(below).filter(|_| new_cells.contains(child));
            open.push((*child, old_depth, new_depth));
        }
        if let Some(parts) = was {
            before.insert(cell, parts);
        }
        if let Some(parts) = is {
            after.insert(cell, parts);
        }
    }
    let gone = before.keys().filter(|cell| !after.contains_key(cell)).copied().collect();
    after.retain(|cell, parts| before.get(cell) != Some(parts));
    Difference { written: after, gone }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Items = BTreeMap<Bits, u32>;

    fn bits(address: u32, port: u16) -> Bits {
        Bits::new(u128::from(address) << 96, Protocol::Tcp, port)
    }

    /// The item for `wanted`, and how many rules were met on the way.
    fn find(tree: &Tree<'_, u32>, wanted: Bits) -> (Option<u32>, usize) {
        let (mut cell, mut depth, mut met) = (Cell::ROOT, 0, 0);
        'chain: loop {
            for part in tree.chain(cell, depth) {
                met += 1;
                match part {
                    Part::Item(bits, item) if bits == wanted => return (Some(item), met),
                    Part::Cell(next) if next.bounds().0 <= wanted && wanted <= next.bounds().1 => {
                        (cell, depth) = (next, depth + 1);
                        continue 'chain;
                    }
                    _ => {}
                }
            }
            return (None, met);
        }
    }

    #[test]
    fn the_way_grows_with_the_logarithm() {
        for (count, most) in [(10, 10), (1_000, 22), (10_000, 28), (50_000, 32)] {
            // Spread over 10.96.0.0/12 as an allocator does that picks at random.
            let address = |i: u32| 0x0a60_0000 | (i.wrapping_mul(0x9e37_79b1) >> 12);
            let items: Items = (0..count).map(|i| (bits(address(i), 80), i)).collect();
            let tree = Tree::new(&items);
            let worst = items.iter().map(|(key, item)| {
                let (found, met) = find(&tree, *key);
                assert_eq!(found, Some(*item));
                met
            });
            let worst = worst.max().unwrap();
            assert!(worst <= most, "{count} items: {worst} rules");
        }
    }

    #[test]
    fn no_chain_stands_too_deep() {
        // Each address leaves the way of the others one stride later.
        let items: Items =
            (0..16).flat_map(|i| (0..9).map(move |p| (bits(1 << (2 * i), 80 + p), i))).collect();
        let mut open = vec![(Cell::ROOT, 0)];
        let tree = Tree::new(&items);
        while let Some((cell, depth)) = open.pop() {
            assert!(depth <= DEEPEST);
            open.extend(cells(&tree.chain(cell, depth)).map(|child| (child, depth + 1)));
        }
        for (key, item) in &items {
            assert_eq!(find(&tree, *key).0, Some(*item));
        }
    }

    #[test]
    fn one_change_writes_few_chains() {
        let items: Items = (0..10_000).map(|i| (bits(0xac1e_0000 + i * 5, 80), i)).collect();
        for at in [0xac1e_0001, 0xac1e_7777, 0xac1e_c351] {
            let changes = BTreeMap::from([(bits(at, 80), Some(7))]);
            let found = difference(&Tree::new(&items), &Tree::changed(&items, &changes), &changes);
            assert!(found.written.len() + found.gone.len() <= 3, "{found:?}");
        }
    }

    fn any_bits() -> impl Strategy<Value = Bits> {
        let address = prop_oneof![
            (0u32..64).prop_map(|low| 0xac1e_0000 | low),
            (0u32..16).prop_map(|bit| 1 << (2 * bit)),
            any::<u32>(),
        ];
        (address, 0usize..3, prop_oneof![79u16..90, any::<u16>()]).prop_map(|(address, protocol, port)| {
            Bits::new(u128::from(address) << 96, Protocol::ALL[protocol], port)
        })
    }

    proptest! {
        #[test]
        fn differences_lead_from_tree_to_tree(
            start in prop::collection::btree_map(any_bits(), 0u32..4, 0..60),
            steps in prop::collection::vec(prop::collection::btree_map(any_bits(), prop::option::of(0u32..4), 0..12), 1..6),
        ) {
            let mut items: Items = start;
            let mut chains = Tree::new(&items).chains();
            for changes in steps {
                let new = Tree::changed(&items, &changes);
                let Difference { written, gone } = difference(&Tree::new(&items), &new, &changes);
                for cell in gone {
                    prop_assert!(chains.remove(&cell).is_some());
                }
                for (cell, parts) in written {
                    prop_assert!(chains.insert(cell, parts.clone()) != Some(parts));
                }
                for (bits, item) in changes {
                    match item {
                        Some(item) => drop(items.insert(bits, item)),
                        None => drop(items.remove(&bits)),
                    }
                }
                prop_assert_eq!(&chains, &Tree::new(&items).chains());
                for (bits, item) in &items {
                    prop_assert_eq!(find(&Tree::new(&items), *bits).0, Some(*item));
                }
            }
        }
    }
}
