//! The boundary: bytes in linear memory, one state machine, no sharing. The calls are described in `README.md`.
//!
//! In: what `nat.ts` writes to the buffer that `input` gave. Out: bytes at `output_address`, and whether they are an
//! answer (0) or a sentence about what the caller did wrong (1). Nothing is decided here.

#[cfg(target_family = "wasm")]
#[allow(unsafe_code)]
mod memory;
pub mod wire;

use crate::address::Family;
use crate::diff::Transaction;
use crate::machine::Machine;
use serde::Serialize;
use std::cell::RefCell;
use wire::{Changes, PacketWire, SettingsWire};

/// The state behind the boundary.
#[derive(Default)]
pub struct Boundary {
    machine: Machine,
    input: Vec<u8>,
    output: Vec<u8>,
    listings: Vec<(Family, String)>,
}

type Answer = Result<Vec<u8>, String>;

impl Boundary {
    /// Makes room for `length` bytes.
    pub fn input(&mut self, length: usize) -> &mut [u8] {
        self.input.clear();
        self.input.resize(length, 0);
        &mut self.input
    }

    /// What the last call said.
    pub fn output(&self) -> &[u8] {
        &self.output
    }

    /// Runs a call on the input; true if the output is an answer.
    pub fn call(&mut self, call: fn(&mut Boundary) -> Answer) -> bool {
        let answer = call(self);
        // A large input is not kept: memory of a module never shrinks, so it must be free for what comes next.
        self.input = Vec::new();
        let fits = answer.is_ok();
        self.output = answer.unwrap_or_else(String::into_bytes);
        fits
    }

    fn text(&self) -> Result<&str, String> {
        text(&self.input)
    }

    /// See `README.md`, as for all that follow.
    pub fn configure(&mut self) -> Answer {
        let wire: SettingsWire = parse(&self.input)?;
        let mut diagnostics = Vec::new();
        let (settings, node) = wire.read(&mut self.machine.names, &mut diagnostics)?;
        self.machine.configure(settings, node);
        Ok(json(&wire::diagnostics(&diagnostics)))
    }

    /// Objects that came or went.
    pub fn apply(&mut self) -> Answer {
        let changes: Changes<'_> = parse(&self.input)?;
        changes.apply(&mut self.machine)?;
        Ok(Vec::new())
    }

    /// From the committed state.
    pub fn plan(&mut self) -> Answer {
        let diagnostics = self.machine.plan();
        Ok(self.planned(&diagnostics))
    }

    /// From nothing.
    pub fn replace(&mut self) -> Answer {
        let diagnostics = self.machine.replace();
        Ok(self.planned(&diagnostics))
    }

    /// Forgets listings of an earlier time.
    pub fn reconcile_begin(&mut self) -> Answer {
        self.listings.clear();
        Ok(Vec::new())
    }

    /// One family's listing.
    pub fn reconcile_listing(&mut self) -> Answer {
        let listing = self.listing()?;
        self.listings.push(listing);
        Ok(Vec::new())
    }

    /// The family before a listing, and the listing, in the memory of the input.
    fn listing(&mut self) -> Result<(Family, String), String> {
        let mut text = String::from_utf8(std::mem::take(&mut self.input))
            .map_err(|error| format!("the listing is not UTF-8: {error}"))?;
        let end = text.find('\n').ok_or("the listing does not begin with its family")?;
        let family = wire::family(&text[..end])?;
        text.drain(..=end);
        Ok((family, text))
    }

    /// From the listings.
    pub fn reconcile(&mut self) -> Answer {
        let listings = std::mem::take(&mut self.listings);
        let diagnostics = self.machine.reconcile(listings);
        Ok(self.planned(&diagnostics))
    }

    /// Forgets lines of an earlier time, and a plan.
    pub fn audit_begin(&mut self) -> Answer {
        self.machine.begin_audit();
        Ok(Vec::new())
    }

    /// Some lines of one family's listing.
    pub fn audit_lines(&mut self) -> Answer {
        let (family, lines) = self.listing()?;
        self.machine.hear(family, lines);
        Ok(Vec::new())
    }

    /// Whether they tell what was committed.
    pub fn audit(&mut self) -> Answer {
        Ok(json(&self.machine.is_intact()))
    }

    /// What waited for its connections to end.
    pub fn drain(&mut self) -> Answer {
        let listing = self.text()?.to_owned();
        self.machine.drain(&listing);
        Ok(self.planned(&[]))
    }

    fn planned(&self, diagnostics: &[crate::model::Diagnostic]) -> Vec<u8> {
        json(&wire::Plan { empty: self.machine.is_empty(), diagnostics: wire::diagnostics(diagnostics) })
    }

    /// Nothing when there is no more.
    pub fn next_transaction(&mut self) -> Answer {
        Ok(self.machine.next_transaction().map_or(Vec::new(), |transaction| print(&transaction)))
    }

    /// All of the plan stands.
    pub fn commit(&mut self) -> Answer {
        self.machine.commit();
        Ok(Vec::new())
    }

    /// It does not.
    pub fn rollback(&mut self) -> Answer {
        self.machine.rollback();
        Ok(Vec::new())
    }

    /// Complete rules.
    pub fn render(&mut self) -> Answer {
        let family = match self.text()? {
            "" => None,
            text => Some(wire::family(text)?),
        };
        Ok(print_all(&self.machine.render(family)))
    }

    /// One packet.
    pub fn trace(&mut self) -> Answer {
        let packet: PacketWire<'_> = parse(&self.input)?;
        let packet = packet.read()?;
        Ok(json(&wire::TraceWire::new(&self.machine.trace(&packet))))
    }

    /// Of all objects.
    pub fn diagnostics(&mut self) -> Answer {
        Ok(json(&wire::diagnostics(&self.machine.diagnostics())))
    }

    /// Numbers.
    pub fn status(&mut self) -> Answer {
        Ok(json(&wire::Status::new(&self.machine)))
    }
}

fn parse<'a, T: serde::Deserialize<'a>>(input: &'a [u8]) -> Result<T, String> {
    // Not `from_slice`, which looks at every string by itself for what is not UTF-8.
    serde_json::from_str(text(input)?).map_err(|error| error.to_string())
}

fn text(input: &[u8]) -> Result<&str, String> {
    std::str::from_utf8(input).map_err(|error| format!("the input is not UTF-8: {error}"))
}

fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("the wire's types have string keys only")
}

/// `PROGRAM OPERATIONS`, ` beside` and ` elements` if it is so, line break, text.
fn print(transaction: &Transaction) -> Vec<u8> {
    let Transaction { program, operations, beside, elements_only, .. } = transaction;
    let beside = if *beside { " beside" } else { "" };
    let elements = if *elements_only { " elements" } else { "" };
    let mut out = format!("{} {operations}{beside}{elements}\n", program.name()).into_bytes();
    out.extend_from_slice(transaction.text.as_bytes());
    out
}

fn print_all(transactions: &[Transaction]) -> Vec<u8> {
    let mut out = Vec::new();
    for transaction in transactions.iter().map(print) {
        out.extend_from_slice(format!("{}\n", transaction.len()).as_bytes());
        out.extend_from_slice(&transaction);
    }
    out
}

thread_local! {
    /// One module, one thread, one machine.
    static BOUNDARY: RefCell<Boundary> = RefCell::default();
}

/// What the host calls. Only a WASM module has it: on other targets the names would stand in everybody's way.
#[cfg(target_family = "wasm")]
#[allow(unsafe_code)]
mod exports {
    use super::{BOUNDARY, Boundary};

    #[unsafe(no_mangle)]
    extern "C" fn input(length: usize) -> *mut u8 {
        BOUNDARY.with_borrow_mut(|boundary| boundary.input(length).as_mut_ptr())
    }

    #[unsafe(no_mangle)]
    extern "C" fn output_address() -> *const u8 {
        BOUNDARY.with_borrow(|boundary| boundary.output().as_ptr())
    }

    #[unsafe(no_mangle)]
    extern "C" fn output_length() -> usize {
        BOUNDARY.with_borrow(|boundary| boundary.output().len())
    }

    macro_rules! calls {
        ($($name:ident)*) => {$(
            #[unsafe(no_mangle)]
            extern "C" fn $name() -> u32 {
                u32::from(!BOUNDARY.with_borrow_mut(|boundary| boundary.call(Boundary::$name)))
            }
        )*};
    }

    calls! {
        configure apply plan replace reconcile_begin reconcile_listing reconcile next_transaction commit rollback render
        trace diagnostics status drain audit_begin audit_lines audit
    }
}
