//! One gRPC stream with many watchers on it, and the task that serves it.

use super::baseline::check;
use super::feed::Feed;
use crate::client::Client;
use crate::cluster::{Connection, Token};
use crate::cursor::Proof;
use crate::error::EtcdError;
use crate::layout::service::ServiceLayout;
use etcd_client::{
    ResponseHeader, WatchOptions, WatchRequestSender, WatchResponse, WatchResponseStream,
};
use registry_core::{Cursor, Error, Watch};
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{Notify, oneshot};
use tokio::task::yield_now;
use tokio::time::{Instant, sleep};

/// The largest answer that is taken, in bytes; etcd-client's default is 4 MiB. A response is split
/// when it is larger than a request may be, and holds one revision's changes at least.
const MAX_ANSWER_LEN: usize = 64 * 1024 * 1024;

/// How many loaded cursors are remembered that nobody watches from.
const MOST_VOUCHED: usize = 16_384;

/// The id of the watcher that a stream is opened with.
const FIRST: i64 = 1;

/// A stream. It lives for as long as there are watchers on it and the connection stands.
pub(super) struct Stream {
    client: Client,
    connection: Arc<Connection>,
    token: Token,
    book: Mutex<Book>,
    /// There is something to send, or nobody is left.
    news: Notify,
    /// The highest revision that was heard of while it stood.
    seen: AtomicU64,
}

#[derive(Default)]
struct Book {
    watchers: HashMap<i64, Watcher>,
    /// The watchers asked for and not answered, in the order in which they are answered.
    asked: VecDeque<i64>,
    /// What to send.
    outbox: VecDeque<Outgoing>,
    last_id: i64,
    /// The cursors that were loaded while the stream stood.
    vouched: HashMap<Cursor, Vouched>,
    is_over: bool,
}

enum Watcher {
    /// Its proof is still being checked.
    Opening(Opening),
    Live(Box<Feed>),
}

struct Opening {
    /// Who waits for etcd to say that it is there.
    created: Option<oneshot::Sender<WatchResponse>>,
    /// What it said since.
    held: Vec<WatchResponse>,
}

/// Where etcd's answer to a request for a watcher comes; an error when the stream broke before.
pub(super) type Created = oneshot::Receiver<WatchResponse>;

/// What is known of a cursor that needs no check.
pub(super) struct Vouched {
    /// The key that was put last, if there is one.
    pub(super) newest: Option<Vec<u8>>,
}

/// A watcher that was asked for.
pub(super) struct Asked {
    pub(super) ticket: Ticket,
    pub(super) created: Created,
}

enum Outgoing {
    Create(Vec<u8>, WatchOptions),
    Cancel(i64),
}

/// A watcher on a stream. To drop it cancels it.
pub(super) struct Ticket {
    stream: Arc<Stream>,
    id: i64,
}

impl Stream {
    /// Opens a stream, with a first watcher on it.
    pub(super) async fn open(
        client: &Client,
        service: &ServiceLayout,
        start: i64,
    ) -> Result<(Arc<Self>, Asked), EtcdError> {
        let opened = client.cluster().call(|connection| async move {
            let token = connection.token();
            let watches = connection.client().watch_client();
            let mut watches = watches.max_decoding_message_size(MAX_ANSWER_LEN);
            let options = options(service, start, FIRST);
            let stream = watches.watch(service.start(), Some(options)).await?;
            Ok((stream, connection, token))
        });
        let (stream, connection, token) = opened.await?;
        let (requests, responses) = stream.split();
        let (client, book, news) = (client.clone(), Mutex::default(), Notify::new());
        let new = Arc::new(Self { client, connection, token, book, news, seen: AtomicU64::new(0) });
        let (id, created) = new.lock().add();
        debug_assert_eq!(id, FIRST);
        tokio::spawn(new.clone().run(requests, responses));
        let asked = Asked { ticket: Ticket { stream: new.clone(), id }, created };
        Ok((new, asked))
    }

    /// Asks for another watcher, unless the stream is over.
    pub(super) fn ask(self: &Arc<Self>, service: &ServiceLayout, start: i64) -> Option<Asked> {
        let mut book = self.lock();
        if book.is_over {
            return None;
        }
        let (id, created) = book.add();
        book.outbox
            .push_back(Outgoing::Create(service.start().to_owned(), options(service, start, id)));
        drop(book);
        self.news.notify_one();
        Some(Asked { ticket: Ticket { stream: self.clone(), id }, created })
    }

    pub(super) fn is_over(&self) -> bool {
        self.lock().is_over
    }

    pub(super) fn connection(&self) -> &Arc<Connection> {
        &self.connection
    }

    /// The token that it was opened with.
    pub(super) fn token(&self) -> Token {
        self.token
    }

    /// The highest revision that was heard of while it stood.
    pub(super) fn seen(&self) -> u64 {
        self.seen.load(Ordering::Relaxed)
    }

    /// Remembers that `cursor` was loaded while the stream stood. What is loaded and never watched is
    /// forgotten when there is too much of it.
    pub(super) fn vouch(&self, cursor: Cursor, newest: Option<Vec<u8>>) {
        self.seen.fetch_max(cursor.revision().get(), Ordering::Relaxed);
        let mut book = self.lock();
        if book.vouched.len() >= MOST_VOUCHED {
            book.vouched.clear();
        }
        book.vouched.insert(cursor, Vouched { newest });
    }

    /// What is known of `cursor`, if it was loaded while the stream stood.
    pub(super) fn vouched(&self, cursor: &Cursor) -> Option<Vouched> {
        self.lock().vouched.remove(cursor)
    }

    /// Serves the watchers until the stream breaks or the last of them is gone.
    async fn run(self: Arc<Self>, requests: WatchRequestSender, responses: WatchResponseStream) {
        // All at once: etcd may not read what it is sent before what it sends is read.
        let end = tokio::select! {
            end = self.read(responses) => end,
            sent = self.write(requests) => match sent {
                Ok(()) => return, // nobody is left
                Err(end) => end,
            },
            end = self.audit() => end,
            () = self.connection.ended() => EtcdError::Ended,
        };
        if end.is_about_the_member() {
            self.client.cluster().leave(&self.connection);
        }
        let watchers = {
            let mut book = self.lock();
            book.is_over = true;
            std::mem::take(&mut book.watchers)
        };
        // A token that is too old for the stream is no matter of the watches on it.
        let error = Error::from(if end.is_about_a_token() { EtcdError::Ended } else { end });
        for watcher in watchers.into_values() {
            // One that is being opened hears it by being dropped.
            if let Watcher::Live(mut feed) = watcher {
                feed.fail(error.clone());
            }
        }
    }

    async fn read(&self, mut responses: WatchResponseStream) -> EtcdError {
        let mut fragments = HashMap::new();
        loop {
            match responses.message().await {
                Ok(Some(response)) => {
                    self.connection.heard(Instant::now());
                    // That of a refusal is 0.
                    let revision = response.header().map_or(0, ResponseHeader::revision);
                    self.seen.fetch_max(revision.cast_unsigned(), Ordering::Relaxed);
                    let Some(response) = reassemble(&mut fragments, response) else { continue };
                    let is_read = !response.events().is_empty();
                    self.take(response);
                    if is_read {
                        // After a standstill of the process, responses wait in thousands. A reader on
                        // this thread gets its turn between them, or it would lag through no fault of
                        // its own.
                        yield_now().await;
                    }
                }
                Ok(None) => return EtcdError::Ended,
                Err(error) => return error.into(),
            }
        }
    }

    /// Sends what is to be sent, until nobody is left.
    async fn write(&self, mut requests: WatchRequestSender) -> Result<(), EtcdError> {
        loop {
            let next = {
                let mut book = self.lock();
                book.is_over = book.watchers.is_empty();
                if book.is_over {
                    return Ok(());
                }
                book.outbox.pop_front()
            };
            match next {
                Some(Outgoing::Create(key, options)) => requests.watch(key, Some(options)).await?,
                Some(Outgoing::Cancel(id)) => requests.cancel(id).await?,
                None => self.news.notified().await,
            }
        }
    }

    /// Looks now and then whether a watch has missed anything, as some releases of etcd have them do in
    /// silence: what it has read must have led to what stands there. It has no end.
    async fn audit(&self) -> EtcdError {
        let Some(interval) = self.client.audit_interval() else {
            return std::future::pending().await;
        };
        loop {
            sleep(interval.mul_f64(0.8 + 0.4 * fastrand::f64())).await;
            let standing: Vec<_> = self.lock().standing().collect();
            for (id, service, proof, revision) in standing {
                let checked = check(&self.client, &service, &proof, revision.cast_signed()).await;
                let Err(EtcdError::Diverged(why)) = checked else { continue }; // or it is not known
                if let Some(Watcher::Live(mut feed)) = self.lock().remove(id) {
                    feed.fail(EtcdError::Hole(why).into());
                    self.news.notify_one();
                }
            }
        }
    }

    /// Hands a response to its watcher.
    fn take(&self, response: WatchResponse) {
        let mut book = self.lock();
        if response.created() {
            return book.created(response);
        }
        let id = response.watch_id();
        let goes_on = match book.watchers.get_mut(&id) {
            // It was dropped; or it is the reply to a request for progress.
            None => true,
            Some(Watcher::Opening(opening)) => {
                opening.held.push(response);
                true
            }
            Some(Watcher::Live(feed)) => feed.take(&response),
        };
        if !goes_on {
            book.remove(id);
            drop(book);
            self.news.notify_one();
        }
    }

    /// Held while a response is read: nothing of that waits.
    fn lock(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Book {
    fn add(&mut self) -> (i64, Created) {
        self.last_id += 1;
        let (created, answer) = oneshot::channel();
        let opening = Opening { created: Some(created), held: Vec::new() };
        self.watchers.insert(self.last_id, Watcher::Opening(opening));
        self.asked.push_back(self.last_id);
        (self.last_id, answer)
    }

    /// What the watches have read, and up to which revision.
    fn standing(&self) -> impl Iterator<Item = (i64, ServiceLayout, Proof, u64)> {
        self.watchers.iter().filter_map(|(id, watcher)| match watcher {
            Watcher::Opening(_) => None,
            Watcher::Live(feed) => {
                let (service, proof, revision) = feed.standing();
                Some((*id, service.clone(), proof.clone(), revision))
            }
        })
    }

    /// Takes a watcher out, and has it canceled.
    fn remove(&mut self, id: i64) -> Option<Watcher> {
        let watcher = self.watchers.remove(&id)?;
        self.outbox.push_back(Outgoing::Cancel(id));
        Some(watcher)
    }

    /// etcd answers in the order in which it is asked. What it refuses has no id.
    fn created(&mut self, response: WatchResponse) {
        let Some(id) = self.asked.pop_front() else { return };
        let Some(Watcher::Opening(opening)) = self.watchers.get_mut(&id) else { return };
        if let Some(created) = opening.created.take() {
            drop(created.send(response)); // who asked may be gone, and its ticket cancels
        }
    }
}

impl Ticket {
    pub(super) fn connection(&self) -> &Arc<Connection> {
        &self.stream.connection
    }

    /// Has what its watcher says read by `feed`, from the creation on.
    pub(super) fn start(self, feed: Feed, after: Cursor) -> Watch {
        let mut feed = Box::new(feed);
        let mut book = self.stream.lock();
        let (held, stands) = match book.watchers.remove(&self.id) {
            Some(Watcher::Opening(opening)) => (opening.held, true),
            _ => (Vec::new(), false), // the stream is over: so is the feed, by being dropped
        };
        let (watch, goes_on) = feed.open(after, &held);
        if stands && goes_on {
            book.watchers.insert(self.id, Watcher::Live(feed));
        }
        drop(book);
        watch.with_guard(self)
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut book = self.stream.lock();
        let watcher = book.remove(self.id);
        drop(book);
        drop(watcher);
        self.stream.news.notify_one();
    }
}

fn options(service: &ServiceLayout, start: i64, id: i64) -> WatchOptions {
    WatchOptions::new()
        .with_range(service.end())
        .with_start_revision(start)
        .with_watch_id(id)
        .with_progress_notify()
        .with_fragment()
}

/// Puts together what etcd sent in pieces.
fn reassemble(
    fragments: &mut HashMap<i64, WatchResponse>,
    mut response: WatchResponse,
) -> Option<WatchResponse> {
    let id = response.watch_id();
    if let Some(mut before) = fragments.remove(&id) {
        before.0.events.append(&mut response.0.events);
        response.0.events = before.0.events;
    }
    if response.0.fragment {
        fragments.insert(id, response);
        return None;
    }
    Some(response)
}
