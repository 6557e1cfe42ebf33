//! A picture of one service that is always there, and says how good it is.

use super::board::{Board, Listener};
use super::discovery::Shared;
use super::retain::Retained;
use super::updates::Updates;
use arc_swap::{ArcSwap, Cache, Guard};
use registry_core::{Error, ErrorKind, Instances, Result, ServiceName, Snapshot};
use std::fmt;
use std::future::poll_fn;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// A handle to the picture of one service, kept up to date by a task that all its handles share.
///
/// Made by [`Discovery::view`](super::Discovery::view). A clone is another handle; when the last goes,
/// with the streams made of it, the watch is closed. To read is wait-free and allocates nothing,
/// whatever the store or other readers do.
///
/// ```
/// use registry_core::Instance;
/// use registry_engine::{Discovery, DiscoveryOptions, Registration, RegistrationOptions};
/// use registry_mem::MemRegistry;
/// use std::sync::Arc;
/// use std::time::Duration;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> registry_core::Result<()> {
/// let registry = Arc::new(MemRegistry::new());
/// let discovery = Discovery::new(registry.clone(), DiscoveryOptions::default());
/// let mut view = discovery.view(&"user.rpc".parse()?);
/// view.ready(Duration::from_secs(5)).await?;
/// assert!(view.picture().instances().is_empty());
///
/// let node = Instance::new("user.rpc".parse()?, "node-1".parse()?, "10.0.0.1:8080".parse()?);
/// let registration = Registration::start(registry, node, RegistrationOptions::default()).await?;
/// view.changed().await;
/// assert_eq!(view.picture().instances()[0].address().to_string(), "10.0.0.1:8080");
/// # registration.stop().await
/// # }
/// ```
pub struct View {
    shared: Arc<Shared>,
    /// The version of the picture that [`changed`](Self::changed) last told of.
    seen: u64,
    /// Where it waits. Who only reads needs none.
    listener: Option<Listener>,
}

impl View {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        let seen = shared.board().picture().version;
        Self { shared, seen, listener: None }
    }

    /// The service.
    pub fn service(&self) -> &ServiceName {
        self.shared.service()
    }

    /// The picture now. Wait-free. Do not keep it: the next call gives a newer one.
    #[inline]
    pub fn picture(&self) -> PictureRef {
        PictureRef(self.shared.board().picture())
    }

    /// A reader for a hot loop: it remembers the last picture, and looks only whether it is still that.
    pub fn reader(&self) -> Reader {
        Reader { cache: Cache::new(BoardCell(self.shared.board().clone())), _view: self.clone() }
    }

    /// How good the picture is.
    pub fn state(&self) -> ViewState {
        self.picture().state.clone()
    }

    /// For how long the picture could not be confirmed: nothing while it is live.
    pub fn staleness(&self) -> Duration {
        match self.picture().state {
            ViewState::Live => Duration::ZERO,
            ViewState::Loading { since } | ViewState::Stale { since, .. } => since.elapsed(),
        }
    }

    /// What the store said last, without what is retained. `None` before it said anything.
    pub fn store_snapshot(&self) -> Option<Snapshot> {
        self.picture().truth.clone()
    }

    /// Waits until the store has confirmed the picture, or for `within`.
    ///
    /// A picture that came from a snapshot file and could not be confirmed in time is `Ok` as well: it
    /// can be used, and its [state](Self::state) says what it is.
    ///
    /// # Errors
    ///
    /// When there is no picture at all: what the store refused it with (`Denied`, `Invalid`), at once;
    /// `Unavailable` after `within`, with the last error as its source. The view goes on trying.
    pub async fn ready(&mut self, within: Duration) -> Result<()> {
        let listener = self.shared.board().listen();
        let settled = |picture: &Picture| match &picture.state {
            ViewState::Live => Some(Ok(picture.version)),
            ViewState::Stale { why, .. } if picture.truth.is_none() && !mends(why) => {
                let error = Error::new(why.kind(), "cannot load the service");
                Some(Err(error.with_source(why.clone())))
            }
            _ => None,
        };
        let settled = poll_fn(|cx| listener.poll(cx, settled));
        if let Ok(settled) = timeout(within, settled).await {
            self.seen = settled?;
            return Ok(());
        }
        let picture = self.picture();
        if picture.truth.is_some() {
            self.seen = picture.version;
            return Ok(());
        }
        let message = format!(
            "the service could not be loaded in time, service=`{}`, within=`{within:?}`",
            self.service()
        );
        let error = Error::new(ErrorKind::Unavailable, message);
        Err(match &picture.state {
            ViewState::Stale { why, .. } => error.with_source(why.clone()),
            _ => error,
        })
    }

    /// Waits for the picture to be another than when this or [`ready`](Self::ready) last returned, or
    /// than when the handle was made: other instances, or another [state](ViewState). Changes in
    /// between are told as one. A clone has seen what the handle had seen that it was made of.
    pub async fn changed(&mut self) {
        let Self { shared, seen, listener } = self;
        let listener = listener.get_or_insert_with(|| shared.board().listen());
        let other = |picture: &Picture| Some(picture.version).filter(|version| version != seen);
        *seen = poll_fn(|cx| listener.poll(cx, other)).await;
    }

    /// Every change that the store makes, after its state now.
    pub fn updates(&self) -> Updates {
        Updates::new(self.clone(), self.shared.board())
    }
}

impl Clone for View {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone(), seen: self.seen, listener: None }
    }
}

impl fmt::Debug for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let picture = self.picture();
        f.debug_struct("View")
            .field("service", self.service())
            .field("instances", &picture.instances.len())
            .field("state", &picture.state)
            .finish_non_exhaustive()
    }
}

/// A service as a view shows it.
#[derive(Clone, Debug)]
pub struct Picture {
    pub(crate) instances: Instances,
    pub(crate) retained: Box<[Retained]>,
    pub(crate) truth: Option<Snapshot>,
    pub(crate) state: ViewState,
    pub(crate) version: u64,
}

impl Picture {
    /// The instances, those retained among them.
    #[inline]
    pub fn instances(&self) -> &Instances {
        &self.instances
    }

    /// Those that the store does not list, in order of id: see [`DiscoveryOptions::retain`](super::DiscoveryOptions::retain).
    pub fn retained(&self) -> &[Retained] {
        &self.retained
    }

    /// What the store said last. `None` before it said anything.
    pub fn store_snapshot(&self) -> Option<&Snapshot> {
        self.truth.as_ref()
    }

    /// How good it is.
    pub fn state(&self) -> &ViewState {
        &self.state
    }
}

/// How good a picture is.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ViewState {
    /// Nothing was heard yet. The picture is empty, or came from a snapshot file.
    Loading {
        /// Since when the store is being asked.
        since: Instant,
    },
    /// The store confirms it: it answers, and a watch stands that brings every change.
    Live,
    /// Changes may be missing. It is being mended.
    Stale {
        /// Since when.
        since: Instant,
        /// What went wrong last.
        why: Error,
    },
}

impl ViewState {
    /// Whether the store confirms the picture.
    pub fn is_live(&self) -> bool {
        matches!(self, Self::Live)
    }
}

/// A picture being read.
pub struct PictureRef(Guard<Arc<Picture>>);

impl Deref for PictureRef {
    type Target = Picture;

    #[inline]
    fn deref(&self) -> &Picture {
        &self.0
    }
}

impl fmt::Debug for PictureRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

/// Reads a view in a hot loop, one for each task. It keeps the view open.
pub struct Reader {
    cache: Cache<BoardCell, Arc<Picture>>,
    _view: View,
}

impl Reader {
    /// The picture now. Wait-free, and without a write to memory that others read.
    #[inline]
    pub fn picture(&mut self) -> &Picture {
        self.cache.load()
    }
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").finish_non_exhaustive()
    }
}

/// Where a reader looks.
struct BoardCell(Arc<Board>);

impl Deref for BoardCell {
    type Target = ArcSwap<Picture>;

    #[inline]
    fn deref(&self) -> &ArcSwap<Picture> {
        self.0.cell()
    }
}

/// Whether to try again may help.
fn mends(error: &Error) -> bool {
    !matches!(error.kind(), ErrorKind::Denied | ErrorKind::Invalid)
}
