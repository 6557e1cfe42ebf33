//! All that lies under a layout's root, for its operator: instances, and what should be none or is
//! in another form.

use super::{Form, Layout, Standing, bare_names, go_zero, grpc, native};
use etcd_client::KeyValue;
use registry_core::{ServiceName, record};
use std::collections::BTreeMap;

/// What was read so far.
pub(crate) struct Survey<'a> {
    layout: &'a Layout,
    /// By the service that the key names, whether it has any instance or not.
    named: BTreeMap<ServiceName, Vec<KeyValue>>,
    nameless: Vec<KeyValue>,
}

/// What it comes to. Keys are printable.
#[derive(Debug, Default)]
pub(crate) struct Surveyed {
    pub(crate) services: usize,
    pub(crate) instances: usize,
    /// Keys of services whose values cannot be decoded, and why.
    pub(crate) unreadable: Vec<(String, String)>,
    /// Keys of services that hang on no lease.
    pub(crate) leaseless: Vec<String>,
    /// Keys that are records in another form.
    pub(crate) strangers: Vec<Stranger>,
}

/// A record in another form than was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stranger {
    pub(crate) key: String,
    pub(crate) form: Form,
}

impl<'a> Survey<'a> {
    pub(crate) fn new(layout: &'a Layout) -> Self {
        Self { layout, named: BTreeMap::new(), nameless: Vec::new() }
    }

    /// Adds keys that stand under the root.
    pub(crate) fn add(&mut self, kvs: Vec<KeyValue>) {
        for kv in kvs {
            match self.layout.service_named(kv.key()) {
                Some(service) => self.named.entry(service).or_default().push(kv),
                None => self.nameless.push(kv),
            }
        }
    }

    pub(crate) fn finish(mut self) -> Surveyed {
        let mut surveyed = Surveyed::default();
        for (service, kvs) in std::mem::take(&mut self.named) {
            self.survey(&service, &kvs, &mut surveyed);
        }
        self.add_strangers(&self.nameless, &mut surveyed);
        surveyed
    }

    fn survey(&self, service: &ServiceName, kvs: &[KeyValue], surveyed: &mut Surveyed) {
        self.add_strangers(kvs, surveyed);
        let is_service = kvs.iter().any(|kv| {
            let of = self.layout.service_of(kv.key(), kv.value());
            of.as_ref() == Some(service)
        });
        // Where others may keep what they like, a name is a service if one of its values can be
        // read.
        let Some(keys) = self.layout.service(service).ok().filter(|_| is_service) else { return };
        let standing = kvs.iter().map(Standing::from);
        let instances = keys.read_or_report(standing, |key, why| {
            surveyed.unreadable.push((printable(key), why.to_string()));
        });
        surveyed.services += usize::from(!instances.is_empty());
        surveyed.instances += instances.len();
        let leaseless = kvs.iter().filter(|kv| kv.lease() == 0).map(|kv| printable(kv.key()));
        surveyed.leaseless.extend(leaseless);
    }

    fn add_strangers(&self, kvs: &[KeyValue], surveyed: &mut Surveyed) {
        let strangers = kvs.iter().filter_map(Stranger::of);
        surveyed.strangers.extend(strangers.filter(|stranger| stranger.form != self.layout.form));
    }
}

impl Layout {
    /// The service that a key would be of, whatever its value.
    fn service_named(&self, key: &[u8]) -> Option<ServiceName> {
        let names = key.strip_prefix(self.root.as_bytes())?;
        if self.form == Form::Native {
            return native::service_of(names);
        }
        let (service, _) = bare_names(names)?;
        match service.as_str().strip_suffix(go_zero::SIDE) {
            Some(of) if self.form == Form::GoZero => ServiceName::new(of).ok(),
            _ => Some(service),
        }
    }

    /// Whose form it is.
    pub(crate) fn form(&self) -> Form {
        self.form
    }
}

impl Stranger {
    /// What `kv` is in whichever form it is in, if it is in one.
    pub(crate) fn of(kv: &KeyValue) -> Option<Self> {
        let (service, id) = bare_names(kv.key())?;
        let form = if record::decode(&service, &id, kv.value()).is_ok() {
            Form::Native
        } else if grpc::decode(&service, &id, kv.value()).is_ok_and(|read| read.is_some()) {
            Form::Grpc
        } else if go_zero::is_lease_id(id.as_str()) && go_zero::read_address(kv.value()).is_ok() {
            Form::GoZero
        } else {
            return None;
        };
        Some(Self { key: printable(kv.key()), form })
    }
}

fn printable(key: &[u8]) -> String {
    key.escape_ascii().to_string()
}
