//! The scratch register: how a packet carries what was found out about it from one rule to the next.
//!
//! nftables has no variables that outlive a rule. `meta priority` (the kernel's `skb->priority`) serves as one: 32 bits
//! that nothing reads before the packet reaches a queueing discipline. It is written only on the first packet of a
//! connection to a Service (nat chains see no other) and is cleared in postrouting, before any queue. The packet mark,
//! which does steer routing, is left alone but for one bit.
//!
//! | bits | meaning |
//! |---|---|
//! | 31 | set: the number is ours |
//! | 30–13 | number of the Service port, unique in the family |
//! | 12–1 | found in `service-ips` and `service-nodeports`: the path; found in `affinity`: number of the endpoint |
//! | 0 | the local set instead of the cluster set |

/// The register holds a number of ours.
pub const OURS: u32 = 0x8000_0000;
/// Ours and the number of the Service port.
pub const SERVICE_MASK: u32 = 0xffff_e000;
/// The path, or the number of the endpoint.
pub const DETAIL_MASK: u32 = 0x0000_1ffe;
/// The local set.
pub const LOCAL_SET: u32 = 0x1;
/// Path: from outside under policy Cluster.
pub const FROM_OUTSIDE: u32 = 0x2;
/// Path: from outside under policy Local.
pub const FROM_OUTSIDE_LOCAL: u32 = 0x4;
/// Path: only from the allowed source ranges.
pub const RESTRICTED: u32 = 0x8;
/// Path: through a node port.
pub const NODE_PORT: u32 = 0x10;

/// What connections are counted by: the Service port, and whether they came through a node port.
pub const COUNTED_MASK: u32 = SERVICE_MASK | NODE_PORT;

const SERVICE_SHIFT: u32 = 13;
/// Service ports that one family can have.
pub const MOST_SERVICE_PORTS: u32 = (1 << (31 - SERVICE_SHIFT)) - 1;
/// Endpoints that one Service port with session affinity can have.
pub const MOST_AFFINITY_ENDPOINTS: u16 = (1 << 12) - 1;

/// The cluster set of Service port `number`, which is 1 or more.
pub fn cluster_set(number: u32) -> u32 {
    OURS | (number << SERVICE_SHIFT)
}

/// The number of the Service port that a register's value belongs to, if it is ours.
pub fn service_number(value: u32) -> Option<u32> {
    (value & OURS != 0).then_some((value & !OURS) >> SERVICE_SHIFT)
}

/// Endpoint `number` (1 or more) of a cluster set; add [`LOCAL_SET`] for its place in the local set.
pub fn affinity_endpoint(cluster_set: u32, number: u16) -> u32 {
    cluster_set | (u32::from(number) << 1)
}

/// The number of the endpoint in a value of `affinity`.
pub fn endpoint_number(value: u32) -> u16 {
    ((value & DETAIL_MASK) >> 1) as u16
}

/// Gives out numbers from 1 and takes them back. One that has come back is given again as late as can be, since clients that
/// session affinity remembers under it outlive whoever had it: first those that nobody had, then in a circle.
#[derive(Clone, Debug, Default)]
pub struct NumberPool {
    given: u32,
    free: std::collections::BTreeSet<u32>,
    /// Of those that came back, given last.
    last: u32,
}

impl NumberPool {
    /// A number that nobody has, or `None` when all are given.
    pub fn take(&mut self) -> Option<u32> {
        if self.given < MOST_SERVICE_PORTS {
            self.given += 1;
            return Some(self.given);
        }
        let next = self.free.range(self.last + 1..).next().or_else(|| self.free.first()).copied()?;
        self.free.remove(&next);
        self.last = next;
        Some(next)
    }

    /// Up to this one they count as numbers that somebody had.
    pub fn had(&mut self, number: u32) {
        let number = number.min(MOST_SERVICE_PORTS);
        if number > self.given {
            self.free.extend(self.given + 1..=number);
            self.given = number;
        }
    }

    /// This very number, if nobody has it.
    pub fn take_this(&mut self, number: u32) -> bool {
        if number == 0 || number > MOST_SERVICE_PORTS {
            return false;
        }
        self.had(number);
        self.free.remove(&number)
    }

    /// Whether [`NumberPool::take`] would give one.
    pub fn has_room(&self) -> bool {
        self.given < MOST_SERVICE_PORTS || !self.free.is_empty()
    }

    /// Takes a number back.
    pub fn give_back(&mut self, number: u32) {
        self.free.insert(number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_given_once() {
        let mut pool = NumberPool::default();
        assert_eq!([pool.take(), pool.take()], [Some(1), Some(2)]);
        assert!(pool.take_this(5) && !pool.take_this(5) && !pool.take_this(1) && !pool.take_this(0));
        pool.give_back(2);
        assert_eq!([pool.take(), pool.take()], [Some(6), Some(7)], "nobody had these");
        pool.had(9);
        assert_eq!(pool.take(), Some(10));
        assert!(pool.take_this(MOST_SERVICE_PORTS) && !pool.take_this(MOST_SERVICE_PORTS + 1));
        assert_eq!([pool.take(), pool.take()], [Some(2), Some(3)]);
        pool.give_back(2);
        assert_eq!([pool.take(), pool.take()], [Some(4), Some(8)], "in a circle");
        assert!(pool.has_room());
        while pool.take().is_some() {}
        assert!(!pool.has_room());
        pool.give_back(7);
        assert!(pool.has_room());
    }

    #[test]
    fn parts_of_a_number_come_apart() {
        let set = cluster_set(MOST_SERVICE_PORTS);
        assert_eq!(set, SERVICE_MASK);
        let endpoint = affinity_endpoint(set, MOST_AFFINITY_ENDPOINTS) | LOCAL_SET;
        assert_eq!(service_number(endpoint), Some(MOST_SERVICE_PORTS));
        assert_eq!(endpoint_number(endpoint), MOST_AFFINITY_ENDPOINTS);
        assert_eq!(endpoint & SERVICE_MASK, set);
        assert_eq!(service_number(0), None);
    }
}
