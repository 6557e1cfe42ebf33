//! A registry that records all calls, and can change the outcome of some.

use async_trait::async_trait;
use futures_util::{StreamExt, stream};
use registry_core::{
    Batch, CallOptions, Claim, Cursor, Error, ErrorKind, Holder, Instance, Lease, Presence,
    Registry, Result, ServiceName, Snapshot, Watch,
};
use registry_mem::FaultyRegistry;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// A call to a registry.
#[derive(Clone, Debug)]
pub(crate) enum Call {
    Register(Instance, Claim),
    Holder,
    KeepAlive(Lease),
    Deregister,
    Load,
    Watch(Cursor),
    WatchRecord,
}

/// A changed outcome of a call.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Twist {
    /// The call fails without reaching the store.
    Refuse(ErrorKind),
    /// The call fails with `Superseded` and this holder, without reaching the store.
    Superseded(Holder),
    /// The call fails after 50 ms, without reaching the store.
    LateRefusal(ErrorKind),
    /// The store applies the call at once, but answers later by this time.
    Late(Duration),
    /// The call is never answered.
    Hang,
    /// The client panics.
    Panic,
    /// The answer claims that another ttl was granted.
    Grant(Duration),
    /// The watch opens and ends at once.
    EndAtOnce(ErrorKind),
    /// The watch yields progress and then ends.
    ProgressAndEnd(ErrorKind),
}

type Twister = Box<dyn FnMut(&Call) -> Option<Twist> + Send>;

/// A registry that records every call, and twists some.
pub(crate) struct Spy {
    inner: FaultyRegistry,
    calls: Mutex<Vec<(Instant, Call)>>,
    twister: Mutex<Twister>,
    open: Arc<AtomicUsize>,
    presences: Mutex<Vec<Presence>>,
    /// The sending time of the last successful register or renewal.
    acknowledged: Mutex<Option<Instant>>,
}

impl Spy {
    pub(crate) fn new(inner: FaultyRegistry) -> Self {
        let (calls, twister) = (Mutex::default(), Mutex::new(Box::new(|_: &Call| None) as Twister));
        let (open, acknowledged, presences) = Default::default();
        Self { inner, calls, twister, open, presences, acknowledged }
    }

    /// Lets `twister` decide about all later calls.
    pub(crate) fn twist(&self, twister: impl FnMut(&Call) -> Option<Twist> + Send + 'static) {
        *self.twister.lock().unwrap() = Box::new(twister);
    }

    pub(crate) fn untwist(&self) {
        self.twist(|_| None);
    }

    /// Returns all calls so far with their times.
    pub(crate) fn calls(&self) -> Vec<(Instant, Call)> {
        self.calls.lock().unwrap().clone()
    }

    fn times(&self, of: impl Fn(&Call) -> bool) -> Vec<Instant> {
        self.calls().iter().filter(|(_, call)| of(call)).map(|(at, _)| *at).collect()
    }

    pub(crate) fn renewals(&self) -> Vec<Instant> {
        self.times(|call| matches!(call, Call::KeepAlive(_)))
    }

    /// Returns the presence options of all renewals so far.
    pub(crate) fn presences(&self) -> Vec<Presence> {
        self.presences.lock().unwrap().clone()
    }

    pub(crate) fn withdrawals(&self) -> Vec<Instant> {
        self.times(|call| matches!(call, Call::Deregister))
    }

    /// Returns how often the holder of an id was read.
    pub(crate) fn holder_reads(&self) -> usize {
        self.times(|call| matches!(call, Call::Holder)).len()
    }

    pub(crate) fn loads(&self) -> usize {
        self.times(|call| matches!(call, Call::Load)).len()
    }

    pub(crate) fn claims(&self) -> Vec<(Instant, Claim)> {
        let claim = |(at, call)| match call {
            Call::Register(_, claim) => Some((at, claim)),
            _ => None,
        };
        self.calls().into_iter().filter_map(claim).collect()
    }

    /// Returns the cursors of all watches.
    pub(crate) fn watches(&self) -> Vec<Cursor> {
        let cursor = |(_, call)| match call {
            Call::Watch(cursor) => Some(cursor),
            _ => None,
        };
        self.calls().into_iter().filter_map(cursor).collect()
    }

    /// Returns the sending time of the last acknowledged register or renewal.
    pub(crate) fn acknowledged(&self) -> Option<Instant> {
        *self.acknowledged.lock().unwrap()
    }

    /// Returns the number of open watches.
    pub(crate) fn open(&self) -> usize {
        self.open.load(Ordering::SeqCst)
    }

    fn note(&self, call: Call) -> Option<Twist> {
        let twist = (self.twister.lock().unwrap())(&call);
        self.calls.lock().unwrap().push((Instant::now(), call));
        twist
    }

    async fn pass<T>(&self, call: Call, on: impl Future<Output = Result<T>>) -> Result<T> {
        let twist = self.note(call);
        Self::twisted(twist, on).await
    }

    async fn twisted<T>(twist: Option<Twist>, on: impl Future<Output = Result<T>>) -> Result<T> {
        match twist {
            Some(Twist::Refuse(kind)) => Err(Error::new(kind, "refused by the spy")),
            Some(Twist::Superseded(holder)) => {
                Err(Error::new(ErrorKind::Superseded, "refused by the spy").with_holder(holder))
            }
            Some(Twist::LateRefusal(kind)) => {
                sleep(Duration::from_millis(50)).await;
                Err(Error::new(kind, "refused by the spy"))
            }
            Some(Twist::Hang) => std::future::pending().await,
            Some(Twist::Panic) => std::panic::resume_unwind(Box::new("planted")),
            Some(Twist::Late(delay)) => {
                let answer = on.await;
                sleep(delay).await;
                answer
            }
            _ => on.await,
        }
    }
}

#[async_trait]
impl Registry for Spy {
    async fn register(
        &self,
        instance: &Instance,
        claim: &Claim,
        options: &CallOptions,
    ) -> Result<Lease> {
        let sent = Instant::now();
        let twist = self.note(Call::Register(instance.clone(), *claim));
        let lease = Self::twisted(twist, self.inner.register(instance, claim, options)).await?;
        *self.acknowledged.lock().unwrap() = Some(sent);
        let Some(Twist::Grant(ttl)) = twist else { return Ok(lease) };
        Ok(Lease::new(lease.id(), ttl, lease.instance().clone(), lease.revision()))
    }

    async fn holder(&self, instance: &Instance, options: &CallOptions) -> Result<Option<Holder>> {
        self.pass(Call::Holder, self.inner.holder(instance, options)).await
    }

    async fn keep_alive(&self, lease: &Lease, options: &CallOptions) -> Result<Duration> {
        let sent = Instant::now();
        self.presences.lock().unwrap().push(options.presence);
        let renewal = self.inner.keep_alive(lease, options);
        let ttl = self.pass(Call::KeepAlive(lease.clone()), renewal).await?;
        *self.acknowledged.lock().unwrap() = Some(sent);
        Ok(ttl)
    }

    async fn deregister(&self, lease: &Lease, options: &CallOptions) -> Result<()> {
        self.pass(Call::Deregister, self.inner.deregister(lease, options)).await
    }

    async fn load(&self, service: &ServiceName, options: &CallOptions) -> Result<Snapshot> {
        self.pass(Call::Load, self.inner.load(service, options)).await
    }

    async fn watch(
        &self,
        service: &ServiceName,
        after: &Cursor,
        options: &CallOptions,
    ) -> Result<Watch> {
        let twist = self.note(Call::Watch(after.clone()));
        let watch = match twist {
            Some(Twist::Refuse(kind)) => return Err(Error::new(kind, "refused by the spy")),
            Some(Twist::Hang) => std::future::pending().await,
            Some(Twist::Panic) => std::panic::resume_unwind(Box::new("planted")),
            Some(Twist::EndAtOnce(kind)) => {
                let end = Err(Error::new(kind, "ended by the spy"));
                Watch::new(after.clone(), stream::iter([end]))
            }
            Some(Twist::ProgressAndEnd(kind)) => {
                // The proof in a cursor of the memory store is its branch, so the same proof is valid at the next
                // revision.
                let next = after.revision().get() + 1;
                let text = after.to_string();
                let text = text.replacen(&format!(":{}:", next - 1), &format!(":{next}:"), 1);
                let progress = Ok(Arc::new(Batch::progress(text.parse()?)));
                let end = Err(Error::new(kind, "ended by the spy"));
                Watch::new(after.clone(), stream::iter([progress, end]))
            }
            _ => self.inner.watch(service, after, options).await?,
        };
        let open = Open::new(&self.open);
        Ok(watch.wrap(|watch| {
            stream::unfold((watch, open), |(mut watch, open)| async move {
                Some((watch.next().await?, (watch, open)))
            })
        }))
    }

    async fn watch_record(&self, lease: &Lease, options: &CallOptions) -> Result<Watch> {
        self.pass(Call::WatchRecord, self.inner.watch_record(lease, options)).await
    }

    fn default_ttl(&self) -> Option<Duration> {
        self.inner.default_ttl()
    }

    async fn services(&self, options: &CallOptions) -> Result<BTreeSet<ServiceName>> {
        self.inner.services(options).await
    }
}

impl fmt::Debug for Spy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spy").field("inner", &self.inner).finish_non_exhaustive()
    }
}

/// A guard that counts an open watch.
struct Open(Arc<AtomicUsize>);

impl Open {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}
