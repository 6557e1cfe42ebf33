//! Reads of many keys, in pages of one revision, bounded by bytes.

use crate::client::{Answered, Client, MAX_ANSWER_LEN, MAX_PAGE_LEN};
use crate::error::EtcdError;
use etcd_client::{GetOptions, GetResponse, KeyValue};
use futures_util::future;
use registry_core::encoding::MAX_RECORD_LEN;
use tokio::task::yield_now;

/// The limit of keys on the first page.
const FIRST_LEN: usize = 1000;

/// The limit of keys on later pages. For each page etcd counts all remaining keys, so a few large pages are cheaper.
const MAX_LEN: usize = 5000;

/// The target size of a page in bytes.
const PAGE_BYTES: usize = 4 * 1024 * 1024;

/// The limit for the keys and values of all pages, in bytes. A value larger than a record counts as one byte
/// more than a record.
const MAX_BYTES: usize = 1024 * 1024 * 1024;

/// How many keys are processed before other tasks on the thread get a turn.
const YIELD_AFTER: usize = 256;

/// Reads all pages at the revision `at`, or else at the revision of the first page. While etcd reads the next
/// page, the content of the current one is passed to `read`. Returns the header of the first page.
///
/// A page larger than [`MAX_PAGE_LEN`] bytes is requested again with fewer keys. A value larger than a record
/// is passed to `read` shortened to one byte more than a record.
///
/// # Errors
///
/// `Internal` if there are more than [`MAX_BYTES`], or one key has more than [`MAX_ANSWER_LEN`].
pub(crate) async fn pages(
    client: &Client,
    start: &[u8],
    options: GetOptions,
    at: Option<i64>,
    mut read: impl FnMut(Vec<KeyValue>) + Send,
) -> Result<Answered, EtcdError> {
    let first = options.clone().with_revision(at.unwrap_or(0));
    let mut page = page(client, start, &first, FIRST_LEN).await?;
    let answered = Answered::by(page.header())?;
    let options = options.with_revision(at.unwrap_or_else(|| answered.revision.cast_signed()));
    let (mut next_start, mut total) = (start.to_vec(), 0);
    loop {
        let mut kvs = page.take_kvs();
        let len = next_len(&kvs);
        total += shorten(&mut kvs);
        if total > MAX_BYTES {
            return Err(EtcdError::TooLarge("all keys and values of a read", MAX_BYTES));
        }
        if !page.more() {
            deliver(kvs, &mut read).await;
            return Ok(answered);
        }
        let last = kvs.last().map(KeyValue::key).filter(|last| *last >= &next_start[..]);
        let last = last.ok_or(EtcdError::Malformed("the next keys"))?;
        next_start = [last, b"\0"].concat();
        let next = self::page(client, &next_start, &options, len);
        let delivered = async {
            yield_now().await; // lets the request be sent first
            deliver(kvs, &mut read).await;
        };
        page = future::join(next, delivered).await.0?;
    }
}

/// Reads a page of at most `len` keys, or fewer if they are too large.
pub(crate) async fn page(
    client: &Client,
    start: &[u8],
    options: &GetOptions,
    mut len: usize,
) -> Result<GetResponse, EtcdError> {
    loop {
        let limit = i64::try_from(len).unwrap_or(i64::MAX);
        let max_bytes = if len > 1 { MAX_PAGE_LEN } else { MAX_ANSWER_LEN };
        match client.range_up_to(start, options.clone().with_limit(limit), max_bytes).await {
            Err(error) if len > 1 && error.is_too_large() => {
                // etcd reads all keys again on each attempt, so the size that it reported determines the next one.
                let size = error.answer_len().unwrap_or_default().max(2 * PAGE_BYTES);
                len = (len * PAGE_BYTES / size).max(1);
            }
            outcome => return outcome,
        }
    }
}

/// Shortens values that are too large for a record. Returns the remaining size in bytes.
fn shorten(kvs: &mut [KeyValue]) -> usize {
    let mut bytes = 0;
    for KeyValue(kv) in kvs {
        if kv.value.len() > MAX_RECORD_LEN + 1 {
            kv.value.truncate(MAX_RECORD_LEN + 1);
            kv.value.shrink_to_fit();
        }
        bytes += kv.key.len() + kv.value.len();
    }
    bytes
}

/// Passes the keys on in batches, and yields to other tasks in between, such as the one that receives responses.
async fn deliver(kvs: Vec<KeyValue>, read: &mut (impl FnMut(Vec<KeyValue>) + Send)) {
    if kvs.len() <= YIELD_AFTER {
        return read(kvs);
    }
    let mut rest = kvs.into_iter();
    loop {
        let batch: Vec<_> = rest.by_ref().take(YIELD_AFTER).collect();
        if batch.is_empty() {
            return;
        }
        read(batch);
        yield_now().await;
    }
}

/// Returns how many keys of this size fill the next page.
fn next_len(kvs: &[KeyValue]) -> usize {
    let bytes: usize = kvs.iter().map(|kv| kv.key().len() + kv.value().len()).sum();
    (PAGE_BYTES * kvs.len() / bytes.max(1)).clamp(1, MAX_LEN)
}
