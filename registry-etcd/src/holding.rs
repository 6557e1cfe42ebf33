//! Who holds an id: as a transaction compares it, and as it is found.
//!
//! The key holds it. In a layout with side keys a side key holds it alone, where its record is read alone. A
//! record that is withdrawn holds nothing.

use crate::error::EtcdError;
use crate::layout::keyspace::{Written, WrittenKey};
use crate::layout::service::{Kv, ServiceLayout};
use etcd_client::{Compare, CompareOp, KeyValue, PutOptions, Txn, TxnOp};
use registry_core::encoding::Stored;
use registry_core::{BoxError, Holder, InstanceId, LeaseId, Revision};

/// Alternatives, each of which is several comparisons that hold together.
pub(crate) type Alternatives = Vec<Vec<Compare>>;

/// Makes `changes` if one of the alternatives holds, and else `otherwise`. etcd has no "or", so the
/// transactions are nested.
///
/// etcd 3.4 checks neither permissions nor its quota inside of a nested transaction, so the first alternative is the
/// one that holds as a rule.
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

impl Written {
    /// Writes it under `lease`.
    pub(crate) fn changes(&self, lease: i64) -> Vec<TxnOp> {
        let change = |WrittenKey { name, value }: &WrittenKey| match value {
            Some(value) => {
                let options = PutOptions::new().with_lease(lease);
                TxnOp::put(&**name, &**value, Some(options))
            }
            None => TxnOp::delete(&**name, None),
        };
        self.keys().map(change).collect()
    }

    /// Reads its keys.
    pub(crate) fn reads(&self) -> Vec<TxnOp> {
        self.keys().map(|key| TxnOp::get(&*key.name, None)).collect()
    }

    /// The keys are as they are written under `lease`.
    pub(crate) fn is_written(&self, lease: i64) -> Vec<Compare> {
        self.keys().flat_map(|key| key.is_written(lease)).collect()
    }

    /// The keys are as they were put under `lease` at `revision`.
    pub(crate) fn is_acknowledged(&self, lease: i64, revision: i64) -> Vec<Compare> {
        let mut all = self.key.is_written(lease);
        match &self.side {
            // A side key of another lease counts for nobody.
            Some(WrittenKey { name, value: None }) => {
                all.push(Compare::lease(&**name, CompareOp::NotEqual, lease));
            }
            side => all.extend(side.iter().flat_map(|side| side.is_written(lease))),
        }
        let put = self.keys().filter(|key| key.value.is_some());
        all.extend(put.map(|key| was_put_at(&key.name, revision)));
        all
    }

    /// Deletes the side key, if this holds.
    pub(crate) fn deletion_of_side(&self, condition: Vec<Compare>) -> Txn {
        let delete = self.side.as_ref().map(|side| TxnOp::delete(&*side.name, None));
        Txn::new().when(condition).and_then(Vec::from_iter(delete))
    }

    /// `lease` holds the id, or its side key is left over.
    pub(crate) fn is_held_by(&self, lease: i64) -> Alternatives {
        let mut any = vec![vec![has_lease(&self.key.name, lease)]];
        if let Some(side) = &self.side {
            any.push(vec![is_absent(&self.key.name), has_lease(&side.name, lease)]);
        }
        any
    }

    /// The key is of `lease`, or there is to be none and the side key is of `lease`.
    ///
    /// A key is not put beside a side key that is there already, before it is known what that says: if it says that
    /// the instance is available, the key was deleted by others, and the lease holds the id anew.
    pub(crate) fn is_held_for_put(&self, lease: i64) -> Alternatives {
        let mut any = self.is_held_by(lease);
        if self.key.value.is_some() {
            any.truncate(1);
        }
        any
    }

    /// There are no keys.
    pub(crate) fn is_vacant(&self) -> Vec<Compare> {
        self.keys().map(|key| is_absent(&key.name)).collect()
    }

    /// `holder` holds the id, as [`holder`](Found::holder) named it.
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

impl WrittenKey {
    /// The key is as it is written under `lease`.
    fn is_written(&self, lease: i64) -> Vec<Compare> {
        let Self { name, value } = self;
        match value {
            Some(value) => {
                vec![has_lease(name, lease), Compare::value(&**name, CompareOp::Equal, &**value)]
            }
            None => vec![is_absent(name)],
        }
    }
}

/// The keys of an id, as a transaction found them.
#[derive(Debug)]
pub(crate) struct Found<'a> {
    key: Option<&'a KeyValue>,
    side: Option<&'a KeyValue>,
}

impl<'a> Found<'a> {
    /// What [`reads`](Written::reads) found.
    pub(crate) fn new(found: &'a [Option<KeyValue>]) -> Self {
        let at = |n: usize| found.get(n).and_then(Option::as_ref);
        Self { key: at(0), side: at(1) }
    }

    /// The record that the keys describe.
    pub(crate) fn decode(
        &self,
        service: &ServiceLayout,
        id: &InstanceId,
    ) -> Result<Option<Stored>, BoxError> {
        service.decode(id, self.key.map(Kv::from), self.side.map(Kv::from))
    }

    /// The holder that [`is_held_since`](Written::is_held_since) recognises; `None` if nothing that is stored
    /// holds the id.
    pub(crate) fn holder(
        &self,
        service: &ServiceLayout,
        id: &InstanceId,
    ) -> Result<Option<Holder>, EtcdError> {
        let kv = self.key.or(self.side).ok_or(EtcdError::Malformed("the record that it found"))?;
        match self.decode(service, id) {
            Ok(Some(Stored::Withdrawn(_))) => return Ok(None),
            Ok(None) if self.key.is_none() => return Ok(None),
            // What cannot be decoded, and what is no instance to this layout, has its key all the same.
            Ok(Some(Stored::Live(_)) | None) | Err(_) => {}
        }
        let lease = LeaseId::new(kv.lease()).ok();
        // The side key outlives the key of an instance that drains, so it tells better since when.
        let side = self.side.filter(|side| side.lease() == kv.lease());
        let since = match lease {
            Some(_) => side.unwrap_or(kv).create_revision(),
            None => kv.mod_revision(),
        };
        Ok(Some(Holder::new(lease, Some(Revision::new(since.cast_unsigned())))))
    }

    /// Whether `lease` has the side key, and nobody the key.
    pub(crate) fn is_side_of(&self, lease: i64) -> bool {
        self.key.is_none() && self.side.is_some_and(|side| side.lease() == lease)
    }

    /// The keys are those that were found.
    pub(crate) fn is_still(&self, written: &Written) -> Vec<Compare> {
        let found = [self.key, self.side];
        let keys = written.keys().zip(found);
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
