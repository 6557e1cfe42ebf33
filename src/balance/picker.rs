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

/// A call in flight.
pub(crate) type Call = Ticket<MemberKey, Record>;

/// The balancer of one view. It takes over a state of the view when an instance is first picked from it.
pub(crate) struct Picker {
    view: View,
    balancer: Balancer<MemberKey, Record>,
    /// The version of the state that the balancer has.
    version: AtomicU64,
    /// Held while the balancer takes over a state.
    updating: Mutex<()>,
    start: Instant,
    /// The labels that an instance must have, for messages. Empty if there are none.
    selection: String,
    zone: Option<String>,
    /// The URL of the store, for messages.
    store: Arc<str>,
}

/// What statistics belong to: an instance that restarts or moves has new ones.
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
            // The state that another thread takes over may have one.
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
        // By id, whatever the incarnation.
        let accept = |key: &MemberKey| exclude.is_empty() || !exclude.contains(&key.id);
        self.balancer.pick_where(*hash, accept, self.now(), &mut fastrand::Rng::new())
    }

    /// Returns whether the view has another state than the balancer.
    fn is_behind(&self) -> bool {
        self.version.load(Ordering::Acquire) != self.view.version()
    }

    /// Returns the zone of the caller.
    #[cfg(feature = "grpc")]
    pub(crate) fn zone(&self) -> Option<&str> {
        self.zone.as_deref()
    }

    /// Returns the time as the balancer counts it.
    pub(crate) fn now(&self) -> Duration {
        Instant::now().saturating_duration_since(self.start)
    }

    /// Nothing listens at the address of an instance.
    pub(crate) fn refused(&self, key: &MemberKey) {
        self.view.report(&key.id, key.lease, Failure::Refused);
    }

    /// Logs and counts that a call has ejected its instance, or ended that, as a gRPC channel does.
    pub(crate) fn report(&self, instance: &Instance, transition: Transition) {
        let (service, id, address) = (self.view.service(), instance.id(), instance.address());
        if let Transition::Ejected { failures, duration, .. } = transition {
            tracing::warn!(%address, %service, %id, failures, ?duration, "endpoint ejected after consecutive failures");
            self.view.count_ejection();
        } else {
            tracing::info!(%address, %service, %id, "endpoint takes calls again");
        }
    }

    /// Takes over the state of the view. While another thread does, the picks of this one are from the last state, unless
    /// it waits.
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

    /// Returns the available instances. Of several at one address it is the one that was registered last, and one that the
    /// store lists before one that is retained.
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
                hash_key: Some(stable_hash(&id)), // a restart moves no hashes
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
                format!("all that are available are excluded, exclude=`{}`", exclude.join(", "))
            }
            _ if matches!(state.status(), ViewStatus::Loading { .. }) && registered == 0 => {
                "the store has not answered yet: wait for `View::ready`".to_owned()
            }
            _ if registered == 0 && !self.selection.is_empty() => {
                format!("none with these labels is registered, labels=`{}`", self.selection)
            }
            _ if registered == 0 => "none is registered".to_owned(),
            _ => format!("each of {registered} is draining or has weight 0"),
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
