//! Which key an instance has, and what a key and its value say.

use etcd_client::{EventType, KeyValue};
use percent_encoding::{AsciiSet, CONTROLS, percent_decode, utf8_percent_encode};
use registry_core::record::{self, RecordError};
use registry_core::{Change, Instance, InstanceId, Origin, ServiceName};
use std::fmt;
use std::sync::Arc;

/// Where the keys of a registry are: `<prefix>/<service>/<id>`, names escaped.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    /// `<prefix>/`
    root: Arc<str>,
}

impl Layout {
    /// The layout of this library, under `prefix`, or `registry` if that is empty.
    pub(crate) fn native(prefix: &str) -> Self {
        let prefix = match prefix.trim_end_matches('/') {
            "" => "registry",
            prefix => prefix,
        };
        Self { root: format!("{prefix}/").into() }
    }

    /// What all keys start with.
    pub(crate) fn root(&self) -> &str {
        &self.root
    }

    /// The keys of `service`.
    pub(crate) fn service(&self, service: &ServiceName) -> ServiceKeys {
        let prefix = format!("{}{}/", self.root, escape(service.as_str()));
        // Another layout under the same prefix reads other data.
        let origin = Origin::new("etcd", &format!("native:{}", self.root), service);
        ServiceKeys { service: service.clone(), prefix, origin }
    }

    /// The key of `instance`.
    pub(crate) fn key(&self, instance: &Instance) -> String {
        let (service, id) = (instance.service().as_str(), instance.id().as_str());
        format!("{}{}/{}", self.root, escape(service), escape(id))
    }

    /// The service that a key belongs to, if it is the key of an instance.
    pub(crate) fn service_of(&self, key: &[u8]) -> Option<ServiceName> {
        let names = key.strip_prefix(self.root.as_bytes())?;
        let slash = names.iter().position(|byte| *byte == b'/')?;
        let (service, id) = (&names[..slash], &names[slash + 1..]);
        InstanceId::new(unescape(id)?).ok()?;
        ServiceName::new(unescape(service)?).ok()
    }
}

/// The keys of one service: all that start with its prefix, and no others.
#[derive(Clone, Debug)]
pub(crate) struct ServiceKeys {
    service: ServiceName,
    prefix: String,
    origin: Origin,
}

impl ServiceKeys {
    /// The first key: `<root><service>/`.
    pub(crate) fn start(&self) -> &str {
        &self.prefix
    }

    /// What follows the last key. `0` is the byte after `/`.
    pub(crate) fn end(&self) -> String {
        format!("{}0", self.prefix.trim_end_matches('/'))
    }

    /// What the cursors of this service belong to.
    pub(crate) fn origin(&self) -> &Origin {
        &self.origin
    }

    /// The instance that a key names, unless something else wrote the key.
    pub(crate) fn id_of(&self, key: &[u8]) -> Option<InstanceId> {
        let id = key.strip_prefix(self.prefix.as_bytes())?;
        InstanceId::new(unescape(id)?).ok()
    }

    /// The instance that a key and its value describe.
    pub(crate) fn read(&self, key: &[u8], value: &[u8]) -> Result<Instance, Skipped> {
        let id = self.id_of(key).ok_or(Skipped::Foreign)?;
        record::decode(&self.service, &id, value).map_err(|why| Skipped::Undecodable(id, why))
    }
}

/// What the events of a service mean, one revision after another.
#[derive(Debug)]
pub(crate) struct Decoder {
    keys: ServiceKeys,
    /// Whether a record that cannot be decoded was reported.
    warned: bool,
}

impl Decoder {
    pub(crate) fn new(keys: ServiceKeys) -> Self {
        Self { keys, warned: false }
    }

    /// What the events of one revision mean.
    pub(crate) fn changes(&mut self, events: &[(EventType, &KeyValue)]) -> Vec<Change> {
        events.iter().filter_map(|(kind, kv)| self.change(*kind, kv)).collect()
    }

    /// What an event means; nothing, if it is about a key that is not an instance's.
    fn change(&mut self, kind: EventType, kv: &KeyValue) -> Option<Change> {
        if kind == EventType::Delete {
            return self.keys.id_of(kv.key()).map(Change::Delete);
        }
        let why = match self.keys.read(kv.key(), kv.value()) {
            Ok(instance) => return Some(Change::Put(instance)),
            Err(why) => why,
        };
        if !self.warned {
            self.warned = true;
            let key = kv.key().escape_ascii();
            tracing::warn!(%key, %why, "skipped what cannot be decoded, and says so once");
        }
        match why {
            Skipped::Undecodable(id, _) => Some(Change::Delete(id)),
            Skipped::Foreign => None,
        }
    }
}

/// Why what stands under a key of a service is no instance.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Skipped {
    /// The key is an instance's, the value is no record.
    #[error("{1}")]
    Undecodable(InstanceId, RecordError),
    /// Somebody else wrote it.
    #[error("the key is none that this library writes")]
    Foreign,
}

/// What would end a name or be mistaken for an escape, and what does not print. All that is not
/// ASCII is escaped in any case.
const ESCAPED: &AsciiSet = &CONTROLS.add(b'/').add(b'%');

fn escape(name: &str) -> impl fmt::Display {
    utf8_percent_encode(name, ESCAPED)
}

/// Undoes [`escape`]. Other spellings of the same name are refused, so that no two keys mean one
/// instance.
fn unescape(name: &[u8]) -> Option<String> {
    let text = percent_decode(name).decode_utf8().ok()?;
    let canonical = escape(&text).to_string();
    (canonical.as_bytes() == name).then(|| text.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn instance(service: &str, id: &str) -> Instance {
        let address = "10.0.0.1:80".parse().unwrap();
        Instance::new(service.parse().unwrap(), id.parse().unwrap(), address)
    }

    #[test]
    fn keys_are_written_in_a_form_that_stays() {
        let layout = Layout::native("");
        assert_eq!(layout.key(&instance("user.rpc", "node-1")), "registry/user.rpc/node-1");
        let layout = Layout::native("prod/eu/");
        assert_eq!(layout.key(&instance("a/b c", "1%2F")), "prod/eu/a%2Fb c/1%252F");
        assert_eq!(layout.key(&instance("\u{e9}~", ".")), "prod/eu/%C3%A9~/.");
        assert_eq!(layout.service(&"a/b".parse().unwrap()).start(), "prod/eu/a%2Fb/");
    }

    #[test]
    fn no_service_has_the_keys_of_another() {
        let layout = Layout::native("r");
        let user = layout.service(&"user".parse().unwrap());
        assert!(user.id_of(b"r/user/1").is_some());
        for other in ["r/user2/1", "r/user", "r/use/1", "s/user/1"] {
            assert_eq!(user.id_of(other.as_bytes()), None, "{other}");
        }
        let key = layout.key(&instance("user/a", "1"));
        assert_eq!(user.id_of(key.as_bytes()), None);
    }

    #[test]
    fn a_key_that_would_not_be_written_is_foreign() {
        let layout = Layout::native("r");
        let user = layout.service(&"user".parse().unwrap());
        let foreign = [
            "r/user/",
            "r/user/a/b",
            "r/user/%61",
            "r/user/%2f",
            "r/user/%",
            "r/user/%FF",
            "r/user/a%",
            "r/user/\u{e9}",
            "r/user/a\n",
            "r/user/%0A",
        ];
        for key in foreign {
            assert!(matches!(user.read(key.as_bytes(), b"{}"), Err(Skipped::Foreign)), "{key}");
            assert_eq!(layout.service_of(key.as_bytes()), None, "{key}");
        }
        for key in ["r/", "r//1", "r/user", "r/%2Fuser/1", "x/user/1"] {
            assert_eq!(layout.service_of(key.as_bytes()), None, "{key}");
        }
        assert!(matches!(user.read(b"r/user/a", b"{}"), Err(Skipped::Undecodable(..))));
    }

    proptest! {
        #[test]
        fn every_name_round_trips(prefix in "[a-z/]{0,8}", service in ".{1,40}", id in ".{1,40}") {
            let (Ok(service), Ok(id)) = (ServiceName::new(service), InstanceId::new(id)) else {
                return Ok(());
            };
            let layout = Layout::native(&prefix);
            let address = "10.0.0.1:80".parse().unwrap();
            let key = layout.key(&Instance::new(service.clone(), id.clone(), address));
            prop_assert!(key.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{}", key);
            prop_assert_eq!(layout.service(&service).id_of(key.as_bytes()), Some(id));
            prop_assert_eq!(layout.service_of(key.as_bytes()), Some(service));
        }

        #[test]
        fn no_two_keys_mean_one_instance(id: Vec<u8>) {
            let layout = Layout::native("r");
            let user = layout.service(&"user".parse().unwrap());
            let key = [b"r/user/", id.as_slice()].concat();
            if let Some(id) = user.id_of(&key) {
                let address = "10.0.0.1:80".parse().unwrap();
                let instance = Instance::new(user.service.clone(), id, address);
                prop_assert_eq!(layout.key(&instance).into_bytes(), key);
            }
        }
    }
}
