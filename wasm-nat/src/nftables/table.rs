//! One family's table as a whole: printed for people and tests, and walked for one packet.
//!
//! In: the node's rules and all elements. Out: commands for `nft -f -`, or a trace. Not here: changes (`stage`).

use super::elements::{Answer, Element, Label, MapName};
use super::numbers::{LOCAL_SET, SERVICE_MASK};
use super::rules::{Chain, Rule, Statement, TableId, chains, node_chains};
use super::{LAYOUT, node_elements};
use crate::address::Family;
use crate::backend::View;
use crate::balance::Target;
use crate::ruleset::{At, NodeRules};
use crate::simulate::{Packet, Trace, TraceRule, Verdict, is_local, object_of};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::IpAddr;

/// A table with everything in it.
#[derive(Clone, Debug)]
pub struct Table {
    /// The family.
    pub family: Family,
    /// Sorted once [`Table::sort`] was called; those of the node are there from the beginning.
    pub elements: Vec<Element>,
    node: NodeRules,
    chains: BTreeMap<String, Chain>,
}

impl Table {
    /// A table without Services.
    pub fn new(node: &NodeRules) -> Table {
        let chains = node_chains(node).into_iter().map(|chain| (chain.name.to_string(), chain)).collect();
        Table { family: node.family, elements: node_elements(node), node: node.clone(), chains }
    }

    /// Adds an element, and the chain that it names.
    pub fn add(&mut self, element: Element) {
        if let Element::Service { answer: Answer::Pick(pick), .. } = &element {
            self.chains.entry(pick.name()).or_insert_with(|| pick.chain());
        }
        self.elements.push(element);
    }

    /// Puts the elements in order.
    pub fn sort(&mut self) {
        self.elements.sort_unstable();
    }

    /// The table, its maps, and the chains that every table has; base chains without their rules.
    pub fn print_structure(node: &NodeRules, id: TableId, out: &mut String) {
        let _ = writeln!(out, "add table {id} {{ comment \"{LAYOUT}\"; }}");
        for map in MapName::ALL {
            map.print_add(id, out);
        }
        let chains = node_chains(node);
        for chain in &chains {
            chain.print_declaration(id, out);
        }
        for chain in chains.iter().filter(|chain| chain.hook.is_none()) {
            chain.print_rules(id, out);
        }
    }

    /// The rules of base chains, by which packets come to the others.
    pub fn print_serving(node: &NodeRules, id: TableId, out: &mut String) {
        for chain in node_chains(node).iter().filter(|chain| chain.hook.is_some()) {
            chain.print_rules(id, out);
        }
    }

    /// All of it, as `nft -f -` reads it.
    pub fn print(&self, out: &mut String) {
        let id = TableId::own(self.family);
        Table::print_structure(&self.node, id, out);
        Table::print_serving(&self.node, id, out);
        self.print_services(id, out);
    }

    /// Chains that pick, and all elements.
    pub fn print_services(&self, id: TableId, out: &mut String) {
        let stock = node_chains(&self.node);
        for chain in self.chains.values().filter(|chain| stock.iter().all(|own| own.name != chain.name)) {
            chain.print_add(id, out);
        }
        for elements in self.elements.chunk_by(|a, b| a.map() == b.map()) {
            print_elements("add", id, elements.iter(), out);
        }
    }

    /// What happens to a packet.
    pub fn trace(&self, view: View<'_>, packet: &Packet) -> Trace {
        let mut walk = Walk {
            table: self,
            view,
            packet,
            register: 0,
            candidates: Vec::new(),
            marked: false,
            rules: Vec::new(),
        };
        let is_own = is_local(&self.node, packet.source);
        let hooks = if is_own { &["output"][..] } else { &[chains::LOOPBACK_GUARD, "prerouting"] };
        match hooks.iter().find_map(|chain| walk.chain(chain)) {
            Some(Outcome::Verdict(verdict)) => Trace::refused(verdict, walk.rules),
            Some(Outcome::Dnat(endpoints)) => {
                let (marked, rules) = (walk.marked, walk.rules);
                let mut trace = Trace::dnat(packet, &self.node, endpoints, marked, rules);
                if trace.masquerade || !trace.hairpin.is_empty() {
                    let rule = if marked { MARKED } else { HAIRPIN };
                    let chain = &self.chains["postrouting"];
                    trace.rules.push(self.rule(chain, &chain.rules[rule], None));
                }
                trace
            }
            _ => Trace::untouched(),
        }
    }

    fn rule(&self, chain: &Chain, rule: &Rule, met: Option<&Met>) -> TraceRule {
        let mut text = rule.text(self.family);
        if let Some(Met { element, .. }) = met {
            let _ = write!(text, " # {{ {element} }}");
        }
        TraceRule {
            table: TableId::own(self.family).to_string(),
            chain: chain.name.to_string(),
            rule: text,
            object: met.and_then(|met| met.object.clone()),
        }
    }
}

/// Places of the rules of `postrouting` that masquerade.
const MARKED: usize = 1;
const HAIRPIN: usize = 2;

/// `add element … { … }` or `delete element … { … }`; all of one map.
pub fn print_elements<'a>(
    verb: &str,
    table: TableId,
    elements: impl Iterator<Item = &'a Element>,
    out: &mut String,
) {
    let mut elements = elements.peekable();
    let Some(first) = elements.peek() else { return };
    let _ = write!(out, "{verb} element {table} {} {{ ", first.map().name());
    let mut separator = "";
    for element in elements {
        out.push_str(separator);
        if verb == "add" {
            element.print(out)
        } else {
            element.print_key(out)
        }
        separator = ", ";
    }
    out.push_str(" }\n");
}

/// What a walk ends with.
enum Outcome {
    Verdict(Verdict),
    Dnat(Vec<Target>),
    /// `goto` into a chain that came to its end, or `return`: nothing more happens in this hook.
    Return,
}

/// An element that a rule met.
struct Met {
    element: String,
    object: Option<String>,
}

/// A packet on its way.
struct Walk<'a> {
    table: &'a Table,
    view: View<'a>,
    packet: &'a Packet,
    register: u32,
    /// After [`Statement::PickNumber`]: the numbers among which the choice falls.
    candidates: Vec<u32>,
    marked: bool,
    rules: Vec<TraceRule>,
}

impl<'a> Walk<'a> {
    /// `None`: the chain came to its end.
    fn chain(&mut self, name: &str) -> Option<Outcome> {
        let table = self.table;
        let chain = table.chains.get(name)?;
        chain.rules.iter().find_map(|rule| self.rule(chain, rule))
    }

    fn rule(&mut self, chain: &Chain, rule: &Rule) -> Option<Outcome> {
        let mut met = None;
        for statement in &rule.0 {
            match self.statement(statement, &mut met) {
                Step::Next => {}
                Step::NoMatch => return None,
                Step::Jump(name) => {
                    if let Some(outcome) = self.chain(name)
                        && !matches!(outcome, Outcome::Return)
                    {
                        return Some(outcome);
                    }
                }
                Step::Goto(name) => {
                    self.tell(chain, rule, met.as_ref());
                    return Some(self.chain(&name).unwrap_or(Outcome::Return));
                }
                Step::End(outcome) => {
                    self.tell(chain, rule, met.as_ref());
                    return Some(outcome);
                }
            }
        }
        None
    }

    fn tell(&mut self, chain: &Chain, rule: &Rule, met: Option<&Met>) {
        let told = self.table.rule(chain, rule, met);
        self.rules.push(told);
    }

    fn statement<'s>(&mut self, statement: &'s Statement, met: &mut Option<Met>) -> Step<'s> {
        use Statement::*;
        let Packet { source, destination, .. } = *self.packet;
        let node = &self.table.node;
        match statement {
            LoadByAddress | LoadByNodePort => {
                let Some(element) = self.entry(matches!(statement, LoadByAddress)) else {
                    return Step::NoMatch;
                };
                let (Element::Address { value, .. } | Element::NodePort { value, .. }) = element else {
                    return Step::NoMatch;
                };
                self.register = *value;
                *met = Some(Met { element: printed(element), object: self.object(element) });
                Step::Next
            }
            Keep(bits) => {
                self.register &= bits;
                Step::Next
            }
            Set(bits) => {
                self.register |= bits;
                self.candidates.iter_mut().for_each(|candidate| *candidate |= bits);
                Step::Next
            }
            Clear => {
                self.register = 0;
                Step::Next
            }
            HasAll(bits) => Step::when(self.register & bits == *bits),
            HasAny(bits) => Step::when(self.register & bits != 0),
            SourceIn(set) => Step::when(self.holds(*set, source)),
            DestinationIn(set) => Step::when(self.holds(*set, destination)),
            SourceNotAllowed => Step::when(!self.source_is_allowed()),
            Interface(name, prefix) => {
                let interface = self.packet.interface.as_deref().unwrap_or("");
                Step::when(if *prefix { interface.starts_with(&**name) } else { interface == &**name })
            }
            SourceIsLocal => Step::when(is_local(node, source)),
            DestinationIsLocal => Step::when(is_local(node, destination)),
            DestinationIsLoopback => Step::when(destination.is_loopback()),
            DestinationNotLoopback => Step::when(!destination.is_loopback()),
            NotByLoopback => Step::when(!is_local(node, source)),
            // Postrouting is not walked: `Trace::dnat` knows what comes to it. Memories are taken for empty.
            SourceIsDestination | TakeMark(_) | Masquerade => Step::NoMatch,
            RememberSource | RememberEndpoint(_) | RecallEndpoint | ForgetEndpoint | Count
            | CountConnection => Step::Next,
            Mark(_) => {
                self.marked = true;
                Step::Next
            }
            PickNumber(pick) => {
                let slots = self.table.elements.iter().filter_map(|element| match element {
                    Element::AffinitySlot { set, slot, endpoint }
                        if *set == self.register && *slot < pick.slots =>
                    {
                        Some(*endpoint)
                    }
                    _ => None,
                });
                self.candidates = slots.collect();
                Step::when(!self.candidates.is_empty())
            }
            DnatToNumber(protocol) => {
                let chosen = |number: &u32| self.candidates.contains(number);
                let targets = self.table.elements.iter().filter_map(|element| match element {
                    Element::AffinityEndpoint { protocol: of, endpoint, target }
                        if of == protocol && chosen(endpoint) =>
                    {
                        Some(*target)
                    }
                    _ => None,
                });
                Step::dnat(*protocol == self.packet.protocol, targets.collect())
            }
            DnatToPick(protocol, pick) => {
                let targets = self.table.elements.iter().filter_map(|element| match element {
                    Element::Endpoint { protocol: of, set, slot, target }
                        if of == protocol && *set == self.register && *slot < pick.slots =>
                    {
                        Some(*target)
                    }
                    _ => None,
                });
                Step::dnat(*protocol == self.packet.protocol, targets.collect())
            }
            Dispatch => {
                let found = self.table.elements.iter().find_map(|element| match element {
                    Element::Service { set, answer } if *set == self.register => {
                        Some((element, answer.chain()))
                    }
                    _ => None,
                });
                let Some((element, chain)) = found else { return Step::NoMatch };
                *met = Some(Met { element: printed(element), object: None });
                Step::Goto(chain)
            }
            Jump(chain) => Step::Jump(chain),
            Goto(chain) => Step::Goto((*chain).to_owned()),
            Return => Step::End(Outcome::Return),
            Reject => Step::End(Outcome::Verdict(Verdict::Reject)),
            Drop => Step::End(Outcome::Verdict(Verdict::Drop)),
        }
    }

    fn entry(&self, by_address: bool) -> Option<&'a Element> {
        let Packet { destination, protocol, port, .. } = self.packet;
        let table: &'a Table = self.table;
        table.elements.iter().find(|element| match element {
            Element::Address { address, protocol: of, port: at, .. } => {
                by_address && (address, of, at) == (destination, protocol, port)
            }
            Element::NodePort { protocol: of, port: at, .. } => !by_address && (of, at) == (protocol, port),
            _ => false,
        })
    }

    fn holds(&self, map: MapName, address: IpAddr) -> bool {
        self.table.elements.iter().any(|element| match element {
            Element::Range { set, range } => *set == map && range.contains(address),
            Element::ClusterIp { address: own } => map == MapName::ClusterIps && *own == address,
            _ => false,
        })
    }

    fn source_is_allowed(&self) -> bool {
        let own = self.register & SERVICE_MASK & !LOCAL_SET;
        self.table.elements.iter().any(|element| {
            matches!(element, Element::SourceRange { set, range } if *set == own && range.contains(self.packet.source))
        })
    }

    fn object(&self, element: &Element) -> Option<String> {
        let (at, label) = match element {
            Element::Address { address, port, label, .. } => (At::Address(*address, *port), label),
            Element::NodePort { port, label, .. } => (At::NodePort(*port), label),
            _ => return None,
        };
        let Label(Some((service, _))) = label else { return None };
        object_of(self.view, service, self.table.family, at, self.packet.protocol)
    }
}

fn printed(element: &Element) -> String {
    let mut text = String::new();
    element.print(&mut text);
    text
}

enum Step<'a> {
    Next,
    NoMatch,
    Jump(&'a str),
    Goto(String),
    End(Outcome),
}

impl Step<'_> {
    fn when(matches: bool) -> Self {
        if matches { Step::Next } else { Step::NoMatch }
    }

    fn dnat(matches: bool, targets: Vec<Target>) -> Self {
        if matches && !targets.is_empty() { Step::End(Outcome::Dnat(targets)) } else { Step::NoMatch }
    }
}
