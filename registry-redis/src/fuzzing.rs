//! Laws about what a server may send, about URLs, and about what the scripts are given. A fuzz target of `fuzz/` calls each
//! with bytes that it makes up, and a test below with those of its corpus. A law panics if it is broken.

#![allow(clippy::missing_panics_doc)]

use crate::digest::Digest;
use crate::history::{Entry, Position, RawEntry};
use crate::shard::{KeyGroup, Keyspace, member, member_id, split_member};
use crate::store::{MAX_DUE, RawPage, parse_page};
use crate::value::{self, Content, Value};
use crate::{RedisOptions, RedisRegistry};
use registry_core::{
    Change, Claim, ErrorKind, Holder, Instance, Lease, LeaseId, MAX_TTL, MIN_TTL, Revision, Secret,
    ServiceName, Target,
};
use std::time::Duration;

pub use crate::connect::fuzzing::{redirect, replies};

#[cfg(test)]
const LAWS: [replay::Law; 7] = [
    ("redis_replies", replies),
    ("redis_redirect", redirect),
    ("redis_log", log),
    ("redis_entry", entry),
    ("redis_value", value),
    ("redis_script_inputs", script_inputs),
    ("redis_url", url),
];

#[cfg(test)]
#[path = "../../fuzz/replay.rs"]
mod replay;

/// What a script replies with entries of a log follows a position without a gap, or is refused. The bytes are a reply.
pub fn log(data: &[u8]) {
    let Ok(reply) = redis::parse_redis_value(data) else { return };
    let Ok(page) = redis::from_redis_value::<RawPage>(reply) else { return };
    let digest: Digest = "00000000000000aa".parse().expect("a digest");
    let mut at = Position { revision: 7, digest };
    let Ok(page) = parse_page(at, page, None) else { return };
    assert!(page.due.is_none_or(|due| due <= Duration::from_millis(MAX_DUE)));
    let service: ServiceName = "user".parse().expect("a name");
    for entry in &page.entries {
        at.advance(entry).expect("it follows");
        assert!(at.revision <= page.end);
        check_change(entry, &service);
    }
}

/// An entry of a log is a change of its own instance, or is refused. The bytes are its id and its fields, with bytes 0xff
/// between them.
pub fn entry(data: &[u8]) {
    let mut parts = data.split(|byte| *byte == 0xff).map(<[u8]>::to_vec);
    let id = String::from_utf8_lossy(&parts.next().unwrap_or_default()).into_owned();
    let raw: RawEntry = (id, parts.collect());
    let Ok(entry) = Entry::parse(raw.clone()) else { return };
    assert_eq!(
        raw.0.strip_suffix("-0").and_then(|at| at.parse().ok()),
        Some(entry.position().revision)
    );
    if let Some((service, _)) = split_member(entry.member())
        && let Ok(service) = service.parse()
    {
        check_change(&entry, &service);
    }
}

fn check_change(entry: &Entry, service: &ServiceName) {
    let Some(change) = entry.change(service, |_, _| {}) else { return };
    assert_eq!(member_id(service, entry.member()).as_ref(), Some(change.id()));
    if let Change::Put(record) = change {
        assert_eq!(record.instance().service(), service);
        // An entry 0-0 follows no position.
        assert_eq!(record.revision().map_or(0, Revision::get), entry.position().revision);
        let ttl = record.ttl().expect("a ttl");
        assert!(record.lease().is_some() && (MIN_TTL..=MAX_TTL).contains(&ttl));
    }
}

/// The value of a record is refused, or is the same in the log and in the state, and its ttl is one that can be asked for.
pub fn value(data: &[u8]) {
    let parsed = Value::parse(data);
    let stored = Value::parse_stored(&[b"7 00ff00ff00ff00ff ", data].concat());
    assert_eq!(stored, parsed.clone().map(|value| (7, value)));
    if let Some((_, value)) = Value::parse_stored(data) {
        assert!((MIN_TTL..=MAX_TTL).contains(&value.ttl()));
    }
    let Some(value) = parsed else { return };
    assert!((MIN_TTL..=MAX_TTL).contains(&value.ttl()) && value.size() <= data.len());
    let (service, id) = ("user".parse().expect("a name"), "1".parse().expect("an id"));
    let Content::Live(record) = value.decode(&service, &id, 8) else { return };
    assert_eq!((record.ttl(), record.revision()), (Some(value.ttl()), Some(Revision::new(8))));
    let lease = record.lease().expect("a lease");
    // What may no longer be written is still read.
    let ttl_ms = u64::try_from(value.ttl().as_millis()).expect("a ttl");
    let Ok(encoded) = value::encode(record.instance(), ttl_ms) else { return };
    let again = [format!("{lease} {ttl_ms} 3 ").as_bytes(), &encoded].concat();
    let again = Value::parse(&again).expect("a value");
    assert_eq!(again.decode(&service, &id, 8), Content::Live(record));
}

/// What the scripts are given of an instance they can take apart again. The bytes are a prefix, a service, an id, an address
/// and a zone, with bytes 0 between them.
pub fn script_inputs(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    let mut parts = text.splitn(5, '\0');
    let [prefix, service, id, address, zone] =
        std::array::from_fn(|_| parts.next().unwrap_or_default());
    let seed = data.iter().fold(1_u32, |seed, byte| seed.rotate_left(5) ^ u32::from(*byte));
    check_keys(prefix, seed);
    let (Ok(service), Ok(id), Ok(address)) = (service.parse(), id.parse(), address.parse()) else {
        return;
    };
    let one = Instance::from_parts(service, id, address).with_zone(zone);
    let member = member(&one);
    assert_eq!(member.matches(char::is_control).count(), 1, "{member:?}");
    assert_eq!(member_id(one.service(), member.as_bytes()).as_ref(), Some(one.id()));

    let ttl_ms = 100 + u64::from(seed) % 86_399_901;
    let lease = LeaseId::new((i64::from(seed) << 31) | 1).expect("a lease");
    let claim = Claim::new(Duration::from_millis(ttl_ms)).expect("a ttl").with_lease(lease);
    let Ok(record) = value::encode(&one, ttl_ms) else { return };
    // As `register.lua` stores it.
    let (revision, digest) = (u64::from(seed) + 1, format!("{seed:016x}"));
    let head = format!("{revision} {digest} {lease} {ttl_ms} {revision} ");
    let stored = [head.as_bytes(), &record].concat();
    assert!(is_parsed_by_scripts(&stored), "{}", stored.escape_ascii());
    let (at, value) = Value::parse_stored(&stored).expect("a value");
    let Content::Live(read) = value.decode(one.service(), one.id(), at) else {
        panic!("{} is not live", stored.escape_ascii())
    };
    assert_eq!((read.instance(), read.lease(), read.ttl()), (&one, Some(lease), Some(claim.ttl())));

    let digest: Digest = digest.parse().expect("a digest");
    let granted = |lease, ttl| Lease::new(lease, ttl, one.clone(), Revision::new(revision));
    let prefix =
        |lease: Lease, ttl_ms| value::acknowledged_prefix(&lease.with_proof(digest), ttl_ms);
    assert!(stored.starts_with(prefix(granted(lease, claim.ttl()), ttl_ms).as_bytes()));
    let other = LeaseId::new(lease.get() / 10 + 1).expect("a lease");
    for wrong in [
        prefix(granted(other, claim.ttl()), ttl_ms),
        prefix(granted(lease, claim.ttl()), ttl_ms / 10),
    ] {
        assert!(!stored.starts_with(wrong.as_bytes()), "{wrong}");
    }
    let holder = Holder::new(Some(lease), Some(Revision::new(revision)));
    let text = value::holder_arg(&holder);
    let (of, claimed) = text.split_once(' ').expect("two numbers");
    assert_eq!(value::parse_holder(of, claimed), holder);
}

/// The keys of a shard have one hash tag, which is that of no other shard: see the specification of Redis Cluster.
fn check_keys(prefix: &str, seed: u32) {
    let Ok(target) = format!("redis://h?prefix={prefix}").parse::<Target>() else { return };
    if RedisRegistry::connect_lazy(&target).is_err() {
        return;
    }
    let prefix = target.option("prefix").unwrap_or_default();
    let keyspace = Keyspace::new(prefix, (seed % 16 + 1).try_into().expect("a number of shards"));
    let mut tags = vec![tag(&keyspace.keys(KeyGroup::Layout)[0])];
    for shard in keyspace.shards() {
        let keys = keyspace.keys(KeyGroup::Shard(shard));
        assert!(keys.iter().all(|key| tag(key) == tag(&keys[0])), "{keys:?}");
        assert_eq!(keyspace.hash_tag(shard), format!("{{{}}}", tag(&keys[0])));
        tags.push(tag(&keys[0]));
    }
    let count = tags.len();
    tags.sort_unstable();
    tags.dedup();
    assert_eq!(tags.len(), count, "{prefix:?}");
}

fn tag(key: &str) -> &str {
    let (_, rest) = key.split_once('{').expect("a hash tag");
    let (tag, _) = rest.split_once('}').expect("a hash tag");
    assert!(!tag.is_empty(), "{key:?}");
    tag
}

/// Whether `parse` of `head.lua` takes a value.
fn is_parsed_by_scripts(value: &[u8]) -> bool {
    let mut parts = value.splitn(6, |byte| *byte == b' ');
    let [at, proof, lease, ttl, claimed] =
        std::array::from_fn(|_| parts.next().unwrap_or_default());
    let is_number = |text: &[u8]| matches!(text, [b'1'..=b'9', rest @ ..] if rest.iter().all(u8::is_ascii_digit));
    [at, lease, ttl, claimed].into_iter().all(is_number)
        && !proof.is_empty()
        && proof.iter().all(u8::is_ascii_hexdigit)
        && at.len() < 16
        && (lease.len() < 19 || lease.len() == 19 && lease <= b"9223372036854775807".as_slice())
        && parts.next().is_some()
}

/// A URL is refused, or names servers. Its password shows nowhere.
pub fn url(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    let Ok(target) = text.parse::<Target>() else { return };
    match RedisRegistry::connect_lazy_with(&target, RedisOptions::default()) {
        Ok(registry) => {
            assert!(!target.hosts().is_empty() && target.scheme().starts_with("redis"));
            check_hidden(&target, &format!("{registry:?}"));
        }
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
            check_hidden(&target, &format!("{} {error:?}", error.chain()));
        }
    }
}

/// Asserts that a password that nothing else of a URL contains is not shown.
fn check_hidden(target: &Target, shown: &str) {
    let Some(password) = target.password().map(Secret::reveal) else { return };
    let escaped = format!("{password:?}");
    let elsewhere = format!("{target:?}").contains(&escaped[1..escaped.len() - 1]);
    let is_public = password.len() < 6 || elsewhere || format!("{target}").contains(password);
    assert!(is_public || !shown.contains(password), "{shown}");
}
