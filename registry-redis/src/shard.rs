//! The layout of keys: the shards of a prefix, their keys, and the members of those keys.
//!
//! A prefix has [`SHARDS`] shards by default, and each service belongs to one of them. All keys of a shard share a hash
//! tag, so one script can use them all, also in a Cluster:
//!
//! | key | type | content |
//! | --- | --- | --- |
//! | `{prefix/NN}:state` | hash | `meta`, and two fields per record: member -> [value](crate::value), and lease -> member |
//! | `{prefix/NN}:idx` | sorted set | members, all with score 0, so that they are sorted by their bytes |
//! | `{prefix/NN}:exp` | sorted set | member -> deadline, in ms of the lease clock |
//! | `{prefix/NN}:log` | stream | `<revision>-0` -> the change that made the revision, see [`history`](crate::history) |
//! | `{prefix}:layout` | hash | `format` and `shards`: the version of this layout and the number of shards, fixed by the first client of the prefix |
//!
//! `meta` is `1 <revision> <digest> <lineage> <count> <lag> <due> <saved_at> <run_id>`: the format; the last
//! revision and its digest; the [lineage](registry_core::Lineage); the number of members; the lag of the
//! lease clock behind the server's clock in ms; the lease-clock time in ms before which no lease expires; the
//! server's time in ms when this was saved; and the server's run id. The first lineage is the first 16 digits of
//! `sha1(digest run_id)`, where `digest` is the first one. Whenever the run id differs from the saved one (after a
//! restart, a failover or a rollback), the new lineage is the first 16 digits of `sha1(lineage run_id)`.
//!
//! If a key of a shard was lost or overwritten, so that its keys are inconsistent, the next call repairs the
//! shard: see `repair` in `scripts/head.lua`.
//!
//! A member is `<service>\x1F<instance id>`. Names contain no control characters, so a member is unambiguous, and the
//! members of a service are one range of `idx`. The fields of `state` do not collide, since only members contain 0x1F.

use registry_core::{Instance, InstanceId, ServiceName};

/// The default number of shards of a prefix.
///
/// More shards would spread services over more nodes of a Cluster, but a feed reads all shards in use.
pub(crate) const SHARDS: u8 = 16;

/// The version of the layout above.
pub(crate) const FORMAT: u32 = 1;

/// The byte between the service and the instance id in a member.
const SEPARATOR: char = '\u{1f}';

/// A shard of a prefix, by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Shard(u8);

/// Keys with the same hash tag, which are all on one server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum KeyGroup {
    /// The key of the layout.
    Layout,
    Shard(Shard),
}

impl Shard {
    /// Returns the shard of `service`: FNV-1a (64 bits) of the name's bytes, modulo the number of shards.
    pub(crate) fn of(service: &ServiceName, shards: u8) -> Self {
        let hash = service.as_str().bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        let number = hash % u64::from(shards);
        Self(
            u8::try_from(number)
                .unwrap_or_else(|_| unreachable!("the number is less than `shards`")),
        )
    }
}

/// All keys of a prefix.
#[derive(Debug)]
pub(crate) struct Keyspace {
    prefix: String,
    layout: String,
    shards: Vec<[String; 4]>,
}

impl Keyspace {
    pub(crate) fn new(prefix: &str, shards: u8) -> Self {
        let keys =
            |n| ["state", "idx", "exp", "log"].map(|key| format!("{{{prefix}/{n:02}}}:{key}"));
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
        u8::try_from(self.shards.len())
            .unwrap_or_else(|_| unreachable!("the number of shards was a u8"))
    }

    pub(crate) fn shards(&self) -> impl Iterator<Item = Shard> {
        (0..self.len()).map(Shard)
    }

    pub(crate) fn shard_of(&self, service: &ServiceName) -> Shard {
        Shard::of(service, self.len())
    }

    /// Returns the keys of `group` in the order of the scripts' arguments.
    pub(crate) fn keys(&self, group: KeyGroup) -> &[String] {
        match group {
            KeyGroup::Layout => std::slice::from_ref(&self.layout),
            KeyGroup::Shard(shard) => &self.shards[usize::from(shard.0)],
        }
    }

    /// Returns the number of `shard`, below [`len`](Self::len).
    pub(crate) fn index(&self, shard: Shard) -> usize {
        usize::from(shard.0) % self.shards.len()
    }

    /// Returns the hash tag of the keys of `shard`.
    pub(crate) fn hash_tag(&self, shard: Shard) -> &str {
        let [state, ..] = &self.shards[usize::from(shard.0)];
        state.trim_end_matches(":state")
    }

    pub(crate) fn log(&self, shard: Shard) -> &str {
        let [.., log] = &self.shards[usize::from(shard.0)];
        log
    }
}

/// Returns the member of an instance, which identifies it within its shard.
pub(crate) fn member(instance: &Instance) -> String {
    format!("{}{SEPARATOR}{}", instance.service(), instance.id())
}

/// Splits a member into service and instance id. The id may be invalid.
pub(crate) fn split_member(member: &[u8]) -> Option<(&str, &str)> {
    str::from_utf8(member).ok()?.split_once(SEPARATOR)
}

/// Returns the instance id of a member, if it belongs to `service`.
pub(crate) fn member_id(service: &ServiceName, member: &[u8]) -> Option<InstanceId> {
    let (owner, id) = split_member(member)?;
    if owner == service.as_str() { InstanceId::new(id).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(name: &str) -> ServiceName {
        name.parse().unwrap()
    }

    #[test]
    fn shard_of_a_service_never_changes() {
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
    fn keys_of_a_shard_share_a_hash_tag_that_the_layout_key_lacks() {
        let keyspace = Keyspace::new("prod", 16);
        let shard = keyspace.shards().nth(7).unwrap();
        let keys = keyspace.keys(KeyGroup::Shard(shard));
        assert!(keys.iter().all(|key| key.starts_with("{prod/07}:")));
        assert_eq!(keyspace.log(shard), "{prod/07}:log");
        // A prefix may look like a shard of another prefix.
        let other = Keyspace::new("prod/07", 16);
        assert!(!keys.contains(&other.keys(KeyGroup::Layout)[0]));
    }

    #[test]
    fn member_splits_into_service_and_id() {
        let address = "10.0.0.1:80".parse().unwrap();
        let instance =
            Instance::from_parts(service("prod/order.rpc"), "n 1".parse().unwrap(), address);
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
