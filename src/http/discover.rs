//! The instances of a view as a tower `Discover` stream.

use crate::store::LeaseId;
use crate::{Address, Instance, InstanceId, View};
use futures_util::{Stream, stream};
use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use tower::discover::Change;

/// Returns the available instances of `view` as a [`Discover`](tower::discover::Discover), as [`tower::balance`] takes
/// it. `make` creates the tower service for an instance. The stream ends when the view's runtime is shut down.
///
/// An instance is inserted again when its address or its lease changes. Other changes, such as a new weight, are not
/// reported, since each insert costs a new connection.
///
/// ```
/// use futures_util::StreamExt;
/// use service_registry::{Instance, connect, http::discover};
/// use std::time::Duration;
/// use tower::discover::Change;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> service_registry::Result<()> {
/// let client = connect("mem://").await?;
/// let registration = client.register(Instance::new("user", ([10, 0, 0, 1], 80).into())?).await?;
/// let users = client.discover("user")?;
/// users.ready(Duration::from_secs(5)).await?;
///
/// let mut changes = discover(users, |instance| instance.address().clone()); // or a connection
/// let Some(Ok(Change::Insert(id, address))) = changes.next().await else { panic!() };
/// assert_eq!(&id, registration.instance().id());
/// assert_eq!(address.as_str(), "10.0.0.1:80");
/// # registration.stop().await
/// # }
/// ```
///
/// [`tower::balance`]: https://docs.rs/tower/latest/tower/balance/index.html
pub fn discover<S>(
    view: View,
    make: impl FnMut(&Instance) -> S,
) -> impl Stream<Item = Result<Change<InstanceId, S>, Infallible>> + Unpin {
    let inserted = BTreeMap::new();
    let discovery = Discovery { view, make, inserted, pending: VecDeque::new(), is_new: true };
    Box::pin(stream::unfold(discovery, |mut discovery| async move {
        let change = discovery.next().await?;
        Some((Ok(change), discovery))
    }))
}

struct Discovery<S, M> {
    view: View,
    make: M,
    /// The address and lease that each service was made for, by instance id.
    inserted: BTreeMap<InstanceId, (Address, Option<LeaseId>)>,
    pending: VecDeque<Change<InstanceId, S>>,
    is_new: bool,
}

impl<S, M: FnMut(&Instance) -> S> Discovery<S, M> {
    async fn next(&mut self) -> Option<Change<InstanceId, S>> {
        loop {
            if let Some(change) = self.pending.pop_front() {
                return Some(change);
            }
            if !self.is_new {
                self.view.changed().await.ok()?;
            }
            self.is_new = false;
            self.compare();
        }
    }

    /// Queues the changes since the last call.
    fn compare(&mut self) {
        let state = self.view.state();
        let records = state.records().iter();
        let available: BTreeMap<_, _> = records
            .filter(|record| record.instance().is_available() && !state.is_standby(record.id()))
            .map(|record| (record.id(), record))
            .collect();
        self.inserted.retain(|id, _| {
            let stays = available.contains_key(id);
            if !stays {
                self.pending.push_back(Change::Remove(id.clone()));
            }
            stays
        });
        for (id, record) in available {
            let made_of = (record.instance().address().clone(), record.lease());
            if self.inserted.get(id) != Some(&made_of) {
                self.inserted.insert(id.clone(), made_of);
                let service = (self.make)(record.instance());
                self.pending.push_back(Change::Insert(id.clone(), service));
            }
        }
    }
}
