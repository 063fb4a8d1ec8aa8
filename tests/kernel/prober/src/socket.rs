//! Sockets in other network namespaces: the few system calls that the standard library does not offer.
//!
//! All `unsafe` of this tool lives here. A socket belongs for ever to the namespace that its thread was in when it was
//! opened, so one thread that moves between namespaces can hold sockets in all of them.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::mem;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

/// What travels in the packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    Tcp,
    Udp,
    Sctp,
    Icmp,
}

impl Protocol {
    pub fn parse(word: &str) -> Option<Protocol> {
        match word {
            "tcp" => Some(Protocol::Tcp),
            "udp" => Some(Protocol::Udp),
            "sctp" => Some(Protocol::Sctp),
            "icmp" => Some(Protocol::Icmp),
            _ => None,
        }
    }
}

/// An ICMP error that the kernel queued on a socket.
#[derive(Clone, Copy, Debug)]
pub struct IcmpError {
    pub kind: u8,
    pub code: u8,
    pub from: Option<IpAddr>,
}

/// One received message.
pub struct Message {
    pub bytes: Vec<u8>,
    pub from: Option<SocketAddr>,
    /// The address that the packet was sent to, as it looked on arrival.
    pub to: Option<IpAddr>,
    pub icmp: Option<IcmpError>,
}

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

/// Named network namespaces (`ip netns add NAME`), opened once.
#[derive(Default)]
pub struct Namespaces {
    open: HashMap<String, File>,
    current: Option<String>,
}

impl Namespaces {
    /// Moves this thread into the namespace; sockets opened afterwards live there.
    pub fn enter(&mut self, name: &str) -> io::Result<()> {
        if self.current.as_deref() == Some(name) {
            return Ok(());
        }
        if !self.open.contains_key(name) {
            self.open.insert(name.to_owned(), File::open(format!("/run/netns/{name}"))?);
        }
        let fd = self.open[name].as_raw_fd();
        // SAFETY: the descriptor is open, and setns reads nothing else.
        check(unsafe { libc::setns(fd, libc::CLONE_NEWNET) })?;
        self.current = Some(name.to_owned());
        Ok(())
    }
}

fn set_option<T>(fd: &OwnedFd, level: libc::c_int, name: libc::c_int, value: T) -> io::Result<()> {
    // SAFETY: the pointer and the length describe `value`, which lives until the call returns.
    let result = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            level,
            name,
            (&raw const value).cast(),
            mem::size_of::<T>() as libc::socklen_t,
        )
    };
    check(result).map(drop)
}

/// Opens a non-blocking socket that queues ICMP errors and tells each packet's destination.
pub fn open(protocol: Protocol, v6: bool) -> io::Result<OwnedFd> {
    let family = if v6 { libc::AF_INET6 } else { libc::AF_INET };
    let (kind, number) = match (protocol, v6) {
        (Protocol::Tcp, _) => (libc::SOCK_STREAM, 0),
        (Protocol::Udp, _) => (libc::SOCK_DGRAM, 0),
        (Protocol::Sctp, _) => (libc::SOCK_RAW, libc::IPPROTO_SCTP),
        (Protocol::Icmp, false) => (libc::SOCK_RAW, libc::IPPROTO_ICMP),
        (Protocol::Icmp, true) => (libc::SOCK_RAW, libc::IPPROTO_ICMPV6),
    };
    // SAFETY: plain integers; the result is checked before it becomes an owned descriptor.
    let fd = check(unsafe { libc::socket(family, kind | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC, number) })?;
    // SAFETY: a fresh descriptor that nobody else owns.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    if v6 {
        if kind != libc::SOCK_RAW {
            set_option(&fd, libc::IPPROTO_IPV6, libc::IPV6_V6ONLY, 1i32)?;
        }
        set_option(&fd, libc::IPPROTO_IPV6, libc::IPV6_RECVERR, 1i32)?;
        set_option(&fd, libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO, 1i32)?;
    } else {
        set_option(&fd, libc::IPPROTO_IP, libc::IP_RECVERR, 1i32)?;
        set_option(&fd, libc::IPPROTO_IP, libc::IP_PKTINFO, 1i32)?;
    }
    Ok(fd)
}

/// Lets a listener take over an address whose old connections linger.
pub fn reuse_address(fd: &OwnedFd) -> io::Result<()> {
    set_option(fd, libc::SOL_SOCKET, libc::SO_REUSEADDR, 1i32)
}

/// Room for many raw packets: every raw socket of a namespace gets a copy of each.
pub fn widen_buffer(fd: &OwnedFd) -> io::Result<()> {
    set_option(fd, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, 4i32 << 20)
}

/// Closing sends RST and leaves no TIME_WAIT, so that tens of thousands of probes do not exhaust the ports.
pub fn reset_on_close(fd: &OwnedFd) -> io::Result<()> {
    set_option(fd, libc::SOL_SOCKET, libc::SO_LINGER, libc::linger { l_onoff: 1, l_linger: 0 })
}

union Address {
    any: libc::sockaddr_storage,
    v4: libc::sockaddr_in,
    v6: libc::sockaddr_in6,
}

fn to_address(address: SocketAddr) -> (Address, libc::socklen_t) {
    // SAFETY: all-zero bytes are a valid value of each of these plain structures.
    let mut storage: Address = unsafe { mem::zeroed() };
    match address {
        SocketAddr::V4(v4) => {
            storage.v4 = libc::sockaddr_in {
                sin_family: libc::AF_INET as libc::sa_family_t,
                sin_port: v4.port().to_be(),
                sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(v4.ip().octets()) },
                sin_zero: [0; 8],
            };
            (storage, mem::size_of::<libc::sockaddr_in>() as libc::socklen_t)
        }
        SocketAddr::V6(v6) => {
            storage.v6 = libc::sockaddr_in6 {
                sin6_family: libc::AF_INET6 as libc::sa_family_t,
                sin6_port: v6.port().to_be(),
                sin6_flowinfo: 0,
                sin6_addr: libc::in6_addr { s6_addr: v6.ip().octets() },
                sin6_scope_id: v6.scope_id(),
            };
            (storage, mem::size_of::<libc::sockaddr_in6>() as libc::socklen_t)
        }
    }
}

fn from_address(storage: &Address) -> Option<SocketAddr> {
    // SAFETY: the family says which variant the kernel filled in; every bit pattern of each is valid.
    unsafe {
        match i32::from(storage.any.ss_family) {
            libc::AF_INET => Some(SocketAddr::V4(SocketAddrV4::new(
                Ipv4Addr::from(storage.v4.sin_addr.s_addr.to_ne_bytes()),
                u16::from_be(storage.v4.sin_port),
            ))),
            libc::AF_INET6 => Some(SocketAddr::V6(SocketAddrV6::new(
                Ipv6Addr::from(storage.v6.sin6_addr.s6_addr),
                u16::from_be(storage.v6.sin6_port),
                0,
                storage.v6.sin6_scope_id,
            ))),
            _ => None,
        }
    }
}

pub fn bind(fd: &OwnedFd, address: SocketAddr) -> io::Result<()> {
    let (storage, length) = to_address(address);
    // SAFETY: `storage` is a socket address of `length` bytes.
    check(unsafe { libc::bind(fd.as_raw_fd(), (&raw const storage).cast(), length) }).map(drop)
}

/// Starts a connection; "in progress" is success.
pub fn connect(fd: &OwnedFd, address: SocketAddr) -> io::Result<()> {
    let (storage, length) = to_address(address);
    // SAFETY: as in `bind`.
    match check(unsafe { libc::connect(fd.as_raw_fd(), (&raw const storage).cast(), length) }) {
        Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error),
        _ => Ok(()),
    }
}

pub fn listen(fd: &OwnedFd) -> io::Result<()> {
    // SAFETY: plain integers.
    check(unsafe { libc::listen(fd.as_raw_fd(), 4096) }).map(drop)
}

pub fn local_address(fd: &OwnedFd) -> io::Result<SocketAddr> {
    // SAFETY: zeroed storage is valid, and the kernel writes at most `length` bytes into it.
    let (storage, result) = unsafe {
        let mut storage: Address = mem::zeroed();
        let mut length = mem::size_of::<Address>() as libc::socklen_t;
        let result = libc::getsockname(fd.as_raw_fd(), (&raw mut storage).cast(), &raw mut length);
        (storage, result)
    };
    check(result)?;
    from_address(&storage).ok_or_else(|| io::Error::other("unknown address family"))
}

/// A connected socket sends to its peer.
pub fn send(fd: &OwnedFd, bytes: &[u8]) -> io::Result<()> {
    // SAFETY: pointer and length describe `bytes`.
    let sent = unsafe { libc::send(fd.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), libc::MSG_NOSIGNAL) };
    if sent < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

#[repr(align(8))]
struct Control([u8; 256]);

/// Sends from a given local address: the answer of a wildcard server must come from where the question went to.
pub fn send_from(fd: &OwnedFd, bytes: &[u8], from: IpAddr, to: SocketAddr) -> io::Result<()> {
    let (mut storage, length) = to_address(to);
    let mut control = Control([0; 256]);
    let mut part = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    // SAFETY: the header's pointers outlive the call; the control buffer is aligned and larger than either message.
    unsafe {
        let mut header: libc::msghdr = mem::zeroed();
        header.msg_name = (&raw mut storage).cast();
        header.msg_namelen = length;
        header.msg_iov = &raw mut part;
        header.msg_iovlen = 1;
        header.msg_control = control.0.as_mut_ptr().cast();
        header.msg_controllen = control.0.len();
        let first = libc::CMSG_FIRSTHDR(&raw const header);
        match from {
            IpAddr::V4(v4) => {
                let size = mem::size_of::<libc::in_pktinfo>() as u32;
                (*first).cmsg_level = libc::IPPROTO_IP;
                (*first).cmsg_type = libc::IP_PKTINFO;
                (*first).cmsg_len = libc::CMSG_LEN(size) as usize;
                let info = libc::CMSG_DATA(first).cast::<libc::in_pktinfo>();
                (*info).ipi_spec_dst.s_addr = u32::from_ne_bytes(v4.octets());
                header.msg_controllen = libc::CMSG_SPACE(size) as usize;
            }
            IpAddr::V6(v6) => {
                let size = mem::size_of::<libc::in6_pktinfo>() as u32;
                (*first).cmsg_level = libc::IPPROTO_IPV6;
                (*first).cmsg_type = libc::IPV6_PKTINFO;
                (*first).cmsg_len = libc::CMSG_LEN(size) as usize;
                let info = libc::CMSG_DATA(first).cast::<libc::in6_pktinfo>();
                (*info).ipi6_addr.s6_addr = v6.octets();
                header.msg_controllen = libc::CMSG_SPACE(size) as usize;
            }
        }
        if libc::sendmsg(fd.as_raw_fd(), &raw const header, libc::MSG_NOSIGNAL) < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// Receives one message, or one queued ICMP error when `errors` is set. `WouldBlock` when there is none.
pub fn receive(fd: &OwnedFd, errors: bool) -> io::Result<Message> {
    let mut bytes = vec![0u8; 2048];
    let mut control = Control([0; 256]);
    let mut part = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
    let flags = if errors { libc::MSG_ERRQUEUE } else { 0 };
    let mut to = None;
    let mut icmp = None;
    // SAFETY: the header's pointers outlive the call; the kernel keeps to the lengths given, and each control message
    // is read as the structure that its level and type promise, unaligned.
    let from = unsafe {
        let mut storage: Address = mem::zeroed();
        let mut header: libc::msghdr = mem::zeroed();
        header.msg_name = (&raw mut storage).cast();
        header.msg_namelen = mem::size_of::<Address>() as libc::socklen_t;
        header.msg_iov = &raw mut part;
        header.msg_iovlen = 1;
        header.msg_control = control.0.as_mut_ptr().cast();
        header.msg_controllen = control.0.len();
        let received = libc::recvmsg(fd.as_raw_fd(), &raw mut header, flags);
        if received < 0 {
            return Err(io::Error::last_os_error());
        }
        bytes.truncate(received as usize);
        let mut next = libc::CMSG_FIRSTHDR(&raw const header);
        while !next.is_null() {
            let data = libc::CMSG_DATA(next);
            match ((*next).cmsg_level, (*next).cmsg_type) {
                (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                    let info = data.cast::<libc::in_pktinfo>().read_unaligned();
                    to = Some(IpAddr::V4(Ipv4Addr::from(info.ipi_addr.s_addr.to_ne_bytes())));
                }
                (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                    let info = data.cast::<libc::in6_pktinfo>().read_unaligned();
                    to = Some(IpAddr::V6(Ipv6Addr::from(info.ipi6_addr.s6_addr)));
                }
                (libc::IPPROTO_IP, libc::IP_RECVERR) | (libc::IPPROTO_IPV6, libc::IPV6_RECVERR) => {
                    icmp = read_icmp(data);
                }
                _ => {}
            }
            next = libc::CMSG_NXTHDR(&raw const header, next);
        }
        from_address(&storage)
    };
    Ok(Message { bytes, from, to, icmp })
}

/// SAFETY: `data` is the payload of an IP_RECVERR or IPV6_RECVERR control message: the error, then its sender.
unsafe fn read_icmp(data: *mut u8) -> Option<IcmpError> {
    let error = data.cast::<libc::sock_extended_err>().read_unaligned();
    if error.ee_origin != libc::SO_EE_ORIGIN_ICMP && error.ee_origin != libc::SO_EE_ORIGIN_ICMP6 {
        return None;
    }
    let mut offender: Address = mem::zeroed();
    let size = mem::size_of::<libc::sockaddr_in6>();
    let sender = data.add(mem::size_of::<libc::sock_extended_err>());
    std::ptr::copy_nonoverlapping(sender, (&raw mut offender).cast(), size);
    Some(IcmpError {
        kind: error.ee_type,
        code: error.ee_code,
        from: from_address(&offender).map(|a| a.ip()),
    })
}

/// Waits for readiness of many sockets.
pub struct Poll(OwnedFd);

/// What a socket is ready for, with the token it was added under.
#[derive(Clone, Copy)]
pub struct Ready {
    pub token: u64,
    pub failed: bool,
}

impl Poll {
    pub fn new() -> io::Result<Poll> {
        // SAFETY: plain integers; the descriptor is fresh.
        let fd = check(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
        Ok(Poll(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Level-triggered readability; with `writable`, also the end of a connect, once.
    pub fn add(&self, fd: RawFd, token: u64, writable: bool) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, fd, token, writable)
    }

    pub fn change(&self, fd: RawFd, token: u64, writable: bool) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_MOD, fd, token, writable)
    }

    fn control(&self, action: libc::c_int, fd: RawFd, token: u64, writable: bool) -> io::Result<()> {
        let events = libc::EPOLLIN | if writable { libc::EPOLLOUT } else { 0 };
        let mut event = libc::epoll_event { events: events as u32, u64: token };
        // SAFETY: `event` lives until the call returns.
        check(unsafe { libc::epoll_ctl(self.0.as_raw_fd(), action, fd, &raw mut event) }).map(drop)
    }

    /// Fills `ready`; `timeout` in milliseconds, negative for ever.
    pub fn wait(&self, ready: &mut Vec<Ready>, timeout: i32) -> io::Result<()> {
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; 256];
        // SAFETY: pointer and length describe `events`.
        let count = unsafe {
            libc::epoll_wait(self.0.as_raw_fd(), events.as_mut_ptr(), events.len() as libc::c_int, timeout)
        };
        ready.clear();
        match check(count) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            Err(error) => Err(error),
            Ok(count) => {
                ready.extend(events[..count as usize].iter().map(|event| Ready {
                    token: event.u64,
                    failed: event.events & (libc::EPOLLERR | libc::EPOLLHUP) as u32 != 0,
                }));
                Ok(())
            }
        }
    }
}
