//! Kubernetes Services in, NAT rules out.
//!
//! One way: [`model`] (Services, EndpointSlices, this Node, settings) → [`endpoints`] (which endpoints may serve) →
//! [`compile`] (what each address does: [`ruleset`]) → a backend's own tables ([`nftables`], [`iptables`], [`ipvs`]) →
//! [`diff`] (the smallest transaction from what was committed). [`machine`] holds the state between changes;
//! [`simulate`] asks what happens to one packet, and each backend answers by walking its own typed rules.
//!
//! The crate is pure: no clock, no randomness, no I/O, no order that depends on a hash. Only [`abi`] knows bytes,
//! JSON and `unsafe`. Not here: reading Kubernetes (`cluster/`), talking to the kernel (`agent/`).
//!
//! What a Service means is specified by the Kubernetes documentation and by kube-proxy's behaviour; each rule names
//! its source where it is decided.

pub mod abi;
pub mod address;
pub mod backend;
pub mod balance;
pub mod claims;
pub mod compile;
pub mod diff;
pub mod endpoints;
pub mod hash;
pub mod iptables;
pub mod ipvs;
pub mod machine;
pub mod model;
pub mod names;
pub mod nftables;
pub mod print;
pub mod ruleset;
pub mod simulate;
