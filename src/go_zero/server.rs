//! Who registers.

use super::any_case::AnyCase;
use super::etcd::EtcdSection;
use super::field::{invalid, literal, stated, wrong};
use super::{service, yaml};
use crate::advertise::{Advertise, ListenOn};
use crate::{
    DEFAULT_WEIGHT, Instance, InstanceId, LeaseId, Registration, RegistrationOptions, Result,
    ServiceName, Target, connect_target_lazy,
};
use serde::{Deserialize, Deserializer};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;

/// The configuration of a server, as in go-zero's `RpcServerConf` (`zrpc/config.go`).
///
/// | field | meaning |
/// | --- | --- |
/// | `Name` | required: the name of the server |
/// | `ListenOn` | required: `host:port`, [`ListenOn`] |
/// | `Etcd` | where to register, and as what: [see there](super#etcd); without it, or with an empty one, nowhere |
///
/// And these, which go-zero has not:
///
/// | field | default | meaning |
/// | --- | --- | --- |
/// | `Registry` | none | the URL of any registry, such as `redis://127.0.0.1:6379`. It is used instead of `Etcd.Hosts`; its option `ttl` is the ttl, 10 s unless stated |
/// | `Key` | `Etcd.Key`, else `Name` | the service in that `Registry` |
/// | `AdvertiseOn`, `Interface`, `Cidr` | none | which address to publish: [`advertise`](crate::advertise) |
/// | `Weight` | 100 | the share of the load |
/// | `Metadata` | none | a map of texts |
///
/// It can be a field of a configuration of your own, as it implements `Deserialize`.
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
/// Registry: mem://
/// ",
/// )?;
/// let listener = tokio::net::TcpListener::bind(config.listen_on().to_string()).await?;
/// // It listens, so it may be found. Its server accepts with `serve::Listener::from(listener)`.
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
    registry: Option<Target>,
    service: ServiceName,
    id: Option<InstanceId>,
    weight: u32,
    metadata: BTreeMap<String, String>,
}

impl ServerConfig {
    /// Reads a configuration.
    ///
    /// # Errors
    ///
    /// `Invalid`, naming what is wrong: [see there](super#errors).
    ///
    /// ```
    /// use service_registry::go_zero::ServerConfig;
    ///
    /// let yaml = "{Name: a, ListenOn: ':8080', Etcd: {Hosts: ['127.0.0.1:2379']}}";
    /// let error = ServerConfig::from_yaml(yaml).unwrap_err();
    /// assert_eq!(error.to_string(), "`Etcd.Key` is missing: set it beside `Etcd.Hosts`");
    /// ```
    pub fn from_yaml(yaml: &str) -> Result<Self> {
        let AnyCase(fields) = yaml::from_yaml(yaml)?;
        Self::new(fields)
    }

    /// Reads the configuration in a file.
    ///
    /// # Errors
    ///
    /// `Invalid` as for [`from_yaml`](Self::from_yaml), or if the file cannot be read.
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        yaml::read_with(path.as_ref(), Self::from_yaml)
    }

    fn new(fields: Fields) -> Result<Self> {
        let name = literal("Name", fields.name.as_ref())?;
        let name = name.ok_or_else(|| invalid("a server has a `Name`"))?;
        let advertise = fields.advertise()?;
        let AnyCase(etcd) = fields.etcd.unwrap_or_default();
        let id = etcd.id().map(|id| id.to_string().parse()).transpose()?;
        let place = service(fields.registry.as_ref(), fields.key.as_ref(), &etcd, Some(name))?;
        let (registry, service) = match place {
            Some((registry, service)) => (Some(registry), service),
            None => (None, name.parse().map_err(|error| wrong("Name", error))?),
        };
        Ok(Self {
            name: name.to_owned(),
            advertise,
            registry,
            service,
            id,
            weight: fields.weight.unwrap_or(DEFAULT_WEIGHT),
            metadata: fields.metadata.unwrap_or_default(),
        })
    }

    /// The name of the server.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where to listen.
    pub fn listen_on(&self) -> &ListenOn {
        self.advertise.listen_on()
    }

    /// Where to register, if it should.
    pub fn registry(&self) -> Option<&Target> {
        self.registry.as_ref()
    }

    /// The service to register as: the name, if the configuration states no key.
    pub fn service(&self) -> &ServiceName {
        &self.service
    }

    /// What to register, once the server listens at `bound`, under `lease`.
    ///
    /// Its id is `Etcd.ID`; unless that is set, the lease's, in decimal, as is go-zero's custom.
    ///
    /// # Errors
    ///
    /// `Invalid` if there is [no address to publish](Advertise::address), or the metadata is too large.
    pub fn instance(&self, bound: SocketAddr, lease: LeaseId) -> Result<Instance> {
        let id = self.id.clone().map_or_else(|| lease.to_string().parse(), Ok)?;
        let address = self.advertise.address(bound.port())?;
        let instance = Instance::new(self.service.clone(), id, address);
        instance.with_weight(self.weight).with_metadata(self.metadata.clone())
    }

    /// Registers the server, which listens at `bound`; `None` if the configuration names no registry.
    ///
    /// This is [`register_with`](Self::register_with) with default options.
    ///
    /// # Errors
    ///
    /// Those of [`register_with`](Self::register_with).
    pub async fn register(&self, bound: SocketAddr) -> Result<Option<Registration>> {
        self.register_with(bound, RegistrationOptions::default()).await
    }

    /// Registers the server, which listens at `bound`, with `options`; `None` if the configuration names no registry.
    ///
    /// This is [`connect_target_lazy`], [`instance`](Self::instance) and [`Registration::start`], under a new
    /// lease id unless the options state one. With [`Start::InBackground`](crate::Start::InBackground) the server starts
    /// while its registry is down.
    ///
    /// # Errors
    ///
    /// Those of the three.
    pub async fn register_with(
        &self,
        bound: SocketAddr,
        options: RegistrationOptions,
    ) -> Result<Option<Registration>> {
        let Some(target) = &self.registry else { return Ok(None) };
        let lease = options.lease.unwrap_or_else(LeaseId::random);
        let instance = self.instance(bound, lease)?;
        let registry = connect_target_lazy(target)?;
        let options = RegistrationOptions { lease: Some(lease), ..options };
        Registration::start(registry, instance, options).await.map(Some)
    }
}

impl<'de> Deserialize<'de> for ServerConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let AnyCase(fields) = AnyCase::deserialize(deserializer)?;
        Self::new(fields).map_err(|error| serde::de::Error::custom(error.chain()))
    }
}

/// What the YAML may have.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Fields {
    name: Option<String>,
    #[serde(rename = "listenon")]
    listen_on: Option<String>,
    etcd: Option<AnyCase<EtcdSection>>,
    registry: Option<String>,
    key: Option<String>,
    #[serde(rename = "advertiseon")]
    advertise_on: Option<String>,
    interface: Option<String>,
    cidr: Option<String>,
    weight: Option<u32>,
    metadata: Option<BTreeMap<String, String>>,
}

impl Fields {
    fn advertise(&self) -> Result<Advertise> {
        let listen_on = stated(self.listen_on.as_ref());
        let listen_on = listen_on.ok_or_else(|| invalid("a server has a `ListenOn`"))?;
        let listen_on = listen_on.parse().map_err(|error| wrong("ListenOn", error))?;
        let mut advertise = Advertise::new(listen_on);
        if let Some(address) = stated(self.advertise_on.as_ref()) {
            advertise =
                advertise.with_address(address).map_err(|error| wrong("AdvertiseOn", error))?;
        }
        if let Some(interface) = stated(self.interface.as_ref()) {
            advertise = advertise.with_interface(interface);
        }
        if let Some(cidr) = stated(self.cidr.as_ref()) {
            advertise = advertise.with_cidr(cidr).map_err(|error| wrong("Cidr", error))?;
        }
        Ok(advertise)
    }
}
