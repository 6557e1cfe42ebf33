//! The state of a service in a view, and its freshness.

use super::retention::Retained;
use arc_swap::Guard;
use registry_core::{Error, Instance, InstanceId, Records, Snapshot};
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// The state of a service in a view, at one moment.
#[derive(Clone, Debug)]
pub struct ServiceState {
    pub(crate) records: Records,
    pub(crate) retained: Box<[Retained]>,
    /// Whether retained instances are standbys, since the store lists at least half of all instances.
    pub(crate) avoids_retained: bool,
    pub(crate) store_snapshot: Option<Snapshot>,
    /// Whether the store has answered. Until then, the snapshot is from a file.
    pub(crate) is_confirmed: bool,
    pub(crate) status: ViewStatus,
    pub(crate) version: u64,
    /// Whether the task of the view has ended, so that this is the last state.
    pub(crate) is_closed: bool,
}

impl ServiceState {
    /// Returns all records, including those of instances that are draining, have weight 0, or are
    /// [retained](Self::retained).
    #[inline]
    pub fn records(&self) -> &Records {
        &self.records
    }

    /// Returns the instances of all [records](Self::records), in order of id.
    #[inline]
    pub fn instances(
        &self,
    ) -> impl ExactSizeIterator<Item = &Instance> + DoubleEndedIterator + Clone {
        self.records.instances()
    }

    /// Returns the instances to call, in order of id: those that are [available](Instance::is_available).
    ///
    /// [Retained](Self::retained) instances are included only if the store lists fewer than half of all instances.
    /// Otherwise the few listed ones would receive all calls and be overloaded.
    ///
    /// ```
    /// use registry_core::{CallOptions, Claim, Instance, InstanceStatus, Registry};
    /// use registry_engine::{Discovery, DiscoveryOptions};
    /// use registry_mem::MemRegistry;
    /// use std::sync::Arc;
    /// use std::time::Duration;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> registry_core::Result<()> {
    /// let registry = Arc::new(MemRegistry::new());
    /// let node = |id: &str| -> registry_core::Result<Instance> {
    ///     Ok(Instance::from_parts("a".parse()?, id.parse()?, "10.0.0.1:80".parse()?))
    /// };
    /// let draining = node("draining")?.with_status(InstanceStatus::Draining);
    /// for instance in [draining, node("up")?, node("weight-0")?.with_weight(0)] {
    ///     let claim = Claim::new(Duration::from_secs(10))?;
    ///     registry.register(&instance, &claim, &CallOptions::DEFAULT).await?;
    /// }
    /// let mut view = Discovery::new(registry, DiscoveryOptions::default()).view(&"a".parse()?);
    /// view.ready(Duration::from_secs(5)).await?;
    ///
    /// let state = view.state();
    /// let available: Vec<_> = state.available().map(|instance| instance.id().as_str()).collect();
    /// assert_eq!(available, ["up"]);
    /// assert_eq!(state.instances().len(), 3);
    /// # registry_core::Result::Ok(())
    /// # }
    /// ```
    pub fn available(&self) -> impl Iterator<Item = &Instance> {
        self.instances()
            .filter(|instance| instance.is_available() && !self.is_standby(instance.id()))
    }

    /// Returns whether the instance is a standby, to be called only if no other instance can be: it is
    /// [retained](Self::retained), and the store lists at least half of all instances.
    #[inline]
    pub fn is_standby(&self, id: &InstanceId) -> bool {
        self.avoids_retained && self.is_retained(id)
    }

    fn is_retained(&self, id: &InstanceId) -> bool {
        !self.retained.is_empty() && self.find_retained(id).is_some()
    }

    pub(crate) fn find_retained(&self, id: &InstanceId) -> Option<&Retained> {
        let found = self.retained.binary_search_by(|retained| retained.record.id().cmp(id));
        found.ok().map(|n| &self.retained[n])
    }

    /// Returns the instances that the view still shows although the store no longer lists them, in order of id: see
    /// [`DiscoveryOptions::retain`](crate::DiscoveryOptions::retain).
    pub fn retained(&self) -> &[Retained] {
        &self.retained
    }

    /// Returns the store's last answer, without retained instances. `None` before the first answer.
    pub fn store_snapshot(&self) -> Option<&Snapshot> {
        self.store_snapshot.as_ref()
    }

    /// Returns the [version](crate::View::version) of the state.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Returns the status: the freshness of the state.
    pub fn status(&self) -> &ViewStatus {
        &self.status
    }
}

/// The freshness of a view.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ViewStatus {
    /// The store has not answered yet. The state is empty, or was read from a snapshot file a moment ago.
    Loading {
        /// When the view first asked the store.
        since: Instant,
        /// The last error, if a request failed. The view keeps retrying.
        why: Option<Error>,
    },
    /// The store answers, and an open watch delivers every change.
    Live,
    /// Changes may be missing, or the state is from a snapshot file. The view keeps retrying.
    Stale {
        /// When the view lost its watch, or the store stopped answering.
        since: Instant,
        /// The last error.
        why: Error,
    },
}

impl ViewStatus {
    /// Returns whether the store confirms the state.
    pub fn is_live(&self) -> bool {
        matches!(self, Self::Live)
    }

    /// Returns the last error, or `None` while the view is live.
    pub fn error(&self) -> Option<&Error> {
        match self {
            Self::Loading { why, .. } => why.as_ref(),
            Self::Live => None,
            Self::Stale { why, .. } => Some(why),
        }
    }

    /// Returns how long the store has not confirmed the state. It is zero while the view is live.
    pub(crate) fn staleness(&self) -> Duration {
        match self {
            Self::Live => Duration::ZERO,
            Self::Loading { since, .. } | Self::Stale { since, .. } => since.elapsed(),
        }
    }
}

/// The name of the status, with the last error if there is one: `live`, `stale: the store did not answer, ...`.
impl fmt::Display for ViewStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Loading { why: None, .. } => f.write_str("loading"),
            Self::Loading { why: Some(why), .. } => write!(f, "loading: {why}"),
            Self::Live => f.write_str("live"),
            Self::Stale { why, .. } => write!(f, "stale: {why}"),
        }
    }
}

/// A reference to a [`ServiceState`] that a view published.
pub struct StateRef(Guard<Arc<ServiceState>>);

impl StateRef {
    pub(super) fn new(guard: Guard<Arc<ServiceState>>) -> Self {
        Self(guard)
    }
}

impl StateRef {
    /// Returns the state as an `Arc`, to keep it for longer than a moment.
    pub fn to_arc(&self) -> Arc<ServiceState> {
        (*self.0).clone()
    }
}

impl Deref for StateRef {
    type Target = ServiceState;

    #[inline]
    fn deref(&self) -> &ServiceState {
        &self.0
    }
}

impl fmt::Debug for StateRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}
