//! Checks how much history etcd keeps for watches that resume.

use crate::client::{Answered, Client};
use crate::error::{EtcdError, Reason};
use crate::layout::keyspace::Keyspace;
use etcd_client::{GetOptions, WatchOptions};
use registry_core::Result;
use registry_core::diagnosis::Finding;

/// The number of revisions above which a missing compaction is reported. At about 300 bytes each, they take a seventh
/// of the default quota.
const MANY_REVISIONS: u64 = 1_000_000;

pub(super) async fn diagnose(client: &Client, keyspace: &Keyspace) -> Result<Vec<Finding>> {
    let any = GetOptions::new().with_prefix().with_keys_only().with_limit(1);
    let now = client.range(keyspace.root(), any.clone()).await?;
    let now = Answered::by(now.header())?.revision;
    let finding = match client.range(keyspace.root(), any.with_revision(1)).await {
        Ok(_) if now > MANY_REVISIONS => {
            let message = format!("all {now} revisions are kept: the history was never compacted");
            let advice = "set --auto-compaction-mode=revision --auto-compaction-retention=10000, or the database fills up";
            Finding::warning("history", message, advice)
        }
        Ok(_) => {
            let message = format!("all {now} revisions are kept: nothing was compacted yet");
            Finding::ok("history", message)
        }
        Err(error) if error.reason() == Reason::Compacted => {
            let compacted = compacted(client, keyspace).await?;
            let message = format!(
                "compacted up to revision {compacted}, now at {now}: a watch from an older cursor loads again"
            );
            Finding::ok("history", message)
        }
        Err(error) => return Err(error.into()),
    };
    Ok(vec![finding])
}

/// Returns the compacted revision. etcd reports it only to a watch that starts before it.
async fn compacted(client: &Client, keyspace: &Keyspace) -> Result<i64, EtcdError> {
    let watch = client.cluster().call(|connection| async move {
        let from_the_first = WatchOptions::new().with_prefix().with_start_revision(1);
        let mut watches = connection.client().watch_client();
        let mut stream = watches.watch(keyspace.root(), Some(from_the_first)).await?;
        while let Some(answer) = stream.message().await? {
            if answer.compact_revision() != 0 {
                return Ok(answer.compact_revision());
            }
            if answer.canceled() {
                return Err(EtcdError::Canceled(answer.cancel_reason().to_owned()));
            }
        }
        Err(EtcdError::StreamEnded)
    });
    watch.await
}
