//! Texts for `iptables-restore --noflush`, from units that belong together.
//!
//! In: units in the order in which they may be applied. Out: transactions. Naming a chain (`:CHAIN - [0:0]`) makes it where
//! it is not and empties it where it is; chains that nobody names stay as they are.

use super::rule::{ChainName, Rule, Spelling, Table};
use crate::address::Family;
use crate::diff::{Program, Transaction};
use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write;

/// Chains in one transaction for the nft variant: its cost grows with the square of their number (1.8.9).
const CHUNK_NFT: usize = 500;

/// The legacy variant copies its whole table for every transaction, so few large ones are best.
const CHUNK_LEGACY: usize = 50_000;

/// Changes of one table that are not to be told apart.
#[derive(Debug)]
pub struct Unit {
    /// Where.
    pub table: Table,
    /// Chains with their new rules, printed.
    writes: Vec<(ChainName, String)>,
    /// Changes of the kernel's own chains, printed.
    jumps: String,
    /// Chains to delete.
    deletes: Vec<ChainName>,
}

impl Unit {
    /// Without changes.
    pub fn new(table: Table) -> Unit {
        Unit { table, writes: Vec::new(), jumps: String::new(), deletes: Vec::new() }
    }

    /// One chain, written.
    pub fn chain(table: Table, family: Family, name: &ChainName, rules: &[Rule]) -> Unit {
        let mut unit = Unit::new(table);
        unit.write(family, name, rules);
        unit
    }

    /// Writes a chain.
    pub fn write(&mut self, family: Family, name: &ChainName, rules: &[Rule]) {
        let mut text = String::new();
        for rule in rules {
            let _ = write!(text, "-A {name}");
            let _ = rule.print(family, Spelling::Wanted, &mut text);
            text.push('\n');
        }
        self.writes.push((name.clone(), text));
    }

    /// Deletes a chain that nothing leads to any more.
    pub fn delete(&mut self, name: ChainName) {
        self.deletes.push(name);
    }

    /// Inserts a rule before all others of one of the kernel's chains.
    pub fn insert(&mut self, family: Family, builtin: &str, rule: &Rule) {
        let _ = write!(self.jumps, "-I {builtin} 1");
        let _ = rule.print(family, Spelling::Wanted, &mut self.jumps);
        self.jumps.push('\n');
    }

    /// Removes a rule, as it was listed, from one of the kernel's chains.
    pub fn remove(&mut self, builtin: &str, rule: &str) {
        let _ = writeln!(self.jumps, "-D {builtin} {rule}");
    }

    fn is_empty(&self) -> bool {
        self.writes.is_empty() && self.jumps.is_empty() && self.deletes.is_empty()
    }

    fn chains(&self) -> usize {
        self.writes.len() + self.deletes.len()
    }
}

/// Units of one family, in order.
#[derive(Debug)]
pub struct Queue {
    family: Family,
    units: VecDeque<Unit>,
    chunk: usize,
}

impl Queue {
    /// Without units.
    pub fn new(family: Family) -> Queue {
        Queue { family, units: VecDeque::new(), chunk: CHUNK_NFT }
    }

    /// For which variant of the programs the transactions are.
    pub fn for_variant(&mut self, is_nft: bool) {
        self.chunk = if is_nft { CHUNK_NFT } else { CHUNK_LEGACY };
    }

    /// The family.
    pub fn family(&self) -> Family {
        self.family
    }

    /// At the end.
    pub fn push(&mut self, unit: Unit) {
        if !unit.is_empty() {
            self.units.push_back(unit);
        }
    }

    /// At the end, each deletion a unit of its own.
    pub fn push_divided(&mut self, unit: Unit) {
        for name in unit.deletes {
            self.units.push_back(Unit { deletes: vec![name], ..Unit::new(unit.table) });
        }
    }

    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.units.is_empty()
    }

    /// As much as goes well into one transaction.
    pub fn next_transaction(&mut self) -> Option<Transaction> {
        let (mut count, mut chains) = (0, 0);
        for unit in &self.units {
            chains += unit.chains();
            if count > 0 && chains > self.chunk {
                break;
            }
            count += 1;
        }
        let units: Vec<Unit> = self.units.drain(..count).collect();
        (!units.is_empty()).then(|| transaction(self.family, &units))
    }

    /// Everything that is left, in one transaction.
    pub fn whole(&mut self) -> Transaction {
        let units: Vec<Unit> = self.units.drain(..).collect();
        transaction(self.family, &units)
    }
}

fn transaction(family: Family, units: &[Unit]) -> Transaction {
    let mut text = String::new();
    let mut operations = 0;
    // Neighbours of one table share a section, which the kernel applies as a whole.
    for section in units.chunk_by(|a, b| a.table == b.table) {
        let _ = writeln!(text, "*{}", section[0].table.name());
        // What comes last for a chain is what counts.
        let mut chains: BTreeMap<&str, Option<&str>> = BTreeMap::new();
        for unit in section {
            chains.extend(unit.writes.iter().map(|(name, rules)| (&**name, Some(rules.as_str()))));
            chains.extend(unit.deletes.iter().map(|name| (&**name, None)));
        }
        // Backwards: the nft variant (1.8.9) keeps a sorted list of chains and looks for the place of each from its start. The
        // legacy one takes this order no slower.
        for name in chains.keys().rev() {
            let _ = writeln!(text, ":{name} - [0:0]");
        }
        chains.values().flatten().for_each(|rules| text.push_str(rules));
        section.iter().for_each(|unit| text.push_str(&unit.jumps));
        for (name, _) in chains.iter().filter(|(_, rules)| rules.is_none()) {
            let _ = writeln!(text, "-X {name}");
        }
        text.push_str("COMMIT\n");
        operations += chains.len() + section.iter().map(|unit| unit.jumps.lines().count()).sum::<usize>();
    }
    let program = match family {
        Family::V4 => Program::IptablesRestore,
        Family::V6 => Program::Ip6tablesRestore,
    };
    Transaction { program, text, operations, beside: false, adds_only: false, elements_only: false }
}
