//! go-zero's layout: `<Key>/<id>` holds `host:port` and nothing else, byte for byte.
//!
//! What go-zero cannot say of an instance stands under `<Key>.~meta/<id>`, outside of what its
//! subscribers read, and counts only while it hangs on the same lease as the key it belongs to: so
//! a publisher in Go that takes a key over takes the address, and leaves the rest behind.

use super::extras::Extras;
use super::{Record, ServiceKeys, Side, Standing, Unreadable, bare_id, bare_names, invalid};
use etcd_client::EventType;
use registry_core::record::MAX_RECORD_LEN;
use registry_core::{Address, Change, Instance, InstanceId, Result, ServiceName};
use std::collections::BTreeMap;

/// What the side keys of a service have after its name. `.` < `/` < `0`: so one range, from the
/// first side key to the end of the keys, has both.
pub(super) const SIDE: &str = ".~meta";

/// The longest value that may be an address: a host name of 253 bytes, and a port.
const MAX_ADDRESS_LEN: usize = 253 + ":65535".len();

/// What is in front of the ids of `service`, in its keys and in its side keys.
pub(super) fn prefixes(root: &str, service: &ServiceName) -> Result<(String, String)> {
    if service.as_str().ends_with(SIDE) {
        let message = format!("in the go-zero layout no service ends with `{SIDE}`");
        return Err(invalid(format!("{message}, got=`{service}`")));
    }
    Ok((format!("{root}{service}/"), format!("{root}{service}{SIDE}/")))
}

pub(super) fn record(prefix: &str, sides: &str, instance: &Instance) -> Result<Record> {
    let id = instance.id().as_str();
    if !is_lease_id(id) {
        let message = "in the go-zero layout an id to register is a decimal from 1 to 2^63-1";
        return Err(invalid(format!("{message}, got=`{id}`")));
    }
    let value = instance.address().as_str().into();
    let extras = Extras::of(instance).map(|extras| extras.to_json().into_bytes());
    let side = Some(Side { key: format!("{sides}{id}"), value: extras });
    Ok(Record { key: format!("{prefix}{id}"), value, side })
}

/// Whether `id` is as Go prints an int64, so that nothing there stumbles over it.
pub(super) fn is_lease_id(id: &str) -> bool {
    id.parse::<i64>().is_ok_and(|number| number > 0 && number.to_string() == id)
}

/// The service of a key, of which `names` is what follows the root.
pub(super) fn service_of(names: &[u8], value: &[u8]) -> Option<ServiceName> {
    let (service, _) = bare_names(names)?;
    read_address(value).ok()?;
    (!service.as_str().ends_with(SIDE)).then_some(service)
}

pub(super) fn read_address(value: &[u8]) -> Result<Address, Unreadable> {
    if value.len() > MAX_ADDRESS_LEN {
        return Err(Unreadable::TooLong(value.len()));
    }
    Ok(Address::new(str::from_utf8(value)?)?)
}

fn read_extras(value: &[u8], plain: Instance) -> Result<Instance, Unreadable> {
    if value.len() > MAX_RECORD_LEN {
        return Err(Unreadable::TooLarge(value.len()));
    }
    Extras::from_json(value)?.put_on(plain)
}

/// All keys of a service, each with its side key.
#[derive(Debug)]
pub(super) struct Pairs {
    service: ServiceName,
    /// What is in front of the ids, in keys and in side keys.
    prefixes: [String; 2],
    /// None is empty.
    standing: BTreeMap<InstanceId, Pair>,
}

/// A key and its side key, as far as they stand.
#[derive(Clone, Debug, Default)]
struct Pair {
    key: Option<Held>,
    side: Option<Held>,
}

/// A value, and the lease it hangs on; 0 is none.
#[derive(Clone, Debug)]
struct Held {
    lease: i64,
    value: Box<[u8]>,
}

/// Which key of a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Key,
    Side,
}

impl Pairs {
    /// The pairs that stand there.
    pub(super) fn new<'a>(
        keys: &ServiceKeys,
        standing: impl Iterator<Item = Standing<'a>>,
    ) -> Self {
        let prefixes = [keys.prefix.clone(), keys.start.clone()];
        let mut pairs = Self { service: keys.service.clone(), prefixes, standing: BTreeMap::new() };
        for standing in standing {
            if let Some((part, id)) = pairs.part_of(standing.key) {
                pairs.set(part, &id, Some(Held::new(part, standing)));
            }
        }
        pairs
    }

    /// The instances they describe. What cannot be decoded is told to `report`, with its key.
    pub(super) fn instances(&self, mut report: impl FnMut(&[u8], Unreadable)) -> Vec<Instance> {
        self.standing.keys().filter_map(|id| self.instance(id, &mut report)).collect()
    }

    /// Takes in all events of one revision, and says what they change.
    pub(super) fn advance<'a>(
        &mut self,
        events: impl Iterator<Item = (EventType, Standing<'a>)>,
        mut report: impl FnMut(&[u8], Unreadable),
    ) -> Vec<Change> {
        let mut touched = Vec::<Touched>::new();
        for (kind, put) in events {
            let Some((part, id)) = self.part_of(put.key) else { continue };
            let is_put = kind == EventType::Put;
            let is_news = is_put && part == Part::Key;
            match touched.iter_mut().find(|touched| touched.id == id) {
                Some(touched) => touched.is_news |= is_news,
                None => touched.push(Touched {
                    before: self.instance(&id, &mut |_, _| {}),
                    id: id.clone(),
                    is_news,
                }),
            }
            self.set(part, &id, is_put.then(|| Held::new(part, put)));
        }
        touched.into_iter().filter_map(|touched| self.change(touched, &mut report)).collect()
    }

    /// What became of an instance.
    fn change(
        &self,
        touched: Touched,
        report: &mut impl FnMut(&[u8], Unreadable),
    ) -> Option<Change> {
        match (self.instance(&touched.id, report), touched.before) {
            // A side key that goes with another lease, or that says nothing new, is not seen.
            (Some(after), before) if touched.is_news || before.as_ref() != Some(&after) => {
                Some(Change::Put(after))
            }
            (None, Some(_)) => Some(Change::Delete(touched.id)),
            _ => None,
        }
    }

    /// The instance that stands under `id`.
    ///
    /// If only its side key cannot be decoded it is listed as go-zero lists it: what is wrong with
    /// what go-zero never sees does not take it out of service.
    fn instance(
        &self,
        id: &InstanceId,
        report: &mut impl FnMut(&[u8], Unreadable),
    ) -> Option<Instance> {
        let Pair { key, side } = self.standing.get(id)?;
        let key = key.as_ref()?;
        let address = match read_address(&key.value) {
            Ok(address) => address,
            Err(why) => {
                report(self.name(Part::Key, id).as_bytes(), why);
                return None;
            }
        };
        let plain = Instance::new(self.service.clone(), id.clone(), address);
        let Some(side) = side.as_ref().filter(|side| side.lease == key.lease) else {
            return Some(plain);
        };
        Some(read_extras(&side.value, plain.clone()).unwrap_or_else(|why| {
            report(self.name(Part::Side, id).as_bytes(), why);
            plain
        }))
    }

    /// Which key of which instance it is, if it is one.
    fn part_of(&self, key: &[u8]) -> Option<(Part, InstanceId)> {
        [Part::Key, Part::Side].into_iter().find_map(|part| {
            let id = key.strip_prefix(self.prefix(part).as_bytes())?;
            Some((part, bare_id(id)?))
        })
    }

    fn name(&self, part: Part, id: &InstanceId) -> String {
        format!("{}{id}", self.prefix(part))
    }

    fn prefix(&self, part: Part) -> &str {
        match part {
            Part::Key => &self.prefixes[0],
            Part::Side => &self.prefixes[1],
        }
    }

    fn set(&mut self, part: Part, id: &InstanceId, held: Option<Held>) {
        let pair = self.standing.entry(id.clone()).or_default();
        match part {
            Part::Key => pair.key = held,
            Part::Side => pair.side = held,
        }
        if pair.key.is_none() && pair.side.is_none() {
            self.standing.remove(id);
        }
    }
}

/// An instance that events are about.
struct Touched {
    id: InstanceId,
    /// What it was before.
    before: Option<Instance>,
    /// Whether its key was put: somebody registered it, be it as it was.
    is_news: bool,
}

impl Held {
    fn new(part: Part, Standing { value, lease, .. }: Standing<'_>) -> Self {
        // Of what is too large for its part, as much as shows that.
        let limit = match part {
            Part::Key => MAX_ADDRESS_LEN,
            Part::Side => MAX_RECORD_LEN,
        };
        Self { lease, value: value[..value.len().min(limit + 1)].into() }
    }
}

#[cfg(test)]
mod tests;
