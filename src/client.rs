//! The client: one handle to register instances and discover services.

mod builder;
mod publish;

pub use self::builder::{ClientBuilder, connect};

use self::publish::publishable;
use crate::balance::Picker;
use crate::store::{Discovery, DiscoveryOptions, Registry, TaskHandle};
use crate::view::Labelled;
use crate::{
    Error, ErrorKind, Instance, Registration, RegistrationOptions, Result, ServiceName, View,
    ViewOptions,
};
use futures_util::future::join_all;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::runtime::Handle;

/// A connection to a registry, used to register instances and to discover services.
///
/// Clones, registrations and views share one connection to the store. Dropping the last clone ends no [`Registration`]
/// and no [`View`].
///
/// ```
/// use service_registry::{Instance, connect};
/// use std::time::Duration;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> service_registry::Result<()> {
/// let client = connect("mem://").await?;
/// let registration = client.register(Instance::new("user.rpc", ([10, 0, 0, 1], 80).into())?).await?;
///
/// let users = client.discover("user.rpc")?;
/// users.ready(Duration::from_secs(5)).await?;
/// assert_eq!(users.state().available().count(), 1);
///
/// client.shutdown(Duration::from_secs(1)).await
/// # }
/// ```
#[derive(Clone)]
pub struct Client {
    registry: Arc<dyn Registry>,
    discovery: Discovery,
    runtime: Handle,
    shared: Arc<Shared>,
}

/// State shared by all clones of a client.
struct Shared {
    options: DiscoveryOptions,
    /// The URL of the store without its password, or the store's `Debug` output if it has no URL.
    name: Arc<str>,
    /// Whether other machines use the store.
    is_remote: bool,
    registrations: Mutex<Registrations>,
}

/// The registrations that [`Client::shutdown`] ends.
#[derive(Debug, Default)]
struct Registrations {
    handles: Vec<TaskHandle>,
    /// The number of handles at which stopped ones are removed.
    limit: usize,
    is_closed: bool,
}

impl Client {
    /// Returns a client of `registry`, such as a test store, a decorator, or a store that has no URL.
    ///
    /// ```
    /// use service_registry::Client;
    /// use service_registry::testing::{Fault, FaultyRegistry, MemRegistry};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> service_registry::Result<()> {
    /// let store = FaultyRegistry::new(MemRegistry::new());
    /// let client = Client::from_registry(store.clone());
    /// let users = client.discover("user.rpc")?;
    /// store.inject(Fault::Outage); // how does the program behave now?
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub fn from_registry(registry: impl Registry) -> Self {
        let (name, options) = (format!("{registry:?}"), DiscoveryOptions::default());
        Self::new(Arc::new(registry), name, false, options, Handle::current())
    }

    fn new(
        registry: Arc<dyn Registry>,
        name: String,
        is_remote: bool,
        options: DiscoveryOptions,
        runtime: Handle,
    ) -> Self {
        let discovery = Discovery::new(registry.clone(), options.clone());
        let registrations = Mutex::default();
        let shared = Arc::new(Shared { options, name: name.into(), is_remote, registrations });
        Self { registry, discovery, runtime, shared }
    }

    /// Registers `instance` and keeps it registered until the registration is stopped or dropped, even through store
    /// outages.
    ///
    /// If the address is unspecified (`0.0.0.0`), the client publishes an address of this machine instead: see
    /// [`advertise`](crate::advertise).
    ///
    /// If the future is dropped, the instance is withdrawn in the background.
    ///
    /// # Errors
    ///
    /// `Invalid` if the instance fails its [check](Instance::check), or this machine has no address to publish.
    /// `Superseded` if another process took the id at the same time. `Denied` if the store refuses the credentials.
    /// `Unavailable` if the store does not answer within 10 s. `Closed` after [`shutdown`](Self::shutdown).
    pub async fn register(&self, instance: Instance) -> Result<Registration> {
        self.register_with(instance, RegistrationOptions::default()).await
    }

    /// Registers `instance` as [`register`](Self::register) does, with `options`.
    ///
    /// # Errors
    ///
    /// Those of [`register`](Self::register). With [`RegistrationOptions::in_background`] only `Invalid` and `Closed`:
    /// the registration retries every other error and reports it in its status.
    pub async fn register_with(
        &self,
        instance: Instance,
        options: RegistrationOptions,
    ) -> Result<Registration> {
        let instance = self.publishable(instance)?;
        let starting = {
            let mut registrations = self.shared.lock();
            if registrations.is_closed {
                return Err(closed());
            }
            let _runtime = self.runtime.enter();
            let starting = Registration::begin(self.registry.clone(), instance, &options)?;
            registrations.add(starting.handle()); // so that a shutdown also ends a registration that is still starting
            starting
        };
        starting.registered().await
    }

    /// Returns `instance` with the address that it is registered at.
    ///
    /// # Errors
    ///
    /// `Invalid` if the instance fails its check, or this machine has no address to publish.
    pub(crate) fn publishable(&self, instance: Instance) -> Result<Instance> {
        let instance = publishable(instance, self.shared.is_remote)?;
        instance.check().map(|()| instance)
    }

    /// Returns a view of `service`. Keep the view: each one has its own call statistics. All views of a service share
    /// one watch.
    ///
    /// It can be called from any thread, since the view's task runs on the client's runtime.
    ///
    /// # Errors
    ///
    /// `Invalid` if `service` is not a valid [`ServiceName`]; `Closed` after [`shutdown`](Self::shutdown).
    pub fn discover<S>(&self, service: S) -> Result<View>
    where
        S: TryInto<ServiceName>,
        Error: From<S::Error>,
    {
        self.discover_with(service, ViewOptions::default())
    }

    /// Returns a view of `service` as [`discover`](Self::discover) does, with `options`.
    ///
    /// # Errors
    ///
    /// Those of [`discover`](Self::discover).
    pub fn discover_with<S>(&self, service: S, options: ViewOptions) -> Result<View>
    where
        S: TryInto<ServiceName>,
        Error: From<S::Error>,
    {
        let service = service.try_into()?;
        self.open()?;
        let _runtime = self.runtime.enter();
        let ViewOptions { labels, zone, ejection } = options;
        let selection = labels.iter().map(|(name, value)| format!("{name}={value}"));
        let selection = selection.collect::<Vec<_>>().join(",");
        let view = if labels.is_empty() {
            self.discovery.view(&service)
        } else {
            let labelled = Labelled::new(self.registry.clone(), labels);
            // An instance missing from a load may only have lost the label, so it must not be retained.
            let mut discovery = self.shared.options.clone().with_retain(false);
            discovery.snapshots = None; // a snapshot file holds the whole service, not a selection
            Discovery::new(Arc::new(labelled), discovery).view(&service)
        };
        let store = self.shared.name.clone();
        let picker = Picker::new(view.clone(), selection, zone, ejection, store);
        Ok(View::new(view, picker))
    }

    /// Drains all registrations of this client in parallel, as [`Registration::drain`] does, and closes the client. A
    /// closed client registers and discovers nothing more; existing views continue.
    ///
    /// # Errors
    ///
    /// The first error of a withdrawal: that instance may stay listed until its ttl has passed. Every withdrawal is
    /// attempted even if one fails.
    pub async fn shutdown(&self, grace: Duration) -> Result<()> {
        let handles = {
            let mut registrations = self.shared.lock();
            registrations.is_closed = true;
            registrations.handles.clone()
        };
        // A registration that was stopped earlier has already returned its result to its own caller.
        let open = handles.iter().filter(|handle| !handle.is_stopped());
        let drained = join_all(open.map(|handle| handle.drain(grace))).await;
        drained.into_iter().collect()
    }

    /// Returns the underlying store, for direct use of leases, snapshots and watches.
    pub fn registry(&self) -> &Arc<dyn Registry> {
        &self.registry
    }

    fn open(&self) -> Result<()> {
        if self.shared.lock().is_closed { Err(closed()) } else { Ok(()) }
    }
}

impl Registrations {
    fn add(&mut self, handle: TaskHandle) {
        if self.handles.len() >= self.limit {
            self.handles.retain(|handle| !handle.is_stopped());
            self.limit = 2 * self.handles.len() + 16; // doubling keeps the cost of `add` constant on average
        }
        self.handles.push(handle);
    }
}

impl Shared {
    /// Ignores poisoning: no code panics while it holds the lock.
    fn lock(&self) -> MutexGuard<'_, Registrations> {
        self.registrations.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn closed() -> Error {
    Error::new(ErrorKind::Closed, "the client was shut down: connect a new client")
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("registry", &self.registry).finish_non_exhaustive()
    }
}
