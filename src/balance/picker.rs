//! The balancer of one view.

use super::{Ejection, PickOptions};
use crate::store::{LeaseId, Record};
use crate::{Address, Error, ErrorKind, Instance, InstanceId, Result, ServiceState, ViewStatus};
use registry_balance::{
    Balancer, BalancerOptions, Member, NoPick, Ticket, Transition, stable_hash,
};
use registry_engine::{Failure, View};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, TryLockError};
use std::time::Duration;
use tokio::time::Instant;

/// No state has this version.
const NEVER: u64 = u64::MAX;

/// A call in flight to an instance.
pub(crate) type Call = Ticket<MemberKey, Record>;

/// The balancer of one view. The first pick after a change updates it to the state of the view.
pub(crate) struct Picker {
    view: View,
    balancer: Balancer<MemberKey, Record>,
    /// The version of the state that the balancer has.
    version: AtomicU64,
    /// Held while the balancer is updated.
    updating: Mutex<()>,
    start: Instant,
    /// The required labels, for messages. Empty if there are none.
    selection: String,
    zone: Option<String>,
    /// The URL of the store, for messages.
    store: Arc<str>,
}

/// The key of an instance's statistics: they start anew if the instance restarts or moves.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct MemberKey {
    id: InstanceId,
    lease: Option<LeaseId>,
    address: Address,
}

impl Picker {
    pub(crate) fn new(
        view: View,
        selection: String,
        zone: Option<String>,
        ejection: Option<Ejection>,
        store: Arc<str>,
    ) -> Self {
        let balancer =
            BalancerOptions::default().with_ejection(ejection).with_connects_on_demand(true);
        Self {
            view,
            balancer: Balancer::new(balancer, fastrand::u64(..)),
            version: AtomicU64::new(NEVER),
            updating: Mutex::default(),
            start: Instant::now(),
            selection,
            zone,
            store,
        }
    }

    /// Picks an instance for the next call.
    #[inline]
    pub(crate) fn pick(&self, options: &PickOptions) -> Result<Call> {
        if self.is_behind() {
            self.update(false);
        }
        match self.try_pick(options) {
            // Another thread is updating the balancer to a state that may have an instance.
            Err(_) if self.is_behind() => {
                self.update(true);
                self.try_pick(options)
            }
            picked => picked,
        }
        .map_err(|why| self.no_instance(why, options))
    }

    #[inline]
    fn try_pick(&self, options: &PickOptions) -> Result<Call, NoPick> {
        let PickOptions { exclude, hash } = options;
        // By id, regardless of the incarnation.
        let accept = |key: &MemberKey| exclude.is_empty() || !exclude.contains(&key.id);
        self.balancer.pick_where(*hash, accept, self.now(), &mut fastrand::Rng::new())
    }

    /// Returns whether the view has a newer state than the balancer.
    fn is_behind(&self) -> bool {
        self.version.load(Ordering::Acquire) != self.view.version()
    }

    /// Returns the zone of the caller.
    #[cfg(feature = "grpc")]
    pub(crate) fn zone(&self) -> Option<&str> {
        self.zone.as_deref()
    }

    /// Returns the time on the balancer's clock.
    pub(crate) fn now(&self) -> Duration {
        Instant::now().saturating_duration_since(self.start)
    }

    /// Reports to the view that the instance refused a connection.
    pub(crate) fn refused(&self, key: &MemberKey) {
        self.view.report(&key.id, key.lease, Failure::Refused);
    }

    /// Logs that an instance was ejected or readmitted, and counts ejections.
    pub(crate) fn report(&self, instance: &Instance, transition: Transition) {
        let (service, id, address) = (self.view.service(), instance.id(), instance.address());
        if let Transition::Ejected { failures, duration, .. } = transition {
            tracing::warn!(%address, %service, %id, failures, ?duration, "endpoint ejected after consecutive failures");
            self.view.count_ejection();
        } else {
            tracing::info!(%address, %service, %id, "endpoint takes calls again");
        }
    }

    /// Updates the balancer to the state of the view. If another thread is doing so, this one waits only if told to, or
    /// if the balancer has no state yet.
    #[cold]
    fn update(&self, waits: bool) {
        let waits = waits || self.version.load(Ordering::Acquire) == NEVER;
        let _updating = match self.updating.try_lock() {
            Ok(updating) => updating,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) if waits => {
                self.updating.lock().unwrap_or_else(PoisonError::into_inner)
            }
            Err(TryLockError::WouldBlock) => return,
        };
        let state = self.view.state();
        if self.version.load(Ordering::Acquire) != state.version() {
            self.balancer.set(self.members(&state), self.now());
            self.version.store(state.version(), Ordering::Release);
        }
    }

    /// Returns the available instances. If several share an address, a listed one precedes a retained one, and then the
    /// one that registered last wins.
    fn members(&self, state: &ServiceState) -> Vec<Member<MemberKey, Record>> {
        let records = state.records();
        let rank = |record: &Record| (!state.is_standby(record.id()), record.revision());
        let mut by_address: HashMap<&Address, &Record> = HashMap::with_capacity(records.len());
        for record in records.iter().filter(|record| record.instance().is_available()) {
            match by_address.entry(record.instance().address()) {
                Entry::Occupied(other) if rank(other.get()) >= rank(record) => {}
                Entry::Occupied(mut other) => drop(other.insert(record)),
                Entry::Vacant(vacant) => drop(vacant.insert(record)),
            }
        }
        let member = |record: &Record| {
            let (instance, lease) = (record.instance(), record.lease());
            let (id, address) = (instance.id().clone(), instance.address().clone());
            Member {
                hash_key: Some(stable_hash(&id)), // so that a restart moves no hashes
                weight: instance.weight(),
                near: self.zone.is_some() && instance.zone() == self.zone.as_deref(),
                standby: state.is_standby(instance.id()),
                ..Member::new(MemberKey { id, lease, address }, record.clone())
            }
        };
        by_address.into_values().map(member).collect()
    }

    #[cold]
    fn no_instance(&self, why: NoPick, options: &PickOptions) -> Error {
        let state = self.view.state();
        let registered = state.records().len();
        let reason = match why {
            NoPick::Excluded => {
                let exclude: Vec<_> = options.exclude.iter().map(InstanceId::as_str).collect();
                format!("all available ones are excluded, exclude=`{}`", exclude.join(", "))
            }
            _ if matches!(state.status(), ViewStatus::Loading { .. }) && registered == 0 => {
                "the store has not answered yet: call `View::ready` first".to_owned()
            }
            _ if registered == 0 && !self.selection.is_empty() => {
                format!("none with these labels is registered, labels=`{}`", self.selection)
            }
            _ if registered == 0 => "none is registered".to_owned(),
            _ => format!("all of them are draining or have weight 0, registered=`{registered}`"),
        };
        let (service, store) = (self.view.service(), &self.store);
        let message =
            format!("no instance can be called: {reason}, service=`{service}`, store=`{store}`");
        let error = Error::new(ErrorKind::NoInstance, message);
        match state.status().error() {
            Some(why) => error.with_source(why.clone()),
            None => error,
        }
    }
}
