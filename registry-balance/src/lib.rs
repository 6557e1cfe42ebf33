//! A client-side load balancer without transport, clock or IO.
//!
//! A [`Balancer`] holds the members of a service and says which one takes the next call. A
//! [`Ticket`] stands for that call: it counts as in flight until it is dropped, and takes its
//! [`Outcome`].
//!
//! ```
//! use registry_balance::{Balancer, BalancerOptions, Member, Outcome, PickOptions};
//! use std::time::Duration;
//!
//! let balancer = Balancer::new(BalancerOptions::default(), 7);
//! let now = Duration::from_secs(1); // on a monotonic clock of the caller
//! balancer.set([Member::new("a", "10.0.0.1:80"), Member::new("b", "10.0.0.2:80")], now);
//!
//! let mut rng = fastrand::Rng::with_seed(7);
//! let ticket = balancer.pick(&PickOptions::default(), now, &mut rng)?;
//! // Call `ticket.value()`, and report what came of it:
//! ticket.finish(Outcome::Success, now + Duration::from_millis(3));
//! # Ok::<(), registry_balance::NoPick>(())
//! ```
//!
//! # Rules
//!
//! * **Power of two choices**: two members are drawn by weight. The second wins if its cost times
//!   1.5 is below the first's.
//! * **Cost**: the latency estimate plus 0.5 ms, times the calls in flight plus one. A call in
//!   flight counts for less at a member of high weight.
//! * **Latency**: a peak EWMA. A slower call counts at once, a faster one with time (10 s).
//! * **Failures**: a failure raises the latency estimate to three times its value, so that a member
//!   that fails at once does not look fast.
//! * **Abandoned calls**: a call that its caller gives up is no failure. Its elapsed time is a lower
//!   bound of the latency, so a member that hangs is avoided.
//! * **[`Ejection`]**: a member that fails several times in a row takes no calls for a while. Then
//!   it is half-open: one call probes it. If the call shows nothing in time, another one follows.
//!   Failures of calls that began before an ejection do not count after it. At least half of the
//!   members always take calls.
//! * **Zone**: near members alone take calls while at least half of them are ready.
//! * **Standby**: a standby member takes calls only while no other member is ready.
//!
//! # Hashing
//!
//! A pick with a [`hash`](PickOptions::hash) goes to the same member each time, as for a server that
//! caches. It is weighted rendezvous hashing: a member that comes, goes or changes its weight moves
//! only hashes from and to itself.
//!
//! # Time
//!
//! `now` is the time since a fixed moment of the caller's choice, read from a monotonic clock.
//! Threads may disagree by up to a minute.
//!
//! # Cost
//!
//! A pick takes no lock and does not allocate. A pick by hash takes time linear in the members. [`Balancer::set`] and a [`Balancer::set_ready`] that
//! changes something take a lock and time linear in the members; so does a failure that may eject.

// `Balancer` is generic, so a pick is compiled in the crate of its caller: what it calls here is marked
// `#[inline]`.

mod balancer;
mod ejection;
mod endpoint;
mod hash;
mod latency;
mod picker;
mod rng;
mod shared;
mod stats;
mod subset;
mod ticket;
mod time;

pub use self::balancer::{Balancer, BalancerOptions, Member, NoPick, PickOptions};
pub use self::ejection::Ejection;
pub use self::hash::stable_hash;
pub use self::rng::Rng;
pub use self::subset::{client_number, subset};
pub use self::ticket::{Outcome, Ticket, Transition};
