//! The operations of a lockstep run.

use proptest::prelude::*;

/// A random operation on a store. There are few names, so that operations collide.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Op {
    /// Registers an instance under one of a few leases of its service.
    #[allow(missing_docs)]
    Register { service: u8, id: u8, version: u8, lease: u8, takeover: bool, other_ttl: bool },
    /// Reads the holder of an id.
    #[allow(missing_docs)]
    Holder { service: u8, id: u8 },
    /// Renews a lease that was once granted.
    KeepAlive(u8),
    /// Withdraws a lease that was once granted.
    Deregister(u8),
    /// Revokes a lease as an operator.
    Revoke(u8),
    /// Loads a service.
    Load(u8),
    /// Compacts the history of a service.
    Compact(u8),
    /// Opens a watch of a service at its current state, and leaves it open.
    Watch(u8),
    /// Reads all outstanding batches of an open watch.
    Drain(u8),
    /// Watches again from an earlier load.
    Replay(u8),
    /// Closes all connections.
    Cut,
}

/// Generates operations.
pub fn op() -> impl Strategy<Value = Op> {
    let register = (0..2u8, 0..3u8, 0..3u8, 0..3u8, any::<bool>(), proptest::bool::weighted(0.1));
    prop_oneof![
        8 => register.prop_map(|(service, id, version, lease, takeover, other_ttl)| {
            Op::Register { service, id, version, lease, takeover, other_ttl }
        }),
        2 => (0..2u8, 0..3u8).prop_map(|(service, id)| Op::Holder { service, id }),
        3 => any::<u8>().prop_map(Op::KeepAlive),
        3 => any::<u8>().prop_map(Op::Deregister),
        1 => any::<u8>().prop_map(Op::Revoke),
        3 => (0..2u8).prop_map(Op::Load),
        1 => (0..2u8).prop_map(Op::Compact),
        2 => (0..2u8).prop_map(Op::Watch),
        4 => any::<u8>().prop_map(Op::Drain),
        4 => any::<u8>().prop_map(Op::Replay),
        1 => Just(Op::Cut),
    ]
}
