//! The answering side: whoever reaches a server is told how he was seen.
//!
//! A report is `ENDPOINT PORT SEEN SEEN_PORT`: the address that the packet was sent to as it looked on arrival, and the
//! source that it came with.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use crate::sctp;
use crate::socket::{self, Protocol};

/// One listening or accepted socket.
pub enum Server {
    TcpListener(OwnedFd),
    TcpConnection(OwnedFd),
    Udp {
        fd: OwnedFd,
        port: u16,
    },
    /// A raw socket sees every SCTP packet for its namespace, so it answers on every port.
    Sctp(OwnedFd),
}

impl Server {
    pub fn open(protocol: Protocol, address: SocketAddr) -> io::Result<Server> {
        let fd = socket::open(protocol, address.is_ipv6())?;
        match protocol {
            Protocol::Tcp => {
                socket::reuse_address(&fd)?;
                socket::bind(&fd, address)?;
                socket::listen(&fd)?;
                Ok(Server::TcpListener(fd))
            }
            Protocol::Udp => {
                socket::bind(&fd, address)?;
                socket::widen_buffer(&fd)?;
                Ok(Server::Udp { fd, port: address.port() })
            }
            Protocol::Sctp => {
                socket::widen_buffer(&fd)?;
                Ok(Server::Sctp(fd))
            }
            Protocol::Icmp => Err(io::Error::other("the kernel itself answers ICMP echo")),
        }
    }

    pub fn fd(&self) -> RawFd {
        match self {
            Server::TcpListener(fd)
            | Server::TcpConnection(fd)
            | Server::Udp { fd, .. }
            | Server::Sctp(fd) => fd.as_raw_fd(),
        }
    }

    /// Answers everything that waits. Returns newly accepted connections; an error means that this socket is over.
    pub fn serve(&mut self) -> io::Result<Vec<Server>> {
        match self {
            Server::TcpListener(fd) => accept_all(fd),
            Server::TcpConnection(fd) => {
                if socket::receive(fd, false)?.bytes.is_empty() {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                greet(fd)?;
                Ok(Vec::new())
            }
            Server::Udp { fd, port } => {
                answer_datagrams(fd, *port);
                Ok(Vec::new())
            }
            Server::Sctp(fd) => {
                answer_inits(fd);
                Ok(Vec::new())
            }
        }
    }
}

fn accept_all(fd: &OwnedFd) -> io::Result<Vec<Server>> {
    let listener = std::net::TcpListener::from(fd.try_clone()?);
    let mut accepted = Vec::new();
    while let Ok((stream, _)) = listener.accept() {
        if stream.set_nonblocking(true).is_ok() {
            let connection = OwnedFd::from(stream);
            // A client that left before the greeting is no fault of the listener.
            if greet(&connection).is_ok() {
                accepted.push(Server::TcpConnection(connection));
            }
        }
    }
    Ok(accepted)
}

fn greet(fd: &OwnedFd) -> io::Result<()> {
    let stream = std::net::TcpStream::from(fd.try_clone()?);
    let mut line = report(stream.local_addr()?, stream.peer_addr()?);
    line.push('\n');
    socket::send(fd, line.as_bytes())
}

fn answer_datagrams(fd: &OwnedFd, port: u16) {
    loop {
        match socket::receive(fd, false) {
            Ok(message) => {
                if let (Some(from), Some(to)) = (message.from, message.to) {
                    let mut answer = message.bytes;
                    answer.push(b' ');
                    answer.extend(report(SocketAddr::new(to, port), from).as_bytes());
                    // A client that is gone shows as an ICMP error on the next call; the server stays.
                    let _ = socket::send_from(fd, &answer, to, from);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                while socket::receive(fd, true).is_ok() {}
                return;
            }
            Err(_) => while socket::receive(fd, true).is_ok() {},
        }
    }
}

fn answer_inits(fd: &OwnedFd) {
    loop {
        match socket::receive(fd, false) {
            Ok(message) => {
                let (Some(from), Some(to)) = (message.from, message.to) else { continue };
                let Some(init) = sctp::Packet::decode(without_ip_header(&message.bytes, to)) else {
                    continue;
                };
                if init.is_ack {
                    continue;
                }
                let endpoint = SocketAddr::new(to, init.destination_port);
                let seen = SocketAddr::new(from.ip(), init.source_port);
                let answer = sctp::Packet {
                    source_port: init.destination_port,
                    destination_port: init.source_port,
                    verification_tag: init.initiate_tag,
                    initiate_tag: init.initiate_tag ^ 0x5555_5555,
                    is_ack: true,
                    report: report(endpoint, seen).into_bytes(),
                };
                // For a raw socket the port of a destination is the protocol's number, or 0.
                let _ = socket::send_from(fd, &answer.encode(), to, SocketAddr::new(from.ip(), 0));
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                while socket::receive(fd, true).is_ok() {}
                return;
            }
            Err(_) => while socket::receive(fd, true).is_ok() {},
        }
    }
}

fn report(endpoint: SocketAddr, seen: SocketAddr) -> String {
    format!("{} {} {} {}", endpoint.ip(), endpoint.port(), seen.ip(), seen.port())
}

/// Raw IPv4 sockets deliver the IP header, raw IPv6 sockets do not.
pub fn without_ip_header(bytes: &[u8], address: IpAddr) -> &[u8] {
    if address.is_ipv6() {
        return bytes;
    }
    let length = bytes.first().map_or(0, |first| usize::from(first & 0x0f) * 4);
    bytes.get(length..).unwrap_or_default()
}
