//! The native layout: `<prefix>/<service>/<id>`, with escaped names, contains a versioned record.

use super::{Encoded, Layout, ServiceKeys};
use percent_encoding::{AsciiSet, CONTROLS, percent_decode, utf8_percent_encode};
use registry_core::encoding::{self, Stored};
use registry_core::{BoxError, InstanceId, Record, Result, ServiceName};
use std::borrow::Cow;

pub(super) const NAME: &str = "native";

#[derive(Debug)]
pub(super) struct Native {
    root: String,
}

impl Native {
    /// Returns the layout under `path`, or under `registry` if it is empty.
    pub(super) fn new(path: &str) -> Self {
        let root = match path.trim_end_matches('/') {
            "" => "registry/".to_owned(),
            path => format!("{path}/"),
        };
        Self { root }
    }
}

impl Layout for Native {
    fn name(&self) -> &str {
        NAME
    }

    fn root(&self) -> &str {
        &self.root
    }

    fn keys(&self, service: &ServiceName) -> Result<ServiceKeys> {
        Ok(ServiceKeys::new([&self.root, &*escape(service.as_str()), "/"].concat()))
    }

    fn encode(&self, record: &Record) -> Result<Encoded> {
        let value = encoding::encode(&without_lease(record))?;
        Ok(Encoded::new(escape(record.id().as_str()), value))
    }

    fn encode_withdrawn(&self, record: &Record) -> Result<Option<Encoded>> {
        let value = encoding::encode_withdrawn(&without_lease(record))?;
        Ok(Some(Encoded::new(escape(record.id().as_str()), value)))
    }

    fn decode_id(&self, text: &[u8]) -> Result<Option<InstanceId>, BoxError> {
        match decode_id(text) {
            Some(id) => Ok(Some(id)),
            // No other program should write under this prefix.
            None => Err("the key is not in the native format".into()),
        }
    }

    fn decode(
        &self,
        service: &ServiceName,
        id: &InstanceId,
        value: Option<&[u8]>,
        _side: Option<&[u8]>,
    ) -> Result<Option<Stored>, BoxError> {
        Ok(value.map(|value| encoding::decode(service, id, value)).transpose()?)
    }

    fn service_of(&self, key: &[u8]) -> Option<ServiceName> {
        let names = key.strip_prefix(self.root.as_bytes())?;
        let slash = names.iter().position(|byte| *byte == b'/')?;
        decode_id(&names[slash + 1..])?;
        ServiceName::new(unescape(&names[..slash])?).ok()
    }

    fn shares_root(&self) -> bool {
        false
    }
}

/// Removes the lease, which etcd stores with each key.
fn without_lease(record: &Record) -> Record {
    let bare = Record::new(record.instance().clone());
    match record.ttl() {
        Some(ttl) => bare.with_ttl(ttl),
        None => bare,
    }
}

fn decode_id(text: &[u8]) -> Option<InstanceId> {
    InstanceId::new(unescape(text)?).ok()
}

/// The ASCII characters to escape: separators, the escape character, and control characters. Non-ASCII is
/// always escaped.
const ESCAPED: &AsciiSet = &CONTROLS.add(b'/').add(b'%');

fn escape(name: &str) -> Cow<'_, str> {
    utf8_percent_encode(name, ESCAPED).into()
}

/// Reverses [`escape`]. Other spellings of the same name are refused, so that no two keys represent one instance.
fn unescape(name: &[u8]) -> Option<Cow<'_, str>> {
    let is_plain = |byte: &u8| matches!(byte, b' '..=b'~') && !matches!(byte, b'/' | b'%');
    if name.iter().all(is_plain) {
        return str::from_utf8(name).ok().map(Cow::Borrowed); // the common case
    }
    let text = percent_decode(name).decode_utf8().ok()?;
    let canonical = escape(&text).as_bytes() == name;
    canonical.then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::keyspace::{DesiredKeys, Keyspace};
    use crate::layout::service::{Kv, Part, ServiceLayout};
    use proptest::prelude::*;
    use registry_core::{Instance, LeaseId, Revision};
    use std::sync::Arc;
    use std::time::Duration;

    fn native(path: &str) -> Keyspace {
        Keyspace::new(Arc::new(Native::new(path)))
    }

    fn instance(service: &str, id: &str) -> Instance {
        let address = "10.0.0.1:80".parse().unwrap();
        Instance::from_parts(service.parse().unwrap(), id.parse().unwrap(), address)
    }

    /// Returns the keys under lease 9 with a ttl of 10 s.
    fn written(layout: &Keyspace, instance: &Instance) -> DesiredKeys {
        let record = Record::new(instance.clone()).with_lease(LeaseId::new(9).unwrap());
        layout.desired_keys(&record.with_ttl(Duration::from_secs(10))).unwrap()
    }

    fn key(layout: &Keyspace, instance: &Instance) -> String {
        written(layout, instance).key.name
    }

    fn at<'a>(key: &'a [u8], value: &'a [u8]) -> Kv<'a> {
        Kv { key, value, lease: 9, modified: 3 }
    }

    fn keys(layout: &Keyspace, service: &str) -> ServiceLayout {
        layout.service(&service.parse().unwrap()).unwrap()
    }

    /// Returns the id in a key of the service, or `None` if the key is foreign.
    fn id_of(keys: &ServiceLayout, key: &[u8]) -> Option<InstanceId> {
        keys.locate(key, b"").ok()?.map(|(part, id)| {
            assert_eq!(part, Part::Key);
            id
        })
    }

    #[test]
    fn record_has_stable_bytes() {
        let written = written(&native(""), &instance("user.rpc", "node-1").with_weight(7));
        assert_eq!(written.key.name, "registry/user.rpc/node-1");
        let value =
            r#"{"v":1,"address":"10.0.0.1:80","weight":7,"status":"up","ttl":10000,"metadata":{}}"#;
        assert_eq!(str::from_utf8(&written.key.value.unwrap()).unwrap(), value);
        assert_eq!(written.side, None);
        let layout = native("prod/eu/");
        assert_eq!(key(&layout, &instance("a/b c", "1%2F")), "prod/eu/a%2Fb c/1%252F");
        assert_eq!(key(&layout, &instance("\u{e9}~", ".")), "prod/eu/%C3%A9~/.");
        let keys = keys(&layout, "a/b");
        assert_eq!((keys.start(), keys.end()), (&b"prod/eu/a%2Fb/"[..], &b"prod/eu/a%2Fb0"[..]));
        let cursor = keys.origin().cursor(Revision::new(7), "x");
        assert_eq!(cursor.to_string(), "1:etcd:native%3Aprod/eu/:a/b:7:x");
    }

    #[test]
    fn services_share_no_keys() {
        let layout = native("r");
        let user = keys(&layout, "user");
        assert!(id_of(&user, b"r/user/1").is_some());
        for other in ["r/user2/1", "r/user", "r/use/1", "s/user/1"] {
            assert_eq!(id_of(&user, other.as_bytes()), None, "{other}");
        }
        assert_eq!(id_of(&user, key(&layout, &instance("user/a", "1")).as_bytes()), None);
    }

    #[test]
    fn key_in_another_spelling_is_foreign() {
        let layout = native("r");
        let user = keys(&layout, "user");
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
            assert!(user.locate(key.as_bytes(), b"").is_err(), "{key}");
            assert_eq!(layout.layout().service_of(key.as_bytes()), None, "{key}");
        }
        for key in ["r/", "r//1", "r/user", "r/%2Fuser/1", "x/user/1"] {
            assert_eq!(layout.layout().service_of(key.as_bytes()), None, "{key}");
        }
        let id = id_of(&user, b"r/user/a").unwrap();
        assert!(user.decode(&id, Some(at(b"r/user/a", b"{}")), None).is_err());
    }

    proptest! {
        #[test]
        fn every_name_round_trips(prefix in "[a-z/]{0,8}", service in ".{1,40}", id in ".{1,40}") {
            let (Ok(service), Ok(id)) = (ServiceName::new(service), InstanceId::new(id)) else {
                return Ok(());
            };
            let layout = native(&prefix);
            let address = "10.0.0.1:80".parse().unwrap();
            let instance = Instance::from_parts(service.clone(), id.clone(), address);
            let written = written(&layout, &instance).key;
            let (key, value) = (written.name.as_bytes(), written.value.unwrap());
            prop_assert!(key.iter().all(|byte| (b' '..=b'~').contains(byte)), "{}", written.name);
            let keys = layout.service(&service).unwrap();
            prop_assert_eq!(id_of(&keys, key), Some(id.clone()));
            let record = Record::new(instance).with_lease(LeaseId::new(9).unwrap());
            let record = record.with_ttl(Duration::from_secs(10)).with_revision(Revision::new(3));
            let found = keys.decode(&id, Some(at(key, &value)), None).unwrap();
            prop_assert_eq!(found, Some(Stored::Live(record)));
            prop_assert_eq!(layout.layout().service_of(key), Some(service));
        }

        #[test]
        fn different_keys_never_represent_the_same_instance(id: Vec<u8>) {
            let layout = native("r");
            let key = [b"r/user/", id.as_slice()].concat();
            if let Some(id) = id_of(&keys(&layout, "user"), &key) {
                let written = self::key(&layout, &instance("user", id.as_str()));
                prop_assert_eq!(written.into_bytes(), key);
            }
        }
    }
}
