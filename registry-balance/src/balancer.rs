//! The members of a service, and the choice of the one that takes the next call.

use crate::ejection::Ejection;
use crate::endpoint::Endpoint;
use crate::hash::stable_hash;
use crate::picker::Picker;
use crate::rng::Rng;
use crate::shared::Shared;
use crate::stats::EndpointStats;
use crate::ticket::Ticket;
use crate::time::Ticks;
use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

/// The number of picks until an ejected endpoint takes the call. A picked endpoint refuses the call
/// if another call was faster to probe it, or if all endpoints are ejected.
const MAX_PICKS: u32 = 3;

/// The members of a service, from which it picks the one that takes the next call.
///
/// The key identifies a member, and its statistics belong to the key. The key should change when the
/// server restarts, so that its latency and ejection start anew: use its address and incarnation,
/// for example. The value is what a caller needs to make the call.
///
/// All methods take `&self`; share it in an `Arc`.
///
/// ```
/// use registry_balance::{Balancer, BalancerOptions, Member, PickOptions};
/// use std::time::Duration;
///
/// let now = Duration::from_secs(1);
/// let balancer = Balancer::new(BalancerOptions::default(), 7);
/// balancer.set([Member::new("a", 80), Member::new("b", 81)], now);
/// balancer.set_ready(&"a", false);
///
/// let ticket = balancer.pick(&PickOptions::default(), now, &mut fastrand::Rng::with_seed(7))?;
/// assert_eq!(*ticket.value(), 81);
/// # Ok::<(), registry_balance::NoPick>(())
/// ```
pub struct Balancer<K, T> {
    shared: Arc<Shared<K, T>>,
    /// Tickets clone it. A clone is one atomic addition, while a downgrade may have to loop.
    weak: Weak<Shared<K, T>>,
    initially_ready: bool,
    connects_on_demand: bool,
    slots: Mutex<Vec<Slot<K, T>>>,
}

/// Options of a [`Balancer`].
///
/// ```
/// use registry_balance::BalancerOptions;
///
/// let options = BalancerOptions::default().with_ejection(None).with_initially_ready(false);
/// assert!(!options.initially_ready);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BalancerOptions {
    /// When a failing member is ejected; `None`: never.
    pub ejection: Option<Ejection>,
    /// Whether a new member takes calls before [`Balancer::set_ready`] is called for it. Default: `true`.
    pub initially_ready: bool,
    /// Whether the first call to a member connects to it. Then the latency of that call does not count, and neither
    /// does that of calls that begin before it is answered: otherwise a member whose first connection is slow would
    /// get almost no calls for seconds. Default: `false`.
    pub connects_on_demand: bool,
}

/// A member of a service.
///
/// ```
/// use registry_balance::Member;
///
/// let member = Member { weight: 50, near: true, ..Member::new("a", "10.0.0.1:80") };
/// assert_eq!(member.value, "10.0.0.1:80");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member<K, T> {
    /// The key that its statistics belong to.
    pub key: K,
    /// What a caller needs to make a call.
    pub value: T,
    /// Its share of the calls, relative to the other members. A member of weight 0 takes no calls.
    pub weight: u32,
    /// Whether it is in the zone of the caller.
    pub near: bool,
    /// Whether it takes calls only while no other member is ready.
    pub standby: bool,
    /// The hash by which [picks by hash](PickOptions::hash) rank it; `None`: the hash of its key. If
    /// a restart changes the key, set it to the [`stable_hash`] of a part that stays the same: otherwise
    /// a restart moves hashes to other members.
    pub hash_key: Option<u64>,
}

/// Options of one pick.
///
/// ```
/// use registry_balance::{PickOptions, stable_hash};
///
/// let mut options = PickOptions::default();
/// options.exclude.push("a"); // it has just refused this call
///
/// let by_user = PickOptions::<&str>::default().with_hash(stable_hash("user-7"));
/// assert!(by_user.hash.is_some());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PickOptions<K> {
    /// The members that are not picked.
    pub exclude: Vec<K>,
    /// Picks the member with the highest score for this hash, regardless of its latency and its calls
    /// in flight. That is the same member each time, while it takes calls; excluded and ejected
    /// members are skipped. Default: `None`.
    ///
    /// The hashes are shared among the members by weight. If a member is added, is removed or changes
    /// its weight, only hashes from and to that member move.
    pub hash: Option<u64>,
}

/// The reason why no member was picked.
///
/// ```
/// use registry_balance::{Balancer, BalancerOptions, NoPick, PickOptions};
/// use std::time::Duration;
///
/// let balancer = Balancer::<&str, ()>::new(BalancerOptions::default(), 7);
/// let mut rng = fastrand::Rng::with_seed(7);
/// let picked = balancer.pick(&PickOptions::default(), Duration::ZERO, &mut rng);
/// assert_eq!(picked.unwrap_err(), NoPick::NotReady);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NoPick {
    /// No member is ready with a weight above 0.
    #[error("no member is ready")]
    NotReady,
    /// All ready members are excluded or not accepted.
    #[error("all ready members are excluded")]
    Excluded,
}

/// A member and its state, guarded by the lock.
struct Slot<K, T> {
    endpoint: Arc<Endpoint<K, T>>,
    is_near: bool,
    is_standby: bool,
    is_ready: bool,
}

impl<K: Eq + Hash, T> Balancer<K, T> {
    /// Returns a balancer without members. `seed` determines the jitter of ejections: draw it at
    /// random, so that clients do not probe at the same moments.
    pub fn new(options: BalancerOptions, seed: u64) -> Self {
        let shared = Arc::new(Shared::new(options.ejection, seed));
        let weak = Arc::downgrade(&shared);
        let BalancerOptions { initially_ready, connects_on_demand, .. } = options;
        Self { shared, weak, initially_ready, connects_on_demand, slots: Mutex::default() }
    }

    /// Replaces the members. A key that stays keeps its statistics and its readiness, even if the rest
    /// of its member changes. A new member starts with the median latency of the remaining members, so
    /// that it is not flooded.
    ///
    /// `members` contains each key once. Takes a lock, and time linear in the members.
    pub fn set(&self, members: impl IntoIterator<Item = Member<K, T>>, now: Duration) {
        let now = Ticks::of(now);
        let members: Vec<_> = members.into_iter().collect();
        let mut slots = self.lock();
        let known: HashMap<&K, &Slot<K, T>> =
            slots.iter().map(|slot| (&slot.endpoint.key, slot)).collect();
        let staying = members.iter().filter_map(|member| known.get(&member.key));
        let expected = median_latency(staying.map(|slot| &*slot.endpoint.stats), now);
        let slot = |member: Member<K, T>| {
            let (stats, is_ready) = if let Some(slot) = known.get(&member.key) {
                (slot.endpoint.stats.clone(), slot.is_ready)
            } else {
                let stats = EndpointStats::new(expected, now);
                let stats = if self.connects_on_demand { stats.cold() } else { stats };
                (Arc::new(stats), self.initially_ready)
            };
            let Member { key, value, weight, near: is_near, standby: is_standby, hash_key } =
                member;
            let hash_key = hash_key.unwrap_or_else(|| stable_hash(&key));
            let endpoint = Arc::new(Endpoint { key, value, weight, hash_key, stats });
            Slot { endpoint, is_near, is_standby, is_ready }
        };
        let next: Vec<_> = members.into_iter().map(slot).collect();
        self.publish(&next);
        let previous = mem::replace(&mut *slots, next);
        drop(slots);
        drop(previous); // after the lock, since dropping a value may run any code
    }

    /// Sets whether a member takes calls: whether it is connected, for example. A key that is not a
    /// member is ignored.
    ///
    /// Takes a lock, and time linear in the members.
    pub fn set_ready(&self, key: &K, ready: bool) {
        let mut slots = self.lock();
        if let Some(slot) = slots.iter_mut().find(|slot| slot.endpoint.key == *key)
            && slot.is_ready != ready
        {
            slot.is_ready = ready;
            self.publish(&slots);
        }
    }

    /// Picks the member that takes the next call. Takes no lock, and does not allocate. With a
    /// [hash](PickOptions::hash) it takes time linear in the members.
    ///
    /// An ejected member is picked only if all are.
    ///
    /// # Errors
    ///
    /// No member is ready, or all that are ready are excluded.
    pub fn pick(
        &self,
        options: &PickOptions<K>,
        now: Duration,
        rng: &mut impl Rng,
    ) -> Result<Ticket<K, T>, NoPick> {
        let exclude = &options.exclude;
        let accept = |key: &K| exclude.is_empty() || !exclude.contains(key);
        self.pick_where(options.hash, accept, now, rng)
    }

    /// Picks as [`pick`](Self::pick) does, among the members whose key `accept` accepts: to exclude
    /// members by a part of their key, for example. If `hash` is given, the pick is by
    /// [hash](PickOptions::hash). `accept` may be called more than once for a key.
    ///
    /// ```
    /// use registry_balance::{Balancer, BalancerOptions, Member};
    /// use std::time::Duration;
    ///
    /// let now = Duration::from_secs(1);
    /// let balancer = Balancer::new(BalancerOptions::default(), 7);
    /// balancer.set([Member::new(("a", 1), ()), Member::new(("b", 2), ())], now);
    ///
    /// let mut rng = fastrand::Rng::with_seed(7);
    /// let ticket = balancer.pick_where(None, |(id, _)| *id != "a", now, &mut rng)?;
    /// assert_eq!(*ticket.key(), ("b", 2));
    /// # Ok::<(), registry_balance::NoPick>(())
    /// ```
    ///
    /// # Errors
    ///
    /// No member is ready, or all that are ready are excluded or not accepted.
    #[inline]
    pub fn pick_where(
        &self,
        hash: Option<u64>,
        accept: impl Fn(&K) -> bool,
        now: Duration,
        rng: &mut impl Rng,
    ) -> Result<Ticket<K, T>, NoPick> {
        let ticks = Ticks::of(now);
        let picker = self.shared.picker.load();
        let mut picks = 1;
        loop {
            let candidate = match hash {
                None => picker.pick(&accept, ticks, rng),
                Some(hash) => picker.pick_by_hash(hash, &accept, ticks),
            };
            let Some(endpoint) = candidate else {
                let is_none_ready = picker.endpoints().len() == 0;
                return Err(if is_none_ready { NoPick::NotReady } else { NoPick::Excluded });
            };
            let ejection = &endpoint.stats.ejection;
            let admission = ejection
                .admit(ticks, self.shared.ejection.as_ref())
                .or_else(|| (picks == MAX_PICKS).then(|| ejection.admit_anyway()));
            if let Some(admission) = admission {
                return Ok(Ticket::new(endpoint.clone(), self.weak.clone(), now, admission));
            }
            picks += 1;
        }
    }

    fn publish(&self, slots: &[Slot<K, T>]) {
        let picker = Picker::new(candidates(slots).into_iter());
        self.shared.picker.store(Arc::new(picker));
    }
}

impl<K, T> Balancer<K, T> {
    /// Returns the keys of the members that take calls now, ejected ones too. Takes time linear in
    /// the members.
    pub fn candidates(&self) -> Vec<K>
    where
        K: Clone,
    {
        self.shared.picker.load().endpoints().map(|endpoint| endpoint.key.clone()).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Slot<K, T>>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns the endpoints that take calls.
fn candidates<K, T>(slots: &[Slot<K, T>]) -> Vec<Arc<Endpoint<K, T>>> {
    let ready = |group: &dyn Fn(&Slot<K, T>) -> bool| -> Vec<_> {
        let ready = slots.iter().filter(|slot| slot.is_ready && slot.has_weight() && group(slot));
        ready.map(|slot| slot.endpoint.clone()).collect()
    };
    let is_near = |slot: &Slot<K, T>| slot.is_near && !slot.is_standby;
    let all_near = slots.iter().filter(|slot| is_near(slot) && slot.has_weight()).count();
    let near = ready(&is_near);
    if !near.is_empty() && near.len() * 2 >= all_near {
        return near;
    }
    let active = ready(&|slot| !slot.is_standby);
    if active.is_empty() { ready(&|_| true) } else { active }
}

/// Returns the median latency, in microseconds, of the endpoints that have been called.
fn median_latency<'a>(stats: impl Iterator<Item = &'a EndpointStats>, now: Ticks) -> Option<f32> {
    let mut known: Vec<f32> = stats.filter_map(|stats| stats.latency(now)).collect();
    known.sort_by(f32::total_cmp);
    known.get(known.len() / 2).copied()
}

impl<K, T> Slot<K, T> {
    fn has_weight(&self) -> bool {
        self.endpoint.weight > 0
    }
}

impl<K, T> Member<K, T> {
    /// Returns a member of weight 100 that is neither near nor on standby.
    pub fn new(key: K, value: T) -> Self {
        Self { key, value, weight: 100, near: false, standby: false, hash_key: None }
    }
}

impl<K> PickOptions<K> {
    /// Sets the [hash](Self::hash) to pick by.
    #[must_use]
    pub fn with_hash(mut self, hash: u64) -> Self {
        self.hash = Some(hash);
        self
    }
}

impl BalancerOptions {
    /// Sets when a failing member is ejected; `None`: never.
    #[must_use]
    pub fn with_ejection(mut self, ejection: Option<Ejection>) -> Self {
        self.ejection = ejection;
        self
    }

    /// Sets whether a new member takes calls before [`Balancer::set_ready`] is called for it.
    #[must_use]
    pub fn with_initially_ready(mut self, initially_ready: bool) -> Self {
        self.initially_ready = initially_ready;
        self
    }

    /// Sets whether the [first call to a member connects](Self::connects_on_demand) to it.
    #[must_use]
    pub fn with_connects_on_demand(mut self, connects_on_demand: bool) -> Self {
        self.connects_on_demand = connects_on_demand;
        self
    }
}

impl Default for BalancerOptions {
    fn default() -> Self {
        let ejection = Some(Ejection::default());
        Self { ejection, initially_ready: true, connects_on_demand: false }
    }
}

impl<K> Default for PickOptions<K> {
    fn default() -> Self {
        Self { exclude: Vec::new(), hash: None }
    }
}

impl<K: fmt::Debug + Clone, T> fmt::Debug for Balancer<K, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Balancer").field("candidates", &self.candidates()).finish_non_exhaustive()
    }
}
