//! Reads of many keys, in pages that all show one revision and are bounded by bytes.

use crate::client::{Answered, Client, MAX_ANSWER_LEN, MAX_PAGE_LEN};
use crate::error::EtcdError;
use etcd_client::{GetOptions, GetResponse, KeyValue};
use futures_util::future;
use registry_core::encoding::MAX_RECORD_LEN;
use tokio::task::yield_now;

/// How many keys the first page holds at most.
const FIRST_LEN: usize = 1000;

/// How many keys a page holds at most. For each page etcd counts all keys that are left, so that few large ones are
/// cheaper.
const MAX_LEN: usize = 5000;

/// How many bytes a page is to have.
const PAGE_BYTES: usize = 4 * 1024 * 1024;

/// How many bytes of keys and values all pages have together at most. Of a value that is larger than a record, one byte
/// more than a record counts.
const MAX_BYTES: usize = 1024 * 1024 * 1024;

/// How many keys are read until others on the thread get their turn.
const YIELD_AFTER: usize = 256;

/// Reads page by page, all as of the revision `at`, or else of the one that the first page shows. The content of
/// one page is passed to `read` while etcd looks for the next. Gives who answered the first page.
///
/// A page that is larger than [`MAX_PAGE_LEN`] bytes is asked for again with fewer keys. Of a value that is larger
/// than a record, `read` gets one byte more than a record may have.
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
            return Err(EtcdError::TooLarge("all keys and values that a read gives", MAX_BYTES));
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
            yield_now().await; // so that the request is sent before
            deliver(kvs, &mut read).await;
        };
        page = future::join(next, delivered).await.0?;
    }
}

/// Reads a page of at most `len` keys: fewer, if they are too large.
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
                // Each time etcd reads all of them again, so what it said of their size is used.
                let size = error.answer_len().unwrap_or_default().max(2 * PAGE_BYTES);
                len = (len * PAGE_BYTES / size).max(1);
            }
            outcome => return outcome,
        }
    }
}

/// Shortens values that are too large for a record. Gives how many bytes are left.
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

/// Gives some keys at a time, and between them the thread to others, such as the task that receives.
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

/// How many keys to read next, if they are as large as these.
fn next_len(kvs: &[KeyValue]) -> usize {
    let bytes: usize = kvs.iter().map(|kv| kv.key().len() + kv.value().len()).sum();
    (PAGE_BYTES * kvs.len() / bytes.max(1)).clamp(1, MAX_LEN)
}
