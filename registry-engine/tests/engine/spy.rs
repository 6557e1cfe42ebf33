//! A registry that records all calls, and changes the outcomes of intercepted ones.

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

/// The changed outcome of an intercepted call.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Interception {
    /// The call fails without reaching the store.
    Refuse(ErrorKind),
    /// The call fails with `Superseded` and this holder, without reaching the store.
    Superseded(Holder),
    /// The call fails after 50 ms, without reaching the store.
    DelayedRefusal(ErrorKind),
    /// The store executes the call at once, but its reply is delayed by this time.
    DelayedReply(Duration),
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

/// Decides which calls are intercepted, and how.
type Interceptor = Box<dyn FnMut(&Call) -> Option<Interception> + Send>;

/// A registry that records every call, and intercepts some.
pub(crate) struct Spy {
    inner: FaultyRegistry,
    calls: Mutex<Vec<(Instant, Call)>>,
    interceptor: Mutex<Interceptor>,
    open: Arc<AtomicUsize>,
    presences: Mutex<Vec<Presence>>,
    /// The sending time of the last successful register or renewal.
    acknowledged: Mutex<Option<Instant>>,
}

impl Spy {
    pub(crate) fn new(inner: FaultyRegistry) -> Self {
        let (calls, interceptor) =
            (Mutex::default(), Mutex::new(Box::new(|_: &Call| None) as Interceptor));
        let (open, acknowledged, presences) = Default::default();
        Self { inner, calls, interceptor, open, presences, acknowledged }
    }

    /// Changes the outcomes of later calls for which `interceptor` returns an interception.
    pub(crate) fn intercept(
        &self,
        interceptor: impl FnMut(&Call) -> Option<Interception> + Send + 'static,
    ) {
        *self.interceptor.lock().unwrap() = Box::new(interceptor);
    }

    pub(crate) fn stop_intercepting(&self) {
        self.intercept(|_| None);
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
    pub(crate) fn open_watches(&self) -> usize {
        self.open.load(Ordering::SeqCst)
    }

    fn record(&self, call: Call) -> Option<Interception> {
        let interception = (self.interceptor.lock().unwrap())(&call);
        self.calls.lock().unwrap().push((Instant::now(), call));
        interception
    }

    async fn call<T>(&self, call: Call, on: impl Future<Output = Result<T>>) -> Result<T> {
        let interception = self.record(call);
        Self::run(interception, on).await
    }

    async fn run<T>(
        interception: Option<Interception>,
        on: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        match interception {
            Some(Interception::Refuse(kind)) => Err(Error::new(kind, "refused by the spy")),
            Some(Interception::Superseded(holder)) => {
                Err(Error::new(ErrorKind::Superseded, "refused by the spy").with_holder(holder))
            }
            Some(Interception::DelayedRefusal(kind)) => {
                sleep(Duration::from_millis(50)).await;
                Err(Error::new(kind, "refused by the spy"))
            }
            Some(Interception::Hang) => std::future::pending().await,
            Some(Interception::Panic) => std::panic::resume_unwind(Box::new("a panic of the spy")),
            Some(Interception::DelayedReply(delay)) => {
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
        let interception = self.record(Call::Register(instance.clone(), *claim));
        let lease = Self::run(interception, self.inner.register(instance, claim, options)).await?;
        *self.acknowledged.lock().unwrap() = Some(sent);
        let Some(Interception::Grant(ttl)) = interception else { return Ok(lease) };
        Ok(Lease::new(lease.id(), ttl, lease.instance().clone(), lease.revision()))
    }

    async fn holder(&self, instance: &Instance, options: &CallOptions) -> Result<Option<Holder>> {
        self.call(Call::Holder, self.inner.holder(instance, options)).await
    }

    async fn keep_alive(&self, lease: &Lease, options: &CallOptions) -> Result<Duration> {
        let sent = Instant::now();
        self.presences.lock().unwrap().push(options.presence);
        let renewal = self.inner.keep_alive(lease, options);
        let ttl = self.call(Call::KeepAlive(lease.clone()), renewal).await?;
        *self.acknowledged.lock().unwrap() = Some(sent);
        Ok(ttl)
    }

    async fn deregister(&self, lease: &Lease, options: &CallOptions) -> Result<()> {
        self.call(Call::Deregister, self.inner.deregister(lease, options)).await
    }

    async fn load(&self, service: &ServiceName, options: &CallOptions) -> Result<Snapshot> {
        self.call(Call::Load, self.inner.load(service, options)).await
    }

    async fn watch(
        &self,
        service: &ServiceName,
        after: &Cursor,
        options: &CallOptions,
    ) -> Result<Watch> {
        let interception = self.record(Call::Watch(after.clone()));
        let watch = match interception {
            Some(Interception::Refuse(kind)) => return Err(Error::new(kind, "refused by the spy")),
            Some(Interception::Hang) => std::future::pending().await,
            Some(Interception::Panic) => std::panic::resume_unwind(Box::new("a panic of the spy")),
            Some(Interception::EndAtOnce(kind)) => {
                let end = Err(Error::new(kind, "ended by the spy"));
                Watch::new(after.clone(), stream::iter([end]))
            }
            Some(Interception::ProgressAndEnd(kind)) => {
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
        self.call(Call::WatchRecord, self.inner.watch_record(lease, options)).await
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
