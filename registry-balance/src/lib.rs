//! A client-side load balancer without transport, clock or IO.
//!
//! A [`Balancer`] holds the members of a service and picks the one that takes the next call. A
//! [`Ticket`] represents that call: the call counts as in flight until its ticket is dropped, and
//! the ticket takes its [`Outcome`].
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
//! // Call `ticket.value()`, and report the outcome:
//! ticket.finish(Outcome::Success, now + Duration::from_millis(3));
//! # Ok::<(), registry_balance::NoPick>(())
//! ```
//!
//! # Rules
//!
//! * **Power of two choices**: two members are drawn by weight. The second wins if its cost times
//!   1.5 is below the first's.
//! * **Cost**: the latency estimate plus 0.5 ms, times the calls in flight plus one. The higher the
//!   weight of a member, the less each call in flight counts.
//! * **Latency**: a peak EWMA. A slower call raises the estimate at once; faster calls lower it
//!   gradually, with a time constant of 10 s.
//! * **Failures**: a failure raises the latency estimate to three times its value, so that a member
//!   that fails at once does not look fast.
//! * **Abandoned calls**: a call that its caller gives up is not a failure. Its elapsed time is a
//!   lower bound of the latency, so a member that hangs is avoided.
//! * **[`Ejection`]**: a member that fails several times in a row takes no calls for a while. Then
//!   it is half-open: one call probes it. If that call has no outcome in time, another call probes
//!   it. After an ejection, failures of calls that began before it do not count. At least half of
//!   the members always take calls.
//! * **Zone**: only near members take calls while at least half of them are ready.
//! * **Standby**: a standby member takes calls only while no other member is ready.
//!
//! # Hashing
//!
//! A pick with a [`hash`](PickOptions::hash) goes to the same member each time, for servers that
//! cache. The balancer uses weighted rendezvous hashing: if a member is added, is removed or changes
//! its weight, only hashes from and to that member move.
//!
//! # Time
//!
//! `now` is the time since a fixed moment of the caller's choice, read from a monotonic clock.
//! Threads may disagree by up to a minute.
//!
//! # Cost
//!
//! A pick takes no lock and does not allocate. A pick by hash takes time linear in the members.
//! [`Balancer::set`], a [`Balancer::set_ready`] that changes something, and a failure that may eject
//! its member take a lock, and time linear in the members.

// `Balancer` is generic, so a pick is compiled in the crate of its caller. Functions that a pick calls
// are therefore marked `#[inline]`.

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
