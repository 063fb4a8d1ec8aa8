//! What happens to packets.
