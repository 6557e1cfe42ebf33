//! Where things lie: the shards of a prefix, their keys, and the names in them.
//!
//! A prefix has [`SHARDS`] shards, and a service lies in one of them. All keys of a shard share a hash
//! tag, so that one script may touch them all, in a cluster too:
//!
//! | key | type | holds |
//! | --- | --- | --- |
//! | `{prefix/NN}:meta` | string | `<rev> <digest> <count> <lag> <due> <rt> <run>`: the last revision and its digest; how many records there are; how far the lease clock lags behind the server's, what no lease falls due before, and when this was saved by the server's clock, in ms; the server's run id |
//! | `{prefix/NN}:inst` | hash | member -> `<mrev> <lease> <ttl> <record>`, the record being any bytes |
//! | `{prefix/NN}:idx` | sorted set | members, all with score 0, so in the order of their bytes |
//! | `{prefix/NN}:lease` | hash | lease -> member |
//! | `{prefix/NN}:exp` | sorted set | member -> deadline, in ms of the lease clock |
//! | `{prefix/NN}:svc` | hash | service -> how many instances it has |
//! | `{prefix/NN}:log` | stream | `<rev>-0` -> the change that made the revision, see [`history`](crate::history) |
//! | `{prefix}:layout` | hash | `format` and `shards`: what this page says, fixed by the first to use the prefix |
//!
//! A member is `<service> 0x1F <instance id>`. No name contains a control character, so a member is
//! never ambiguous, and the members of a service are one range of `idx`.

use registry_core::{Instance, InstanceId, ServiceName};

/// How many shards a prefix has, unless the options say otherwise.
///
/// More would spread services over more nodes of a cluster, but one feed reads all that are in use.
pub(crate) const SHARDS: u8 = 16;

/// The version of the layout above.
pub(crate) const FORMAT: u32 = 1;

const SEPARATOR: char = '\u{1f}';

/// One of the shards of a prefix, by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Shard(u8);

/// What lies on one server as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Home {
    /// The key that says how the prefix is laid out.
    Layout,
    Shard(Shard),
}

impl Shard {
    /// The shard that `service` lies in: FNV-1a (64 bits) of the name's bytes, modulo their number.
    pub(crate) fn of(service: &ServiceName, shards: u8) -> Self {
        let hash = service.as_str().bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        let number = hash % u64::from(shards);
        Self(u8::try_from(number).unwrap_or_else(|_| unreachable!("it is less than `shards`")))
    }
}

/// All keys of a prefix.
#[derive(Debug)]
pub(crate) struct Keyspace {
    prefix: String,
    layout: String,
    shards: Vec<[String; 7]>,
}

impl Keyspace {
    pub(crate) fn new(prefix: &str, shards: u8) -> Self {
        let keys = |n| {
            ["meta", "inst", "idx", "lease", "exp", "svc", "log"]
                .map(|key| format!("{{{prefix}/{n:02}}}:{key}"))
        };
        Self {
            prefix: prefix.to_owned(),
            layout: format!("{{{prefix}}}:layout"),
            shards: (0..shards).map(keys).collect(),
        }
    }

    pub(crate) fn prefix(&self) -> &str {
        &self.prefix
    }

    pub(crate) fn len(&self) -> u8 {
        u8::try_from(self.shards.len()).unwrap_or_else(|_| unreachable!("it was made from a u8"))
    }

    pub(crate) fn shards(&self) -> impl Iterator<Item = Shard> {
        (0..self.len()).map(Shard)
    }

    pub(crate) fn shard_of(&self, service: &ServiceName) -> Shard {
        Shard::of(service, self.len())
    }

    /// The keys of `home`, in the order in which scripts take them.
    pub(crate) fn keys(&self, home: Home) -> &[String] {
        match home {
            Home::Layout => std::slice::from_ref(&self.layout),
            Home::Shard(shard) => &self.shards[usize::from(shard.0)],
        }
    }

    /// The number of `shard`, below [`len`](Self::len).
    pub(crate) fn index(&self, shard: Shard) -> usize {
        usize::from(shard.0) % self.shards.len()
    }

    /// What the keys of `shard` begin with.
    pub(crate) fn name(&self, shard: Shard) -> &str {
        let [meta, ..] = &self.shards[usize::from(shard.0)];
        meta.trim_end_matches(":meta")
    }

    pub(crate) fn log(&self, shard: Shard) -> &str {
        let [.., log] = &self.shards[usize::from(shard.0)];
        log
    }
}

/// The name of an instance within its shard.
pub(crate) fn member(instance: &Instance) -> String {
    format!("{}{SEPARATOR}{}", instance.service(), instance.id())
}

/// The service and the instance id that a member names. The id may be no valid one.
pub(crate) fn split_member(member: &[u8]) -> Option<(&str, &str)> {
    str::from_utf8(member).ok()?.split_once(SEPARATOR)
}

/// The instance id of a `member` of `service`.
pub(crate) fn member_id(service: &ServiceName, member: &[u8]) -> Option<InstanceId> {
    let (of, id) = split_member(member)?;
    if of == service.as_str() { InstanceId::new(id).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(name: &str) -> ServiceName {
        name.parse().unwrap()
    }

    #[test]
    fn a_service_stays_in_its_shard_for_ever() {
        let golden = [("user.rpc", 15), ("prod/order.rpc", 10), ("a", 12), ("\u{e9}", 1)];
        for (name, number) in golden {
            assert_eq!(Shard::of(&service(name), 16), Shard(number), "{name}");
        }
        assert_eq!(Shard::of(&service("a"), 1), Shard(0));
    }

    #[test]
    fn services_spread_over_all_shards() {
        let mut counts = [0_u32; 16];
        for n in 0..1600 {
            counts[usize::from(Shard::of(&service(&format!("service-{n}.rpc")), 16).0)] += 1;
        }
        assert!(counts.iter().all(|count| (60..=140).contains(count)), "{counts:?}");
    }

    #[test]
    fn all_keys_of_a_shard_share_a_hash_tag_and_no_two_are_the_same() {
        let keyspace = Keyspace::new("prod", 16);
        let shard = keyspace.shards().nth(7).unwrap();
        let keys = keyspace.keys(Home::Shard(shard));
        assert!(keys.iter().all(|key| key.starts_with("{prod/07}:")));
        assert_eq!(keyspace.log(shard), "{prod/07}:log");
        // A prefix may look like the shard of another one.
        let other = Keyspace::new("prod/07", 16);
        assert!(!keys.contains(&other.keys(Home::Layout)[0]));
    }

    #[test]
    fn a_member_names_one_instance() {
        let address = "10.0.0.1:80".parse().unwrap();
        let instance = Instance::new(service("prod/order.rpc"), "n 1".parse().unwrap(), address);
        let member = member(&instance);
        assert_eq!(member, "prod/order.rpc\u{1f}n 1");
        assert_eq!(split_member(member.as_bytes()), Some(("prod/order.rpc", "n 1")));
        assert_eq!(
            member_id(&service("prod/order.rpc"), member.as_bytes()).unwrap().as_str(),
            "n 1"
        );
        assert_eq!(member_id(&service("prod/order"), member.as_bytes()), None);
        assert_eq!(split_member(b"\xff\x1f1"), None);
        assert_eq!(split_member(b"a"), None);
        assert_eq!(member_id(&service("a"), b"a\x1f"), None);
    }
}
