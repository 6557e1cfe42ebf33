//! The public keys of a layout for Go programs, as written by an operator who does not know side keys.

use etcd_client::{Client, GetOptions, KeyValue, Txn, TxnOp};

/// Deletes the keys directly below `prefix` at one revision, but not their side keys. Returns the number of
/// keys deleted.
pub(crate) async fn evict(client: &mut Client, prefix: String) -> i64 {
    let all = GetOptions::new().with_prefix().with_keys_only();
    let found = client.get(prefix.clone(), Some(all)).await.unwrap();
    let own = found.kvs().iter().map(KeyValue::key);
    let own: Vec<_> = own.filter(|key| !key[prefix.len()..].contains(&b'/')).collect();
    let deletes: Vec<_> = own.iter().map(|key| TxnOp::delete(*key, None)).collect();
    client.txn(Txn::new().and_then(deletes)).await.unwrap();
    i64::try_from(own.len()).unwrap()
}
