//! What a process needs of a registry, behind one handle.

use crate::connect::{built_in, connect_by, connect_lazy_by};
use crate::{
    Connector, Discovery, DiscoveryOptions, Error, Instance, Registration, RegistrationOptions,
    Registry, Result, ServiceName, View,
};
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::runtime::Handle;

/// A connection to a registry, from which instances are registered and services are discovered.
///
/// A clone is another handle to the same connection. Dropping the last one ends no [`Registration`] and no
/// [`View`].
///
/// ```
/// use service_registry::{Instance, connect};
/// use std::time::Duration;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> service_registry::Result<()> {
/// let client = connect("mem://").await?;
/// let node = Instance::new("user.rpc".parse()?, "node-1".parse()?, "10.0.0.1:8080".parse()?);
/// let registration = client.register(node).await?;
///
/// let mut users = client.discover("user.rpc")?;
/// users.ready(Duration::from_secs(5)).await?;
/// assert_eq!(users.state().available().count(), 1);
///
/// registration.stop().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Client {
    registry: Arc<dyn Registry>,
    discovery: Discovery,
    runtime: Handle,
}

/// Connects to the registry that `url` names. It is [`Client::builder`] without more.
///
/// # Errors
///
/// `Invalid` if `url` is no URL, a part of it is wrong, or its store is not built in (the error names the
/// feature to add). `Unavailable` if the store does not answer, `Denied` if it refuses the credentials.
pub async fn connect(url: &str) -> Result<Client> {
    Client::builder(url).connect().await
}

/// Returns a client of the registry that `url` names without a request: its first registration or view connects. It is
/// [`Client::builder`] without more.
///
/// So a process starts while its store is down: a registration that starts in the background registers once the store
/// answers, and a view shows what a [snapshot file](ClientBuilder::snapshots) says until then.
///
/// ```
/// use service_registry::{Instance, RegistrationOptions, Start, connect_lazy};
/// use std::time::Duration;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> service_registry::Result<()> {
/// let client = connect_lazy("mem://")?; // or etcd://127.0.0.1:2379, whether or not it answers
/// let node = Instance::new("user.rpc".parse()?, "node-1".parse()?, "10.0.0.1:8080".parse()?);
/// let options = RegistrationOptions { start: Start::InBackground, ..Default::default() };
/// let registration = client.register_with(node, options).await?; // returns at once
///
/// let mut users = client.discover("user.rpc")?;
/// users.ready(Duration::from_secs(5)).await?; // `Denied` and `Invalid` at once, if the store says so
/// # registration.stop().await
/// # }
/// ```
///
/// What [`connect`] checks of the store (the credentials, Redis' eviction policy) is checked at the first contact. An
/// error is the [`ViewStatus`](crate::ViewStatus) of each view and the
/// [`RegistrationStatus`](crate::RegistrationStatus) of each registration until it is corrected, and is logged once.
///
/// # Errors
///
/// `Invalid` if `url` is no URL, a part of it is wrong, or its store is not built in (the error names the
/// feature to add).
///
/// # Panics
///
/// Outside of a tokio runtime.
pub fn connect_lazy(url: &str) -> Result<Client> {
    Client::builder(url).connect_lazy()
}

impl Client {
    /// Prepares a connection to the registry that `url` names.
    pub fn builder(url: &str) -> ClientBuilder {
        let discovery = DiscoveryOptions::default();
        ClientBuilder { url: url.to_owned(), connectors: built_in(), discovery }
    }

    /// Returns a client of `registry`: one of a test, a decorator, or a store that no URL names.
    ///
    /// ```
    /// use service_registry::mem::{Fault, FaultyRegistry, MemRegistry};
    /// use service_registry::Client;
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
        Self::of(Arc::new(registry), DiscoveryOptions::default())
    }

    fn of(registry: Arc<dyn Registry>, options: DiscoveryOptions) -> Self {
        let discovery = Discovery::new(registry.clone(), options);
        Self { registry, discovery, runtime: Handle::current() }
    }

    /// Registers `instance`, and keeps it registered until it is stopped or dropped, as
    /// [`Registration::start`] with default options.
    ///
    /// # Errors
    ///
    /// Those of [`Registration::start`].
    pub async fn register(&self, instance: Instance) -> Result<Registration> {
        self.register_with(instance, RegistrationOptions::default()).await
    }

    /// Registers `instance` with `options`.
    ///
    /// # Errors
    ///
    /// Those of [`Registration::start`].
    pub async fn register_with(
        &self,
        instance: Instance,
        options: RegistrationOptions,
    ) -> Result<Registration> {
        Registration::start(self.registry.clone(), instance, options).await
    }

    /// Returns a view of `service`. All views of one service share a watch.
    ///
    /// It can be called from any thread: the view's task runs on the runtime on which the client was made.
    ///
    /// # Errors
    ///
    /// `Invalid` if `service` is no [`ServiceName`].
    pub fn discover<S>(&self, service: S) -> Result<View>
    where
        S: TryInto<ServiceName>,
        Error: From<S::Error>,
    {
        let service = service.try_into()?;
        let _runtime = self.runtime.enter();
        Ok(self.discovery.view(&service))
    }

    /// Returns the registry below: leases, snapshots and watches.
    pub fn registry(&self) -> &Arc<dyn Registry> {
        &self.registry
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("registry", &self.registry).finish_non_exhaustive()
    }
}

/// A connection that is being prepared: see [`Client::builder`].
#[derive(Clone, Debug)]
#[must_use]
pub struct ClientBuilder {
    url: String,
    connectors: Vec<Arc<dyn Connector>>,
    discovery: DiscoveryOptions,
}

impl ClientBuilder {
    /// Adds the connector of a store of others. For a scheme that is there already, it takes its place.
    pub fn connector(mut self, connector: impl Connector) -> Self {
        self.connectors.push(Arc::new(connector));
        self
    }

    /// Sets the folder for snapshot files, which views show while the store has not answered yet: see
    /// [`DiscoveryOptions::snapshots`]. None unless set.
    pub fn snapshots(mut self, folder: impl Into<PathBuf>) -> Self {
        self.discovery.snapshots = Some(folder.into());
        self
    }

    /// Connects, and makes a request to see that the store answers.
    ///
    /// # Errors
    ///
    /// As [`connect`].
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub async fn connect(self) -> Result<Client> {
        let connected = connect_by(&self.connectors, &self.url.parse()?).await?;
        Ok(Client::of(connected.registry().clone(), self.discovery))
    }

    /// Returns a client without a request: see [`connect_lazy`].
    ///
    /// # Errors
    ///
    /// As [`connect_lazy`]; `Unsupported` if the connector of another store has no lazy connections.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub fn connect_lazy(self) -> Result<Client> {
        let connected = connect_lazy_by(&self.connectors, &self.url.parse()?)?;
        Ok(Client::of(connected.registry().clone(), self.discovery))
    }
}
