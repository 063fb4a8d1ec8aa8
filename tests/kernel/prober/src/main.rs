//! The packet end of the kernel tests: servers and clients in many network namespaces, driven by lines.
//!
//! In, one command a line:
//!
//! ```text
//! serve ID NETNS tcp|udp|sctp ADDRESS PORT
//! probe ID NETNS tcp|udp|sctp|icmp SOURCE|- SOURCE_PORT ADDRESS PORT TIMEOUT_MS [keep]
//! say ID TIMEOUT_MS                   one more exchange on a kept probe
//! close ID                            a kept probe, or a server
//! load ID NETNS tcp|udp|sctp SOURCE|- ADDRESS PORT CONCURRENCY PAUSE_MS COUNT TIMEOUT_MS     COUNT 0: until `stop ID`
//! stop ID
//! ```
//!
//! Out, one outcome a line, `ID` first:
//!
//! ```text
//! ID ready
//! ID answered ENDPOINT PORT SEEN SEEN_PORT LOCAL LOCAL_PORT MICROS     what the answering socket was reached as and saw
//! ID reset MICROS                     TCP RST
//! ID icmp TYPE CODE FROM MICROS       an ICMP error that quotes the probe
//! ID silent                           nothing until the time-out
//! ID closed                           a kept connection was closed by the other end
//! ID error WORDS
//! ID loaded ANSWERED REFUSED SILENT ERRORS MICROS ENDPOINT=COUNT...
//! ```
//!
//! Servers answer with the address they were reached at and the address that they saw, so the endpoint and any
//! masquerade are told by the one who knows. Rust and not Node.js because SCTP needs raw sockets where the kernel has no
//! SCTP, because one thread can hold sockets in every namespace, and because the benchmark's client must be faster than
//! what it measures.

mod icmp;
mod probe;
mod sctp;
mod server;
mod socket;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap};
use std::io::{self, BufWriter, Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use probe::{Outcome, Probe, Target};
use server::Server;
use socket::{Namespaces, Poll, Protocol, Ready};

const STDIN: u64 = u64::MAX;

enum Entry {
    Server(Server),
    Probe(Box<Running>),
}

/// A probe under way, or kept for more.
struct Running {
    probe: Probe,
    owner: Owner,
    started: Instant,
    /// Counts exchanges, so that the time-out of an earlier one is recognised as over.
    round: u32,
    waiting: bool,
    keep: bool,
}

#[derive(Clone)]
enum Owner {
    Command(String),
    Load(String),
}

/// The same probe again and again, by so many at a time, each of whom pauses between two.
struct Load {
    target: Target,
    timeout: Duration,
    pause: Duration,
    /// Probes still to start; `None` until stopped.
    remaining: Option<u64>,
    in_flight: u64,
    started: Instant,
    answered: u64,
    refused: u64,
    silent: u64,
    errors: u64,
    endpoints: BTreeMap<SocketAddr, u64>,
}

struct Slot {
    entry: Option<Entry>,
    /// Part of the token, so that an event for a closed socket never reaches the slot's next owner.
    generation: u32,
}

struct Prober {
    poll: Poll,
    namespaces: Namespaces,
    slots: Vec<Slot>,
    free: Vec<usize>,
    named: HashMap<String, u64>,
    loads: HashMap<String, Load>,
    /// When the next probe of a load is to start.
    to_start: BinaryHeap<Reverse<(Instant, String)>>,
    deadlines: BinaryHeap<Reverse<(Instant, u64, u32)>>,
    serial: u32,
    out: BufWriter<io::Stdout>,
}

fn main() -> io::Result<()> {
    let mut prober = Prober {
        poll: Poll::new()?,
        namespaces: Namespaces::default(),
        slots: Vec::new(),
        free: Vec::new(),
        named: HashMap::new(),
        loads: HashMap::new(),
        to_start: BinaryHeap::new(),
        deadlines: BinaryHeap::new(),
        serial: 0,
        out: BufWriter::new(io::stdout()),
    };
    prober.run()
}

impl Prober {
    fn run(&mut self) -> io::Result<()> {
        self.poll.add(io::stdin().as_raw_fd(), STDIN, false)?;
        let mut ready = Vec::new();
        let mut typed = Vec::new();
        loop {
            self.start_load_probes()?;
            self.out.flush()?;
            self.poll.wait(&mut ready, self.patience())?;
            for event in &ready {
                if event.token == STDIN {
                    let mut chunk = [0u8; 65_536];
                    let count = io::stdin().lock().read(&mut chunk)?;
                    if count == 0 {
                        return Ok(()); // The driver is gone, and with it every reason to stay.
                    }
                    typed.extend_from_slice(&chunk[..count]);
                    while let Some(end) = typed.iter().position(|byte| *byte == b'\n') {
                        let line = String::from_utf8_lossy(&typed[..end]).into_owned();
                        typed.drain(..=end);
                        self.command(&line)?;
                    }
                } else {
                    self.event(*event)?;
                }
            }
            self.expire()?;
        }
    }

    /// Milliseconds until the next deadline or the next probe of a load; negative for none.
    fn patience(&self) -> i32 {
        let now = Instant::now();
        let wait = |at: Instant| match at.saturating_duration_since(now) {
            Duration::ZERO => 0,
            left => left.as_millis() as i32 + 1,
        };
        let deadline = self.deadlines.peek().map(|Reverse((at, _, _))| wait(*at));
        let start = self.to_start.peek().map(|Reverse((at, _))| wait(*at));
        deadline.into_iter().chain(start).min().unwrap_or(-1)
    }

    fn command(&mut self, line: &str) -> io::Result<()> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let id = words.get(1).copied().unwrap_or("-");
        let done = match words.as_slice() {
            ["serve", id, rest @ ..] => self.serve(id, rest),
            ["probe", id, rest @ ..] => self.probe(id, rest),
            ["say", id, timeout] => self.say(id, timeout),
            ["close", id] => {
                if let Some(token) = self.named.remove(*id) {
                    self.remove(token);
                }
                Ok(())
            }
            ["load", id, rest @ ..] => self.load(id, rest),
            ["stop", id] => self.stop(id),
            _ => Err(io::Error::other(format!("unknown command {line:?}"))),
        };
        match done {
            Err(error) => writeln!(self.out, "{id} error {error}"),
            Ok(()) => Ok(()),
        }
    }

    fn serve(&mut self, id: &str, words: &[&str]) -> io::Result<()> {
        let [netns, protocol, address, port] = words else { return Err(wrong("serve")) };
        self.namespaces.enter(netns)?;
        let server = Server::open(parse_protocol(protocol)?, parse_address(address, port)?)?;
        let fd = server.fd();
        let token = self.insert(Entry::Server(server));
        self.poll.add(fd, token, false)?;
        self.named.insert(id.to_owned(), token);
        writeln!(self.out, "{id} ready")
    }

    fn probe(&mut self, id: &str, words: &[&str]) -> io::Result<()> {
        let (words, keep) = match words {
            [rest @ .., "keep"] => (rest, true),
            _ => (words, false),
        };
        let [netns, protocol, source, source_port, address, port, timeout] = words else {
            return Err(wrong("probe"));
        };
        let target = Target {
            netns: (*netns).to_owned(),
            protocol: parse_protocol(protocol)?,
            source: parse_source(source)?,
            source_port: parse(source_port)?,
            destination: parse_address(address, port)?,
        };
        self.start(&target, Owner::Command(id.to_owned()), Duration::from_millis(parse(timeout)?), keep)
    }

    /// Opens the socket and sends the first packet. What fails at once is an outcome like any other.
    fn start(&mut self, target: &Target, owner: Owner, timeout: Duration, keep: bool) -> io::Result<()> {
        self.serial = self.serial.wrapping_add(1);
        let started = Instant::now();
        let opened = self.namespaces.enter(&target.netns).and_then(|()| Probe::open(target, self.serial));
        let probe = match opened {
            Ok(probe) => probe,
            Err(error) => return self.report(&owner, &Outcome::Error(error.to_string()), started),
        };
        let (fd, writable) = (probe.fd(), probe.is_connecting());
        let name = if let (Owner::Command(id), true) = (&owner, keep) { Some(id.clone()) } else { None };
        let running = Running { probe, owner, started, round: 0, waiting: true, keep };
        let token = self.insert(Entry::Probe(Box::new(running)));
        self.poll.add(fd, token, writable)?;
        if let Some(name) = name {
            self.named.insert(name, token);
        }
        self.deadlines.push(Reverse((started + timeout, token, 0)));
        Ok(())
    }

    fn say(&mut self, id: &str, timeout: &str) -> io::Result<()> {
        let timeout = Duration::from_millis(parse(timeout)?);
        let Some(&token) = self.named.get(id) else { return writeln!(self.out, "{id} closed") };
        let Some(Entry::Probe(running)) = self.entry(token) else { return Err(wrong("say")) };
        let started = Instant::now();
        running.round += 1;
        running.started = started;
        running.waiting = true;
        let round = running.round;
        match running.probe.say() {
            Ok(()) => self.deadlines.push(Reverse((started + timeout, token, round))),
            Err(error) => self.finish(token, &Outcome::Error(error.to_string()))?,
        }
        Ok(())
    }

    fn load(&mut self, id: &str, words: &[&str]) -> io::Result<()> {
        let [netns, protocol, source, address, port, concurrency, pause, count, timeout] = words else {
            return Err(wrong("load"));
        };
        let concurrency: u64 = parse(concurrency)?;
        let count: u64 = parse(count)?;
        let load = Load {
            target: Target {
                netns: (*netns).to_owned(),
                protocol: parse_protocol(protocol)?,
                source: parse_source(source)?,
                source_port: 0,
                destination: parse_address(address, port)?,
            },
            timeout: Duration::from_millis(parse(timeout)?),
            pause: Duration::from_millis(parse(pause)?),
            remaining: (count > 0).then_some(count),
            in_flight: 0,
            started: Instant::now(),
            answered: 0,
            refused: 0,
            silent: 0,
            errors: 0,
            endpoints: BTreeMap::new(),
        };
        self.loads.insert(id.to_owned(), load);
        for _ in 0..concurrency {
            self.to_start.push(Reverse((Instant::now(), id.to_owned())));
        }
        Ok(())
    }

    fn stop(&mut self, id: &str) -> io::Result<()> {
        if let Some(load) = self.loads.get_mut(id) {
            load.remaining = Some(0);
        }
        self.end_load_if_over(id)
    }

    fn start_load_probes(&mut self) -> io::Result<()> {
        // Only what is due now: a probe that fails at once queues the next one, and events must not starve.
        let now = Instant::now();
        while self.to_start.peek().is_some_and(|Reverse((at, _))| *at <= now) {
            let Some(Reverse((_, id))) = self.to_start.pop() else { break };
            let Some(load) = self.loads.get_mut(&id) else { continue };
            match &mut load.remaining {
                Some(0) => {
                    self.end_load_if_over(&id)?;
                    continue;
                }
                Some(count) => *count -= 1,
                None => {}
            }
            load.in_flight += 1;
            let (target, timeout) = (load.target.clone(), load.timeout);
            self.start(&target, Owner::Load(id), timeout, false)?;
        }
        Ok(())
    }

    fn end_load_if_over(&mut self, id: &str) -> io::Result<()> {
        match self.loads.get(id) {
            Some(load) if load.remaining == Some(0) && load.in_flight == 0 => {}
            _ => return Ok(()),
        }
        let Some(load) = self.loads.remove(id) else { return Ok(()) };
        let micros = load.started.elapsed().as_micros();
        let Load { answered, refused, silent, errors, .. } = load;
        write!(self.out, "{id} loaded {answered} {refused} {silent} {errors} {micros}")?;
        for (endpoint, count) in load.endpoints {
            write!(self.out, " {endpoint}={count}")?;
        }
        writeln!(self.out)
    }

    fn event(&mut self, event: Ready) -> io::Result<()> {
        enum Next {
            Nothing,
            Close,
            Accepted(Vec<Server>),
            Connected(i32),
            Finished(Outcome),
        }
        let next = match self.entry(event.token) {
            None => Next::Nothing,
            Some(Entry::Server(server)) => match server.serve() {
                Ok(accepted) if accepted.is_empty() => Next::Nothing,
                Ok(accepted) => Next::Accepted(accepted),
                Err(_) => Next::Close,
            },
            Some(Entry::Probe(running)) => {
                let was_connecting = running.probe.is_connecting();
                match running.probe.advance(event.failed) {
                    Some(outcome) => Next::Finished(outcome),
                    None if was_connecting && !running.probe.is_connecting() => {
                        Next::Connected(running.probe.fd())
                    }
                    None => Next::Nothing,
                }
            }
        };
        match next {
            Next::Nothing => {}
            Next::Close => self.remove(event.token),
            Next::Accepted(servers) => {
                for server in servers {
                    let fd = server.fd();
                    let token = self.insert(Entry::Server(server));
                    self.poll.add(fd, token, false)?;
                }
            }
            Next::Connected(fd) => self.poll.change(fd, event.token, false)?,
            Next::Finished(outcome) => self.finish(event.token, &outcome)?,
        }
        Ok(())
    }

    fn expire(&mut self) -> io::Result<()> {
        let now = Instant::now();
        while let Some(Reverse((at, token, round))) = self.deadlines.peek().copied() {
            if at > now {
                break;
            }
            self.deadlines.pop();
            if matches!(self.entry(token), Some(Entry::Probe(running)) if running.waiting && running.round == round)
            {
                self.finish(token, &Outcome::Silent)?;
            }
        }
        Ok(())
    }

    /// Tells the outcome of an exchange, and closes the socket unless it is kept.
    fn finish(&mut self, token: u64, outcome: &Outcome) -> io::Result<()> {
        let Some(Entry::Probe(running)) = self.entry(token) else { return Ok(()) };
        let was_waiting = std::mem::replace(&mut running.waiting, false);
        let keep = running.keep && !outcome.ends_socket();
        let (owner, started) = (running.owner.clone(), running.started);
        if !keep {
            self.remove(token);
            if let Owner::Command(id) = &owner {
                self.named.remove(id);
            }
        }
        if was_waiting {
            self.report(&owner, outcome, started)
        } else {
            Ok(())
        }
    }

    fn report(&mut self, owner: &Owner, outcome: &Outcome, started: Instant) -> io::Result<()> {
        match owner {
            Owner::Command(id) => writeln!(self.out, "{id} {}", outcome.describe(started.elapsed())),
            Owner::Load(id) => {
                let Some(load) = self.loads.get_mut(id) else { return Ok(()) };
                load.in_flight -= 1;
                match outcome {
                    Outcome::Answered(answer) => {
                        load.answered += 1;
                        *load.endpoints.entry(answer.endpoint).or_default() += 1;
                    }
                    Outcome::Reset | Outcome::Icmp(_) => load.refused += 1,
                    Outcome::Silent => load.silent += 1,
                    Outcome::Closed | Outcome::Error(_) => load.errors += 1,
                }
                if load.remaining == Some(0) {
                    return self.end_load_if_over(&id.clone());
                }
                self.to_start.push(Reverse((Instant::now() + load.pause, id.clone())));
                Ok(())
            }
        }
    }

    fn insert(&mut self, entry: Entry) -> u64 {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot { entry: None, generation: 0 });
            self.slots.len() - 1
        });
        let slot = &mut self.slots[index];
        slot.entry = Some(entry);
        u64::from(slot.generation) << 32 | index as u64
    }

    fn entry(&mut self, token: u64) -> Option<&mut Entry> {
        let slot = self.slots.get_mut(token as u32 as usize)?;
        if u64::from(slot.generation) != token >> 32 {
            return None;
        }
        slot.entry.as_mut()
    }

    /// Dropping the entry closes the socket, which takes it out of the poll.
    fn remove(&mut self, token: u64) {
        if self.entry(token).is_some() {
            let index = token as u32 as usize;
            self.slots[index].entry = None;
            self.slots[index].generation = self.slots[index].generation.wrapping_add(1) & 0x7fff_ffff;
            self.free.push(index);
        }
    }
}

fn wrong(command: &str) -> io::Error {
    io::Error::other(format!("wrong arguments for {command}"))
}

fn parse<T: std::str::FromStr>(word: &str) -> io::Result<T> {
    word.parse().map_err(|_| io::Error::other(format!("cannot read {word:?}")))
}

fn parse_protocol(word: &str) -> io::Result<Protocol> {
    Protocol::parse(word).ok_or_else(|| io::Error::other(format!("unknown protocol {word:?}")))
}

fn parse_address(address: &str, port: &str) -> io::Result<SocketAddr> {
    Ok(SocketAddr::new(parse(address)?, parse(port)?))
}

fn parse_source(word: &str) -> io::Result<Option<IpAddr>> {
    if word == "-" {
        Ok(None)
    } else {
        parse(word).map(Some)
    }
}
