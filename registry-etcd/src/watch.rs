//! Watches: many on one stream of a process.

mod baseline;
mod feed;
mod stream;
#[cfg(test)]
mod tests;
mod versions;

use self::baseline::{Past, check};
use self::feed::{Feed, cancellation};
use self::stream::{Asked, Stream, Ticket};
use crate::client::{Client, cluster_and_revision};
use crate::cursor::{History, Proof};
use crate::error::EtcdError;
use crate::layout::decoder::Decoder;
use crate::layout::service::{Kv, ServiceLayout};
use futures_util::future;
use registry_core::{Cursor, Result, Watch};
use std::sync::{Arc, Mutex, PoisonError};

/// The stream that new watches go to. A clone shares it.
#[derive(Clone, Default)]
pub(crate) struct Streams(Arc<Inner>);

#[derive(Default)]
struct Inner {
    current: Mutex<Option<Arc<Stream>>>,
    /// Held by whoever opens a stream.
    opening: tokio::sync::Mutex<()>,
}

/// A watcher that etcd has made.
struct Opened {
    ticket: Ticket,
    /// The cluster that answered, and the revision of its store by then.
    cluster: u64,
    revision: u64,
}

impl Streams {
    /// Watches the keys of a service from after a cursor on.
    ///
    /// The watcher is made and the cursor's proof is checked at the same time, and nothing is delivered
    /// before both went well. A cursor that the stream [vouches](Self::witness) for is not checked.
    pub(crate) async fn watch(
        &self,
        client: &Client,
        service: ServiceLayout,
        after: &Cursor,
    ) -> Result<Watch> {
        let proof: Proof = service.origin().proof(after)?;
        let revision = after.revision().get();
        // No etcd gets as far as i64::MAX, so it answers that this is the future.
        let at = i64::try_from(revision).unwrap_or(i64::MAX);
        let vouched = self.open_vouched(client, &service, after).await;
        let is_vouched = vouched.is_some();
        let (opened, past) = if let Some(vouched) = vouched {
            vouched?
        } else {
            // Boxed, as all that is rare here: of 10,000 watches that are opened at once, each holds as
            // much as its largest step would.
            let opening = self.open(client, &service, at);
            let reading = Past::read(client, &service, &proof, at);
            Box::pin(future::try_join(opening, reading)).await?
        };
        proof.check_cluster(opened.cluster)?;
        // A watch of the future is silent until the future comes. Either the member lags, and this
        // waits for it; or the store was rolled back, and then the check that ran beside may be from
        // before. And of what came after a cursor that was not checked, the history may be dropped.
        if opened.revision < revision || is_vouched && opened.revision > revision {
            Box::pin(check(client, &service, &proof, at)).await?;
        }
        let history = History::new(proof, past.newest.as_deref());
        let decoder = Decoder::new(service.clone(), past.standing.iter().map(Kv::from));
        let feed = Feed::new(service, decoder, history, revision);
        Ok(opened.ticket.start(feed, after.clone()))
    }

    /// The stream that stands, to vouch for what is loaded from now on.
    pub(crate) fn witness(&self) -> Option<Witness> {
        self.current().map(|stream| Witness { seen: stream.seen(), stream })
    }

    /// Makes a watcher on the stream that stands, if that vouches for the cursor.
    async fn open_vouched(
        &self,
        client: &Client,
        service: &ServiceLayout,
        after: &Cursor,
    ) -> Option<Result<(Opened, Past), EtcdError>> {
        let stream = self.current().filter(|_| !service.has_side_keys())?;
        // What is older than what the stream has heard of may have been compacted away since.
        let vouched = stream.vouched(after).filter(|_| stream.seen() <= after.revision().get())?;
        let start = i64::try_from(after.revision().get()).ok()?.checked_add(1)?;
        let asked = stream.ask(service, start)?;
        match client.cluster().within(opened(client, asked)).await {
            Err(error) if error.is_about_a_token() => None,
            outcome => {
                let past = Past { newest: vouched.newest, standing: Vec::new() };
                Some(outcome.map(|opened| (opened, past)))
            }
        }
    }

    /// Makes a watcher that starts after a revision.
    async fn open(
        &self,
        client: &Client,
        service: &ServiceLayout,
        after: i64,
    ) -> Result<Opened, EtcdError> {
        let start = after.saturating_add(1);
        let mut is_renewed = false;
        let opening = async {
            loop {
                let (stream, asked) = self.ask(client, service, start).await?;
                let token = stream.token();
                match opened(client, asked).await {
                    // The token of a stream is that of its opening. What is on it goes on.
                    Err(error) if error.is_about_a_token() && !is_renewed => {
                        is_renewed = true;
                        self.retire(&stream);
                        stream.connection().renew_token(token).await?;
                    }
                    outcome => return outcome,
                }
            }
        };
        client.cluster().within(opening).await
    }

    /// Asks for a watcher, on the stream that stands or on a new one.
    async fn ask(
        &self,
        client: &Client,
        service: &ServiceLayout,
        start: i64,
    ) -> Result<(Arc<Stream>, Asked), EtcdError> {
        let on_current = || {
            let stream = self.current()?;
            let asked = stream.ask(service, start)?;
            Some((stream, asked))
        };
        if let Some(asked) = on_current() {
            return Ok(asked);
        }
        let _turn = self.0.opening.lock().await;
        if let Some(asked) = on_current() {
            return Ok(asked); // on the one that was opened meanwhile
        }
        let (stream, asked) = Stream::open(client, service, start).await?;
        *self.place() = Some(stream.clone());
        Ok((stream, asked))
    }

    fn current(&self) -> Option<Arc<Stream>> {
        let mut place = self.place();
        place.take_if(|stream| stream.is_over());
        place.clone()
    }

    /// Puts no new watches on `stream`.
    fn retire(&self, stream: &Arc<Stream>) {
        self.place().take_if(|current| Arc::ptr_eq(current, stream));
    }

    /// Held for an assignment, and nothing panics meanwhile.
    fn place(&self) -> std::sync::MutexGuard<'_, Option<Arc<Stream>>> {
        self.0.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A stream that stood when a load was begun.
///
/// A stream that stands shows that the connection stood too, and so that the same process answered all
/// the time: a store is wiped, restored or replaced by starting another. So a cursor of a load that was
/// made on that connection meanwhile needs no proof, for as long as the stream stands and nothing has
/// happened in the store since.
pub(crate) struct Witness {
    stream: Arc<Stream>,
    /// The highest revision that it had heard of by then.
    seen: u64,
}

impl Witness {
    /// A load on the connection in use gave `cursor`, and `newest` is the key that was put last.
    ///
    /// # Errors
    ///
    /// [`EtcdError::Stale`] if it is of before the load: a member that stood still may answer so, though
    /// it should not (etcd issue 20418, before 3.4.42 and 3.5.28).
    pub(crate) fn saw(
        &self,
        client: &Client,
        cursor: &Cursor,
        newest: Option<&[u8]>,
    ) -> Result<(), EtcdError> {
        let revision = cursor.revision().get();
        if !client.cluster().uses(self.stream.connection()) || self.stream.is_over() {
            return Ok(()); // another may have answered
        }
        if revision < self.seen {
            client.cluster().leave(self.stream.connection());
            return Err(EtcdError::Stale(revision, self.seen));
        }
        self.stream.vouch(cursor.clone(), newest.map(<[u8]>::to_vec));
        Ok(())
    }
}

/// Waits for etcd to make the watcher that was asked for.
async fn opened(client: &Client, asked: Asked) -> Result<Opened, EtcdError> {
    let Asked { ticket, created } = asked;
    let attempt = client.cluster().attempt(ticket.connection());
    let created = created.await.map_err(|_| EtcdError::Ended);
    attempt.ended();
    let created = created?;
    if created.canceled() {
        return Err(cancellation(&created));
    }
    let (cluster, revision) = cluster_and_revision(created.header())?;
    Ok(Opened { ticket, cluster, revision })
}
