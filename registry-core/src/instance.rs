//! Instances: the processes that serve a service.

use crate::metadata::Metadata;
use crate::{Address, Error, ErrorKind, InstanceId, Result, ServiceName};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

/// The maximum size of an instance's metadata, in bytes of its JSON form.
///
/// It keeps nearly every [record](crate::encoding) under 64 KiB, so that 1,000 records, which is what etcd sends in one
/// watch response, fit a bounded buffer.
pub const MAX_METADATA_LEN: usize = 63 * 1024;

/// The default weight of an instance.
pub const DEFAULT_WEIGHT: u32 = 100;

/// The status of an instance: whether it accepts new calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum InstanceStatus {
    /// It accepts calls.
    #[default]
    Up,
    /// It finishes its calls in flight and accepts no new ones.
    Draining,
    /// The record has a status that this release does not know. The instance is not available.
    Unknown,
}

/// An additional port of an instance, besides that of its address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Port {
    #[serde(rename = "port")]
    number: u16,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    protocol: Option<String>,
}

impl Port {
    /// Returns a port without a stated protocol.
    pub fn new(number: u16) -> Self {
        Self { number, protocol: None }
    }

    /// Sets the protocol, such as `grpc`, `http` or `http/metrics`.
    #[must_use]
    pub fn with_protocol(mut self, protocol: impl Into<String>) -> Self {
        self.protocol = Some(protocol.into());
        self
    }

    /// Returns the number.
    pub fn number(&self) -> u16 {
        self.number
    }

    /// Returns the protocol, if one is stated.
    pub fn protocol(&self) -> Option<&str> {
        self.protocol.as_deref()
    }
}

impl From<u16> for Port {
    fn from(number: u16) -> Self {
        Self::new(number)
    }
}

/// One process that serves a service at an address.
///
/// A clone is a cheap handle to the same immutable data.
///
/// ```
/// use registry_core::{Instance, InstanceStatus};
///
/// # fn main() -> registry_core::Result<()> {
/// let bound = "10.0.0.1:8080".parse().unwrap(); // usually `listener.local_addr()?`
/// let instance = Instance::new("user.rpc", bound)?
///     .with_weight(200)
///     .with_zone("eu-1")
///     .with_label("tier", "gold");
/// assert_eq!(instance.status(), InstanceStatus::Up);
/// assert_eq!(instance.zone(), Some("eu-1"));
/// # Ok(())
/// # }
/// ```
///
/// No setter fails. Every `register` calls [`check`](Self::check), which refuses invalid instances.
#[derive(Clone, PartialEq, Eq)]
pub struct Instance(Arc<Inner>);

#[derive(Clone, PartialEq, Eq)]
struct Inner {
    service: ServiceName,
    id: InstanceId,
    address: Address,
    weight: u32,
    status: InstanceStatus,
    metadata: Metadata,
    /// Boxed, since most instances have no extra fields.
    extra: Option<Box<Extra>>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Extra {
    ports: BTreeMap<String, Port>,
    zone: Option<String>,
    labels: BTreeMap<String, String>,
}

impl Instance {
    /// Returns an instance of `service` at the address `bound`, with a [random](InstanceId::random) id, the status `Up`
    /// and the [default weight](DEFAULT_WEIGHT).
    ///
    /// `bound` is the local address of a listener. An unspecified address (`0.0.0.0:8080`) stands for an address of
    /// this machine: `Client` in the crate `service-registry` replaces it on registration, but a store refuses it.
    ///
    /// # Errors
    ///
    /// `Invalid` if `service` is not a valid [`ServiceName`].
    pub fn new<S>(service: S, bound: SocketAddr) -> Result<Self>
    where
        S: TryInto<ServiceName>,
        Error: From<S::Error>,
    {
        Ok(Self::from_parts(service.try_into()?, InstanceId::random(), bound.into()))
    }

    /// Returns an instance of these parts, with the status `Up` and the [default weight](DEFAULT_WEIGHT).
    ///
    /// ```
    /// use registry_core::Instance;
    ///
    /// # fn main() -> registry_core::Result<()> {
    /// let instance = Instance::from_parts("user.rpc".parse()?, "1".parse()?, "db-1.prod:80".parse()?);
    /// assert_eq!(instance.address().host(), "db-1.prod");
    /// # Ok(())
    /// # }
    /// ```
    pub fn from_parts(service: ServiceName, id: InstanceId, address: Address) -> Self {
        let (weight, status, metadata) = (DEFAULT_WEIGHT, InstanceStatus::Up, Metadata::default());
        Self(Arc::new(Inner { service, id, address, weight, status, metadata, extra: None }))
    }

    /// Sets the id. If a process keeps its id across restarts, its new record replaces the old one at once.
    #[must_use]
    pub fn with_id(mut self, id: InstanceId) -> Self {
        Arc::make_mut(&mut self.0).id = id;
        self
    }

    /// Sets the address that callers dial.
    #[must_use]
    pub fn with_address(mut self, address: Address) -> Self {
        Arc::make_mut(&mut self.0).address = address;
        self
    }

    /// Sets the weight: the share of the load relative to the other instances of the service. 0 means no load.
    #[must_use]
    pub fn with_weight(mut self, weight: u32) -> Self {
        Arc::make_mut(&mut self.0).weight = weight;
        self
    }

    /// Sets the status.
    #[must_use]
    pub fn with_status(mut self, status: InstanceStatus) -> Self {
        Arc::make_mut(&mut self.0).status = status;
        self
    }

    /// Adds a named port besides that of the address, or replaces the port of that name.
    ///
    /// ```
    /// use registry_core::{Instance, Port};
    ///
    /// # fn main() -> registry_core::Result<()> {
    /// let instance = Instance::new("user.rpc", "10.0.0.1:8080".parse().unwrap())?
    ///     .with_port("admin", 9090)
    ///     .with_port("metrics", Port::new(9100).with_protocol("http"));
    /// assert_eq!(instance.ports()["admin"].number(), 9090);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn with_port(mut self, name: impl Into<String>, port: impl Into<Port>) -> Self {
        self.extra_mut().ports.insert(name.into(), port.into());
        self
    }

    /// Sets the zone that the instance runs in.
    #[must_use]
    pub fn with_zone(mut self, zone: impl Into<String>) -> Self {
        self.extra_mut().zone = Some(zone.into());
        self
    }

    /// Adds a label, or replaces the label of that name. Callers can select instances by label.
    #[must_use]
    pub fn with_label(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.extra_mut().labels.insert(name.into(), value.into());
        self
    }

    fn extra_mut(&mut self) -> &mut Extra {
        Arc::make_mut(&mut self.0).extra.get_or_insert_default()
    }

    /// Replaces the metadata.
    #[must_use]
    pub fn with_metadata<K: Into<String>, V: Into<String>>(
        self,
        entries: impl IntoIterator<Item = (K, V)>,
    ) -> Self {
        let map = entries.into_iter().map(|(k, v)| (k.into(), v.into())).collect();
        self.with_encoded(Metadata::new(&map))
    }

    /// Replaces the metadata by decoded metadata of any size.
    pub(crate) fn with_encoded(mut self, metadata: Metadata) -> Self {
        Arc::make_mut(&mut self.0).metadata = metadata;
        self
    }

    /// Checks whether stores register the instance. A reader may still find such an instance in a store, written by an
    /// earlier release or another program.
    ///
    /// ```
    /// use registry_core::Instance;
    ///
    /// # fn main() -> registry_core::Result<()> {
    /// let instance = Instance::new("user.rpc", "0.0.0.0:8080".parse().unwrap())?;
    /// assert!(instance.check().is_err()); // others cannot dial 0.0.0.0
    /// instance.with_address("10.0.0.1:8080".parse()?).check()
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// `Invalid` if the [service name](ServiceName::check_new) is path-like or reserved, if the address is
    /// unspecified, if a port is 0, if a label or an entry of the metadata has an empty name, or if the metadata is
    /// larger than [`MAX_METADATA_LEN`].
    pub fn check(&self) -> Result<()> {
        let invalid = |message| Err(Error::new(ErrorKind::Invalid, message));
        self.service().check_new()?;
        if !self.address().is_dialable() {
            return invalid(format!(
                "others cannot dial the address: set another with `Instance::with_address`, got=`{}`",
                self.address()
            ));
        }
        if let Some((name, _)) = self.ports().iter().find(|(_, port)| port.number() == 0) {
            return invalid(format!("a port is not within 1 to 65535, port=`{name}`, got=`0`"));
        }
        if self.labels().contains_key("") || self.0.metadata.has_empty_key() {
            return invalid("a label or an entry of the metadata has an empty name".into());
        }
        let len = self.0.metadata.len();
        if len > MAX_METADATA_LEN {
            return invalid(format!(
                "the metadata is larger than {MAX_METADATA_LEN} bytes as JSON, got=`{len}`"
            ));
        }
        Ok(())
    }

    /// Returns the service.
    pub fn service(&self) -> &ServiceName {
        &self.0.service
    }

    /// Returns the id, which is unique within the service.
    pub fn id(&self) -> &InstanceId {
        &self.0.id
    }

    /// Returns the address that callers dial.
    pub fn address(&self) -> &Address {
        &self.0.address
    }

    /// Returns the weight: the share of the load relative to the other instances of the service.
    pub fn weight(&self) -> u32 {
        self.0.weight
    }

    /// Returns the status.
    pub fn status(&self) -> InstanceStatus {
        self.0.status
    }

    /// Returns whether the instance may be called: its status is `Up` and its weight is above 0.
    pub fn is_available(&self) -> bool {
        self.0.status == InstanceStatus::Up && self.0.weight > 0
    }

    /// Returns the named ports besides that of the address.
    pub fn ports(&self) -> &BTreeMap<String, Port> {
        static NONE: BTreeMap<String, Port> = BTreeMap::new();
        self.0.extra.as_ref().map_or(&NONE, |extra| &extra.ports)
    }

    /// Returns the zone that the instance runs in, if it states one.
    pub fn zone(&self) -> Option<&str> {
        self.0.extra.as_ref()?.zone.as_deref()
    }

    /// Returns the labels by name.
    pub fn labels(&self) -> &BTreeMap<String, String> {
        static NONE: BTreeMap<String, String> = BTreeMap::new();
        self.0.extra.as_ref().map_or(&NONE, |extra| &extra.labels)
    }

    /// Returns the metadata: a free-form map that this library does not interpret.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        self.0.metadata.map()
    }

    pub(crate) fn encoded_metadata(&self) -> &Metadata {
        &self.0.metadata
    }
}

impl fmt::Debug for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Instance")
            .field("service", self.service())
            .field("id", self.id())
            .field("address", self.address())
            .field("weight", &self.weight())
            .field("status", &self.status())
            .field("metadata", self.metadata())
            .field("extra", &self.0.extra)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instance() -> Instance {
        let address = "10.0.0.1:80".parse().unwrap();
        Instance::from_parts("a".parse().unwrap(), "1".parse().unwrap(), address)
    }

    #[test]
    fn changing_a_clone_does_not_change_the_original() {
        let one = instance();
        let two = one.clone().with_weight(7).with_status(InstanceStatus::Draining);
        assert_eq!((one.weight(), one.status()), (DEFAULT_WEIGHT, InstanceStatus::Up));
        assert_eq!((two.weight(), two.status()), (7, InstanceStatus::Draining));
    }

    #[test]
    fn decoded_and_undecoded_metadata_are_equal() {
        let entries = [("b", "\u{7f}\n\"x"), ("a", "")];
        let (one, two) = (instance().with_metadata(entries), instance().with_metadata(entries));
        assert_eq!(one.metadata()["b"], "\u{7f}\n\"x");
        assert_eq!(one, two);
        assert_eq!(one.clone(), one);
        let none: [(&str, &str); 0] = [];
        assert_eq!(two.with_metadata(none), instance());
        assert!(instance().metadata().is_empty());
    }

    #[test]
    fn check_refuses_invalid_instances_and_names_the_value() {
        let largest = instance().with_metadata([("k", "v".repeat(63 * 1024 - 8))]);
        assert!(largest.check().is_ok());
        let path = |name: &str| Instance::new(name, ([10, 0, 0, 1], 80).into()).unwrap();
        let refused = [
            (path("a//b"), "got=`a//b`"),
            (path("users/../x"), "got=`users/../x`"),
            (path("~pulse"), "got=`~pulse`"),
            // A control character takes six bytes in JSON.
            (instance().with_metadata([("k", "\u{1}".repeat(11_000))]), "larger than 64512 bytes"),
            (instance().with_metadata([("", "a"), ("b", "c")]), "empty name"),
            (instance().with_label("", "a"), "empty name"),
            (instance().with_port("admin", 0), "port=`admin`"),
            (Instance::new("a", ([0, 0, 0, 0], 80).into()).unwrap(), "got=`0.0.0.0:80`"),
            (Instance::new("a", ([10, 0, 0, 1], 0).into()).unwrap(), "got=`10.0.0.1:0`"),
        ];
        for (instance, why) in refused {
            let error = instance.check().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid);
            assert!(error.to_string().contains(why), "{error}");
        }
    }

    #[test]
    fn new_draws_a_random_id() {
        let new = || Instance::new("a", ([10, 0, 0, 1], 80).into()).unwrap();
        assert_ne!(new().id(), new().id());
        assert_eq!(new().with_id("1".parse().unwrap()).id().as_str(), "1");
    }
}
