//! The asking side: one connection or one packet, and what came of it.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::time::Duration;

use crate::icmp;
use crate::sctp;
use crate::server::without_ip_header;
use crate::socket::{self, IcmpError, Protocol};

/// Where a probe goes from and to. Port 0 lets the kernel choose.
#[derive(Clone)]
pub struct Target {
    pub netns: String,
    pub protocol: Protocol,
    pub source: Option<IpAddr>,
    pub source_port: u16,
    pub destination: SocketAddr,
}

/// What the answering socket told.
pub struct Answer {
    pub endpoint: SocketAddr,
    pub seen: SocketAddr,
    pub local: SocketAddr,
}

pub enum Outcome {
    Answered(Answer),
    Reset,
    Icmp(IcmpError),
    Silent,
    Closed,
    Error(String),
}

impl Outcome {
    /// After these the socket can say nothing more.
    pub fn ends_socket(&self) -> bool {
        matches!(self, Outcome::Reset | Outcome::Closed | Outcome::Error(_))
    }

    pub fn describe(&self, took: Duration) -> String {
        let micros = took.as_micros();
        match self {
            Outcome::Answered(Answer { endpoint, seen, local }) => format!(
                "answered {} {} {} {} {} {} {micros}",
                endpoint.ip(),
                endpoint.port(),
                seen.ip(),
                seen.port(),
                local.ip(),
                local.port()
            ),
            Outcome::Reset => format!("reset {micros}"),
            Outcome::Icmp(IcmpError { kind, code, from }) => {
                let from = from.map_or_else(|| "-".to_owned(), |ip| ip.to_string());
                format!("icmp {kind} {code} {from} {micros}")
            }
            Outcome::Silent => "silent".to_owned(),
            Outcome::Closed => "closed".to_owned(),
            Outcome::Error(words) => format!("error {words}"),
        }
    }
}

enum Stage {
    Connecting,
    Open,
}

/// One socket with one exchange under way.
pub struct Probe {
    fd: OwnedFd,
    protocol: Protocol,
    local: SocketAddr,
    peer: SocketAddr,
    stage: Stage,
    /// Marks the packets of the current exchange: datagram text, SCTP initiate tag, ICMP id.
    nonce: u32,
    line: Vec<u8>,
}

impl Probe {
    /// Opens the socket in the current namespace and sends the first packet.
    pub fn open(target: &Target, serial: u32) -> io::Result<Probe> {
        let v6 = target.destination.is_ipv6();
        let fd = socket::open(target.protocol, v6)?;
        let raw = matches!(target.protocol, Protocol::Sctp | Protocol::Icmp);
        // A raw socket has no ports; its own are in the packets that it builds.
        let source_port = if raw { 0 } else { target.source_port };
        if target.source.is_some() || source_port != 0 {
            let any: IpAddr = if v6 { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
            if source_port != 0 {
                socket::reuse_address(&fd)?;
            }
            socket::bind(&fd, SocketAddr::new(target.source.unwrap_or(any), source_port))?;
        }
        let is_tcp = target.protocol == Protocol::Tcp;
        if is_tcp {
            socket::reset_on_close(&fd)?;
        }
        let destination = if raw { SocketAddr::new(target.destination.ip(), 0) } else { target.destination };
        socket::connect(&fd, destination)?;
        let mut local = socket::local_address(&fd)?;
        if raw {
            let chosen = 32_768 + (serial % 28_000) as u16;
            local.set_port(if target.source_port == 0 { chosen } else { target.source_port });
        }
        let mut probe = Probe {
            fd,
            protocol: target.protocol,
            local,
            peer: target.destination,
            stage: if is_tcp { Stage::Connecting } else { Stage::Open },
            nonce: serial.wrapping_mul(0x9e37_79b1) | 1,
            line: Vec::new(),
        };
        if !is_tcp {
            probe.send()?;
        }
        Ok(probe)
    }

    pub fn fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }

    pub fn is_connecting(&self) -> bool {
        matches!(self.stage, Stage::Connecting)
    }

    /// One more exchange on the same socket, marked anew so that late answers to earlier ones do not count.
    pub fn say(&mut self) -> io::Result<()> {
        self.nonce = self.nonce.wrapping_add(2);
        self.send()
    }

    fn send(&mut self) -> io::Result<()> {
        let bytes = match self.protocol {
            Protocol::Tcp => b"?".to_vec(),
            Protocol::Udp => self.nonce.to_string().into_bytes(),
            Protocol::Sctp => sctp::Packet {
                source_port: self.local.port(),
                destination_port: self.peer.port(),
                verification_tag: 0,
                initiate_tag: self.nonce,
                is_ack: false,
                report: Vec::new(),
            }
            .encode(),
            Protocol::Icmp => icmp::echo_request(self.peer.is_ipv6(), self.local.port()),
        };
        match socket::send(&self.fd, &bytes) {
            // A packet dropped or rejected in the output hook; what the sender learns is what arrives later, if anything.
            Err(error) if error.raw_os_error() == Some(libc::EPERM) => Ok(()),
            // The ICMP error of an earlier packet; it waits in the error queue and is read there.
            Err(error)
                if self.protocol != Protocol::Tcp && error.raw_os_error() == Some(libc::ECONNREFUSED) =>
            {
                Ok(())
            }
            done => done,
        }
    }

    /// Reads what has arrived. `Some` ends the exchange.
    pub fn advance(&mut self, failed: bool) -> Option<Outcome> {
        if failed {
            if let Some(icmp) = self.queued_icmp() {
                return Some(Outcome::Icmp(icmp));
            }
        }
        match self.protocol {
            Protocol::Tcp => self.advance_stream(),
            Protocol::Udp | Protocol::Sctp | Protocol::Icmp => self.advance_packets(),
        }
    }

    fn queued_icmp(&self) -> Option<IcmpError> {
        while let Ok(message) = socket::receive(&self.fd, true) {
            let is_mine = match self.protocol {
                Protocol::Tcp | Protocol::Udp => true,
                // Raw sockets hear of every packet to their peer; the quoted source port, or id, tells whose it was.
                Protocol::Sctp => message.bytes.get(..2) == Some(&self.local.port().to_be_bytes()),
                Protocol::Icmp => icmp::identifies(self.local.port(), &message.bytes),
            };
            if let (Some(icmp), true) = (message.icmp, is_mine) {
                return Some(icmp);
            }
        }
        None
    }

    fn advance_stream(&mut self) -> Option<Outcome> {
        if self.is_connecting() {
            let stream = match self.fd.try_clone() {
                Ok(fd) => std::net::TcpStream::from(fd),
                Err(error) => return Some(Outcome::Error(error.to_string())),
            };
            match stream.take_error() {
                Ok(None) => {}
                Ok(Some(error)) | Err(error) => return Some(stream_failure(&error)),
            }
            if stream.peer_addr().is_err() {
                return None;
            }
            self.stage = Stage::Open;
        }
        match socket::receive(&self.fd, false) {
            Ok(message) if message.bytes.is_empty() => Some(Outcome::Closed),
            Ok(message) => {
                self.line.extend(message.bytes);
                let end = self.line.iter().position(|byte| *byte == b'\n')?;
                let outcome = self.read_report(&self.line[..end]);
                self.line.drain(..=end);
                Some(outcome)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            Err(error) => Some(stream_failure(&error)),
        }
    }

    fn advance_packets(&mut self) -> Option<Outcome> {
        loop {
            match socket::receive(&self.fd, false) {
                Ok(message) => {
                    if let Some(outcome) = self.read_packet(&message.bytes) {
                        return Some(outcome);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
                // The error itself is in the queue, with the packet that it answers.
                Err(_) => {
                    if let Some(icmp) = self.queued_icmp() {
                        return Some(Outcome::Icmp(icmp));
                    }
                }
            }
        }
    }

    fn read_packet(&self, bytes: &[u8]) -> Option<Outcome> {
        match self.protocol {
            Protocol::Udp => {
                let mark = format!("{} ", self.nonce);
                bytes.strip_prefix(mark.as_bytes()).map(|report| self.read_report(report))
            }
            Protocol::Sctp => {
                let packet = sctp::Packet::decode(without_ip_header(bytes, self.peer.ip()))?;
                let is_mine = packet.is_ack
                    && packet.verification_tag == self.nonce
                    && packet.source_port == self.peer.port()
                    && packet.destination_port == self.local.port();
                is_mine.then(|| self.read_report(&packet.report))
            }
            Protocol::Icmp => {
                let message = without_ip_header(bytes, self.peer.ip());
                let answer = Answer { endpoint: self.peer, seen: self.local, local: self.local };
                icmp::is_reply(self.peer.is_ipv6(), self.local.port(), message)
                    .then_some(Outcome::Answered(answer))
            }
            Protocol::Tcp => None,
        }
    }

    fn read_report(&self, bytes: &[u8]) -> Outcome {
        let text = String::from_utf8_lossy(bytes);
        let words: Vec<&str> = text.split_whitespace().collect();
        let read = |ip: &str, port: &str| Some(SocketAddr::new(ip.parse().ok()?, port.parse().ok()?));
        if let [endpoint, port, seen, seen_port] = words.as_slice() {
            if let (Some(endpoint), Some(seen)) = (read(endpoint, port), read(seen, seen_port)) {
                return Outcome::Answered(Answer { endpoint, seen, local: self.local });
            }
        }
        Outcome::Error(format!("an answer that no server here gives: {text:?}"))
    }
}

fn stream_failure(error: &io::Error) -> Outcome {
    match error.raw_os_error() {
        Some(libc::ECONNREFUSED) | Some(libc::ECONNRESET) => Outcome::Reset,
        _ => Outcome::Error(error.to_string()),
    }
}
