//! This library's own layout: `<prefix>/<service>/<id>`, names escaped, holds a versioned record.

use super::Record;
use percent_encoding::{AsciiSet, CONTROLS, percent_decode, utf8_percent_encode};
use registry_core::{Instance, InstanceId, ServiceName, record};
use std::borrow::Cow;

/// What is in front of the ids of `service`.
pub(super) fn prefix(root: &str, service: &ServiceName) -> String {
    [root, &escape(service.as_str()), "/"].concat()
}

pub(super) fn record(prefix: &str, instance: &Instance) -> Record {
    let key = [prefix, &escape(instance.id().as_str())].concat();
    Record { key, value: record::encode(instance), side: None }
}

/// The id that is written like this.
pub(super) fn id(id: &[u8]) -> Option<InstanceId> {
    InstanceId::new(unescape(id)?).ok()
}

/// The service of a key, of which `names` is what follows the root.
pub(super) fn service_of(names: &[u8]) -> Option<ServiceName> {
    let slash = names.iter().position(|byte| *byte == b'/')?;
    id(&names[slash + 1..])?;
    ServiceName::new(unescape(&names[..slash])?).ok()
}

/// What would end a name or be mistaken for an escape, and what does not print. All that is not
/// ASCII is escaped in any case.
const ESCAPED: &AsciiSet = &CONTROLS.add(b'/').add(b'%');

fn escape(name: &str) -> Cow<'_, str> {
    utf8_percent_encode(name, ESCAPED).into()
}

/// Undoes [`escape`]. Other spellings of the same name are refused, so that no two keys mean one
/// instance.
fn unescape(name: &[u8]) -> Option<Cow<'_, str>> {
    let stands_as_it_is = |byte: &u8| matches!(byte, b' '..=b'~') && !matches!(byte, b'/' | b'%');
    if name.iter().all(stands_as_it_is) {
        return str::from_utf8(name).ok().map(Cow::Borrowed); // as nearly all do
    }
    let text = percent_decode(name).decode_utf8().ok()?;
    let canonical = escape(&text).as_bytes() == name;
    canonical.then_some(text)
}

#[cfg(test)]
mod tests {
    use super::super::{Form, Layout, ServiceKeys, Skipped};
    use super::*;
    use proptest::prelude::*;

    fn native(path: &str) -> Layout {
        Layout::new(Form::Native, path)
    }

    fn instance(service: &str, id: &str) -> Instance {
        let address = "10.0.0.1:80".parse().unwrap();
        Instance::new(service.parse().unwrap(), id.parse().unwrap(), address)
    }

    fn key(layout: &Layout, instance: &Instance) -> String {
        layout.record(instance).unwrap().key
    }

    fn keys(layout: &Layout, service: &str) -> ServiceKeys {
        layout.service(&service.parse().unwrap()).unwrap()
    }

    #[test]
    fn a_record_is_written_in_a_form_that_stays() {
        let record = native("").record(&instance("user.rpc", "node-1").with_weight(7)).unwrap();
        assert_eq!(record.key, "registry/user.rpc/node-1");
        let value = r#"{"v":1,"address":"10.0.0.1:80","weight":7,"status":"up","metadata":{}}"#;
        assert_eq!(str::from_utf8(&record.value).unwrap(), value);
        assert_eq!(record.side, None);
        let layout = native("prod/eu/");
        assert_eq!(key(&layout, &instance("a/b c", "1%2F")), "prod/eu/a%2Fb c/1%252F");
        assert_eq!(key(&layout, &instance("\u{e9}~", ".")), "prod/eu/%C3%A9~/.");
        let keys = keys(&layout, "a/b");
        assert_eq!((keys.start(), keys.end()), ("prod/eu/a%2Fb/", "prod/eu/a%2Fb0"));
        let cursor = keys.origin().cursor(registry_core::Revision::new(7), "x");
        assert_eq!(cursor.to_string(), "1:etcd:native%3Aprod/eu/:a/b:7:x");
    }

    #[test]
    fn no_service_has_the_keys_of_another() {
        let layout = native("r");
        let user = keys(&layout, "user");
        assert!(user.id_of(b"r/user/1").is_some());
        for other in ["r/user2/1", "r/user", "r/use/1", "s/user/1"] {
            assert_eq!(user.id_of(other.as_bytes()), None, "{other}");
        }
        assert_eq!(user.id_of(key(&layout, &instance("user/a", "1")).as_bytes()), None);
    }

    #[test]
    fn a_key_that_would_not_be_written_is_foreign() {
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
            assert!(matches!(user.read(key.as_bytes(), b"{}"), Err(Skipped::Foreign)), "{key}");
            assert_eq!(layout.service_of(key.as_bytes(), b""), None, "{key}");
        }
        for key in ["r/", "r//1", "r/user", "r/%2Fuser/1", "x/user/1"] {
            assert_eq!(layout.service_of(key.as_bytes(), b""), None, "{key}");
        }
        assert!(matches!(user.read(b"r/user/a", b"{}"), Err(Skipped::Undecodable(..))));
    }

    proptest! {
        #[test]
        fn every_name_round_trips(prefix in "[a-z/]{0,8}", service in ".{1,40}", id in ".{1,40}") {
            let (Ok(service), Ok(id)) = (ServiceName::new(service), InstanceId::new(id)) else {
                return Ok(());
            };
            let layout = native(&prefix);
            let address = "10.0.0.1:80".parse().unwrap();
            let instance = Instance::new(service.clone(), id.clone(), address);
            let record = layout.record(&instance).unwrap();
            let key = record.key.as_bytes();
            prop_assert!(key.iter().all(|byte| (b' '..=b'~').contains(byte)), "{}", record.key);
            let keys = layout.service(&service).unwrap();
            prop_assert_eq!(keys.id_of(key), Some(id));
            prop_assert_eq!(keys.read(key, &record.value).unwrap(), instance);
            prop_assert_eq!(layout.service_of(key, b""), Some(service));
        }

        #[test]
        fn no_two_keys_mean_one_instance(id: Vec<u8>) {
            let layout = native("r");
            let key = [b"r/user/", id.as_slice()].concat();
            if let Some(id) = keys(&layout, "user").id_of(&key) {
                let written = self::key(&layout, &instance("user", id.as_str()));
                prop_assert_eq!(written.into_bytes(), key);
            }
        }
    }
}
