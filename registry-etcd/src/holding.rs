//! Holders of an id: the comparisons of transactions, and the holder that a transaction found.
//!
//! The holder of an id is the lease of the instance's key. In a layout with side keys an instance may have
//! only its side key; then the lease of the side key is the holder. A withdrawn record holds no id.

use crate::error::EtcdError;
use crate::layout::keyspace::{DesiredKey, DesiredKeys};
use crate::layout::service::{Kv, ServiceLayout};
use etcd_client::{Compare, CompareOp, KeyValue, PutOptions, Txn, TxnOp};
use registry_core::encoding::Stored;
use registry_core::{BoxError, Holder, InstanceId, LeaseId, Revision};

/// Alternatives, each of which is a conjunction of comparisons.
pub(crate) type Alternatives = Vec<Vec<Compare>>;

/// Returns a transaction that makes `changes` if one of the alternatives holds, and `otherwise` if none does.
/// etcd has no "or", so the transactions are nested.
///
/// etcd 3.4 checks neither permissions nor its quota inside a nested transaction.
pub(crate) fn if_any(alternatives: Alternatives, changes: &[TxnOp], otherwise: Vec<TxnOp>) -> Txn {
    let mut rest = otherwise;
    let mut alternatives = alternatives.into_iter();
    let first = alternatives.next().unwrap_or_default();
    for alternative in alternatives.rev() {
        let txn = Txn::new().when(alternative).and_then(changes).or_else(rest);
        rest = vec![TxnOp::txn(txn)];
    }
    Txn::new().when(first).and_then(changes).or_else(rest)
}

impl DesiredKeys {
    /// Returns the operations that write the keys under `lease`.
    pub(crate) fn changes(&self, lease: i64) -> Vec<TxnOp> {
        let change = |DesiredKey { name, value }: &DesiredKey| match value {
            Some(value) => {
                let options = PutOptions::new().with_lease(lease);
                TxnOp::put(&**name, &**value, Some(options))
            }
            None => TxnOp::delete(&**name, None),
        };
        self.keys().map(change).collect()
    }

    /// Returns the operations that read the keys.
    pub(crate) fn reads(&self) -> Vec<TxnOp> {
        self.keys().map(|key| TxnOp::get(&*key.name, None)).collect()
    }

    /// Compares: the keys are stored as desired, under `lease`.
    pub(crate) fn is_stored(&self, lease: i64) -> Vec<Compare> {
        self.keys().flat_map(|key| key.is_stored(lease)).collect()
    }

    /// Compares: the keys are stored as they were put under `lease` at `revision`.
    pub(crate) fn is_acknowledged(&self, lease: i64, revision: i64) -> Vec<Compare> {
        let mut all = self.key.is_stored(lease);
        match &self.side {
            // A side key of another lease is ignored by all readers.
            Some(DesiredKey { name, value: None }) => {
                all.push(Compare::lease(&**name, CompareOp::NotEqual, lease));
            }
            side => all.extend(side.iter().flat_map(|side| side.is_stored(lease))),
        }
        let put = self.keys().filter(|key| key.value.is_some());
        all.extend(put.map(|key| was_put_at(&key.name, revision)));
        all
    }

    /// Returns a transaction that deletes the side key if `lease` put it at `revision`, and no key is stored.
    pub(crate) fn deletion_of_orphan(&self, lease: i64, revision: Revision) -> Option<Txn> {
        let side = &*self.side.as_ref()?.name;
        let put_at = was_put_at(side, revision.get().cast_signed());
        let condition = vec![is_absent(&self.key.name), has_lease(side, lease), put_at];
        Some(self.deletion_of_side(condition))
    }

    /// Returns a transaction that deletes the side key if `condition` holds.
    pub(crate) fn deletion_of_side(&self, condition: Vec<Compare>) -> Txn {
        let delete = self.side.as_ref().map(|side| TxnOp::delete(&*side.name, None));
        Txn::new().when(condition).and_then(Vec::from_iter(delete))
    }

    /// Compares: `lease` holds the id, or only its side key is left.
    pub(crate) fn is_held_by(&self, lease: i64) -> Alternatives {
        let mut any = vec![vec![has_lease(&self.key.name, lease)]];
        if let Some(side) = &self.side {
            any.push(vec![is_absent(&self.key.name), has_lease(&side.name, lease)]);
        }
        any
    }

    /// Compares: `lease` has the key, or it has the side key and no key is desired.
    ///
    /// Before a key is put while a side key is stored, the side key must be read. If it says that the instance
    /// is available, another client deleted the key, so `lease` becomes a new holder.
    pub(crate) fn is_held_for_put(&self, lease: i64) -> Alternatives {
        let mut any = self.is_held_by(lease);
        if self.key.value.is_some() {
            any.truncate(1);
        }
        any
    }

    /// Compares: the keys are stored under `lease`, and differ from the desired ones.
    ///
    /// `hidden_at` is the revision of the side key if the acknowledged record has only that.
    pub(crate) fn is_updatable(&self, lease: i64, hidden_at: Option<Revision>) -> Vec<Compare> {
        let (key, side) = (&self.key, self.side.as_ref());
        let mut all = match (side, hidden_at) {
            (Some(side), Some(revision)) => {
                let put_at = was_put_at(&side.name, revision.get().cast_signed());
                vec![is_absent(&key.name), has_lease(&side.name, lease), put_at]
            }
            _ => vec![has_lease(&key.name, lease)],
        };
        // One comparison suffices, since the side key contains everything the key does. If another client
        // wrote only one of them, the full comparison follows.
        if let Some((name, value)) = side.and_then(DesiredKey::put).or_else(|| key.put()) {
            all.push(Compare::value(name, CompareOp::NotEqual, value));
        }
        all
    }

    /// Compares: no key is stored.
    pub(crate) fn is_vacant(&self) -> Vec<Compare> {
        self.keys().map(|key| is_absent(&key.name)).collect()
    }

    /// Compares: `holder`, which [`Found::holder`] returned, still holds the id.
    pub(crate) fn is_held_since(&self, holder: &Holder) -> Alternatives {
        let (key, side) = (&*self.key.name, self.side.as_ref().map(|side| &*side.name));
        let Some(claimed) = holder.claimed() else { return Vec::new() };
        let claimed = claimed.get().cast_signed();
        let Some(lease) = holder.lease().map(LeaseId::get) else {
            let mut any = vec![vec![was_put_at(key, claimed)]];
            any.extend(side.map(|side| vec![is_absent(key), was_put_at(side, claimed)]));
            return any;
        };
        let mut any = vec![vec![has_lease(key, lease), was_created_at(key, claimed)]];
        if let Some(side) = side {
            let on_side = || vec![has_lease(side, lease), was_created_at(side, claimed)];
            any.push([on_side(), vec![has_lease(key, lease)]].concat());
            any.push([on_side(), vec![is_absent(key)]].concat());
        }
        any
    }
}

impl DesiredKey {
    /// Returns the name and the value to put.
    fn put(&self) -> Option<(&str, &[u8])> {
        Some((&self.name, self.value.as_deref()?))
    }

    /// Compares: the key is stored as desired, under `lease`.
    fn is_stored(&self, lease: i64) -> Vec<Compare> {
        let Self { name, value } = self;
        match value {
            Some(value) => {
                vec![has_lease(name, lease), Compare::value(&**name, CompareOp::Equal, &**value)]
            }
            None => vec![is_absent(name)],
        }
    }
}

/// The stored keys of an id, as a transaction found them.
#[derive(Debug)]
pub(crate) struct Found<'a> {
    key: Option<&'a KeyValue>,
    side: Option<&'a KeyValue>,
}

impl<'a> Found<'a> {
    /// Takes the results of [`DesiredKeys::reads`], in their order.
    pub(crate) fn new(found: &'a [Option<KeyValue>]) -> Self {
        let at = |n: usize| found.get(n).and_then(Option::as_ref);
        Self { key: at(0), side: at(1) }
    }

    /// Decodes the record. Returns `None` if the keys are no instance in this layout.
    pub(crate) fn decode(
        &self,
        service: &ServiceLayout,
        id: &InstanceId,
    ) -> Result<Option<Stored>, BoxError> {
        service.decode(id, self.key.map(Kv::from), self.side.map(Kv::from))
    }

    /// Returns the holder for [`DesiredKeys::is_held_since`], or `None` if no stored key holds the id.
    pub(crate) fn holder(
        &self,
        service: &ServiceLayout,
        id: &InstanceId,
    ) -> Result<Option<Holder>, EtcdError> {
        let kv = self.key.or(self.side).ok_or(EtcdError::Malformed("the record that it found"))?;
        match self.decode(service, id) {
            Ok(Some(Stored::Withdrawn(_))) => return Ok(None),
            Ok(None) if self.key.is_none() => return Ok(None),
            // A key that cannot be decoded, or is no instance in this layout, holds the id as well.
            Ok(Some(Stored::Live(_)) | None) | Err(_) => {}
        }
        let lease = LeaseId::new(kv.lease()).ok();
        // While an instance drains, its key is deleted but its side key stays. So the side key dates the holder.
        let side = self.side.filter(|side| side.lease() == kv.lease());
        let since = match lease {
            Some(_) => side.unwrap_or(kv).create_revision(),
            None => kv.mod_revision(),
        };
        Ok(Some(Holder::new(lease, Some(Revision::new(since.cast_unsigned())))))
    }

    /// Returns whether `lease` has the side key while the key does not exist.
    pub(crate) fn is_side_of(&self, lease: i64) -> bool {
        self.key.is_none() && self.side.is_some_and(|side| side.lease() == lease)
    }

    /// Compares: the keys are stored as they were found.
    pub(crate) fn is_unchanged(&self, desired: &DesiredKeys) -> Vec<Compare> {
        let found = [self.key, self.side];
        let keys = desired.keys().zip(found);
        let compares = keys.map(|(key, found)| match found {
            Some(kv) => was_put_at(&key.name, kv.mod_revision()),
            None => is_absent(&key.name),
        });
        compares.collect()
    }
}

fn has_lease(key: &str, lease: i64) -> Compare {
    Compare::lease(key, CompareOp::Equal, lease)
}

fn is_absent(key: &str) -> Compare {
    Compare::create_revision(key, CompareOp::Equal, 0)
}

fn was_created_at(key: &str, revision: i64) -> Compare {
    Compare::create_revision(key, CompareOp::Equal, revision)
}

fn was_put_at(key: &str, revision: i64) -> Compare {
    Compare::mod_revision(key, CompareOp::Equal, revision)
}
