//! The configuration of a server.

use super::Format;
use super::etcd::EtcdSection;
use super::invalid;
use super::loader::Loader;
use super::own::OwnSection;
use super::section::{FieldKind, Section, UnusedField};
use crate::advertise::{Advertise, ListenOn};
use crate::store::{DEFAULT_WEIGHT, LeaseId, Target};
use crate::{Client, Instance, InstanceId, Registration, RegistrationOptions, Result, ServiceName};
use serde::{Deserialize, Deserializer};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;

/// The configuration of a server, as in go-zero's `RpcServerConf` (`zrpc/config.go`).
///
/// | field | meaning |
/// | --- | --- |
/// | `Name` | required: the name of the server |
/// | `ListenOn` | required: the address to listen on, `host:port`: see [`ListenOn`] |
/// | `Etcd` | the registry and the service to register as: see [Etcd](super#etcd) |
/// | `ServiceRegistry` | settings that go-zero does not have: see [`ServiceRegistry`](super#serviceregistry) |
///
/// Without `Etcd` and `ServiceRegistry.Url` the server is not registered. It implements `Deserialize`, so it can be a
/// field of your own configuration.
///
/// ```
/// use service_registry::go_zero::ServerConfig;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let config = ServerConfig::from_yaml(
///     "
/// Name: user.rpc
/// ListenOn: 127.0.0.1:0
/// ServiceRegistry: {Url: 'mem://'}
/// ",
/// )?;
/// let listener = config.listen_on().bind().await?;
/// // Register once the listener is bound. The server accepts with `serve::Listener::from(listener)`.
/// let registration = config.register(listener.local_addr()?).await?.expect("it has a registry");
/// assert_eq!(registration.instance().service().as_str(), "user.rpc");
/// registration.stop().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct ServerConfig {
    name: String,
    advertise: Advertise,
    /// The registry and the service to register as.
    place: Option<(Target, ServiceName)>,
    id: Option<InstanceId>,
    weight: u32,
    metadata: BTreeMap<String, String>,
}

/// Fields of `RpcServerConf` and `service.ServiceConf` that this library does not use. Their types are checked as in
/// go-zero.
const UNUSED_FIELDS: [UnusedField; 16] = [
    UnusedField::with_default("Log", FieldKind::Map),
    UnusedField::with_default("Mode", FieldKind::OneOf(&["dev", "test", "rt", "pre", "pro"])),
    UnusedField::optional("MetricsUrl", FieldKind::Text),
    UnusedField::optional("Prometheus", FieldKind::Map),
    UnusedField::optional("Telemetry", FieldKind::Map),
    UnusedField::optional("DevServer", FieldKind::Map),
    UnusedField::optional("Shutdown", FieldKind::Map),
    UnusedField::optional("Profiling", FieldKind::Map),
    UnusedField::optional("Auth", FieldKind::Flag),
    UnusedField::optional("Redis", FieldKind::Map),
    UnusedField::optional("StrictControl", FieldKind::Flag),
    UnusedField::with_default("Timeout", FieldKind::Integer),
    UnusedField::with_default("CpuThreshold", FieldKind::Below(1000)),
    UnusedField::with_default("Health", FieldKind::Flag),
    UnusedField::with_default("Middlewares", FieldKind::Map),
    UnusedField::optional("MethodTimeouts", FieldKind::List),
];

impl ServerConfig {
    /// Reads a configuration in YAML.
    ///
    /// # Errors
    ///
    /// `Invalid`, naming the wrong field or line: see [Errors](super#errors).
    ///
    /// ```
    /// use service_registry::go_zero::ServerConfig;
    ///
    /// let yaml = "{Name: a, ListenOn: ':8080', Etcd: {Hosts: ['127.0.0.1:2379']}}";
    /// let error = ServerConfig::from_yaml(yaml).unwrap_err();
    /// assert_eq!(error.to_string(), "`Etcd.Key` is missing: set it beside `Etcd.Hosts`");
    /// ```
    pub fn from_yaml(yaml: &str) -> Result<Self> {
        Loader::new().parse(Format::Yaml, yaml)
    }

    /// Reads a configuration file with [`Loader::read`]; variables are refused.
    ///
    /// # Errors
    ///
    /// `Invalid` as for [`from_yaml`](Self::from_yaml), or if the file cannot be read.
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        Loader::new().read(path)
    }

    fn new(config: &Section) -> Result<Self> {
        let name = config.required("Name")?;
        let listen_on = config.required("ListenOn")?.parse();
        let listen_on = listen_on.map_err(|error| config.with_field("ListenOn", error))?;
        config.check(&UNUSED_FIELDS)?;
        let (etcd, own) = (EtcdSection::of(config)?, OwnSection::of(config)?);
        let mut this = Self {
            name: name.to_owned(),
            advertise: Advertise::new(listen_on),
            place: None,
            id: None,
            weight: DEFAULT_WEIGHT,
            metadata: BTreeMap::new(),
        };
        let mut skips_verification = false;
        if let Some(own) = &own {
            let key = etcd.as_ref().and_then(EtcdSection::key);
            let name = Some(name).filter(|name| !name.is_empty());
            this.place = own.place(&[("Etcd.Key", key), ("Name", name)])?;
            this.advertise = own.advertise(this.advertise)?;
            this.weight = own.weight()?;
            this.metadata = own.metadata()?;
            skips_verification = own.skips_verification()?;
        }
        if let Some(etcd) = &etcd {
            this.id = etcd.id().map(|id| id.to_string().parse()).transpose()?;
            if this.place.is_none() {
                this.place = etcd.place(skips_verification)?;
            }
        }
        Ok(this)
    }

    /// Returns the name of the server.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the address to listen on.
    pub fn listen_on(&self) -> &ListenOn {
        self.advertise.listen_on()
    }

    /// Returns the registry, if the configuration names one.
    pub fn registry(&self) -> Option<&Target> {
        self.place.as_ref().map(|(registry, _)| registry)
    }

    /// Returns the service to register as, if the configuration names a registry.
    pub fn service(&self) -> Option<&ServiceName> {
        self.place.as_ref().map(|(_, service)| service)
    }

    /// Returns the configured instance id: `Etcd.ID`, if that is above 0.
    pub fn id(&self) -> Option<&InstanceId> {
        self.id.as_ref()
    }

    /// Returns the instance to register for a server that is bound to `bound`, under `lease`.
    ///
    /// Its id is `Etcd.ID`, or the decimal lease id if that is not set, as in go-zero.
    ///
    /// # Errors
    ///
    /// `Invalid` if the configuration names no registry, or if there is [no address to publish](Advertise::address).
    pub fn instance(&self, bound: SocketAddr, lease: LeaseId) -> Result<Instance> {
        let service = self.service().ok_or_else(|| {
            invalid("the configuration names no registry: set `Etcd` or `ServiceRegistry.Url`")
        })?;
        let id = self.id.clone().map_or_else(|| lease.to_string().parse(), Ok)?;
        let address = self.advertise.address(bound)?;
        let instance = Instance::from_parts(service.clone(), id, address);
        Ok(instance.with_weight(self.weight).with_metadata(self.metadata.clone()))
    }

    /// Registers the server, which is bound to `bound`. Returns `None` if the configuration names no registry.
    ///
    /// The same as [`register_with`](Self::register_with) with default options.
    ///
    /// # Errors
    ///
    /// Those of [`register_with`](Self::register_with).
    pub async fn register(&self, bound: SocketAddr) -> Result<Option<Registration>> {
        self.register_with(bound, RegistrationOptions::default()).await
    }

    /// Registers the server, which is bound to `bound`, with `options`. Returns `None` if the configuration names no
    /// registry.
    ///
    /// It creates a lazy client of its own, so with [`RegistrationOptions::in_background`] the server can start while
    /// its registry is down. Use [`register_on`](Self::register_on) to share one client between several servers.
    ///
    /// # Errors
    ///
    /// Those of [`instance`](Self::instance) and [`Client::register_with`].
    pub async fn register_with(
        &self,
        bound: SocketAddr,
        options: RegistrationOptions,
    ) -> Result<Option<Registration>> {
        let Some(target) = self.registry() else { return Ok(None) };
        let client = Client::builder_for(target.clone()).connect_lazy()?;
        self.register_on(&client, bound, options).await.map(Some)
    }

    /// Registers the server, which is bound to `bound`, in the registry of `client`. It uses a new lease id unless
    /// `options` set one.
    ///
    /// # Errors
    ///
    /// Those of [`instance`](Self::instance) and [`Client::register_with`].
    pub async fn register_on(
        &self,
        client: &Client,
        bound: SocketAddr,
        options: RegistrationOptions,
    ) -> Result<Registration> {
        let lease = options.lease.unwrap_or_else(LeaseId::random);
        let instance = self.instance(bound, lease)?;
        client.register_with(instance, options.with_lease(lease)).await
    }
}

impl<'de> Deserialize<'de> for ServerConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let config = Section::deserialize(deserializer)?;
        Self::new(&config).map_err(|error| serde::de::Error::custom(error.chain()))
    }
}
