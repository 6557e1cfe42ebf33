//! The task behind a channel: it follows the view, keeps the endpoints, and says who gets calls.

use crate::channel::Board;
use crate::clock::Ticks;
use crate::endpoint::{Endpoint, State};
use crate::load::Load;
use crate::options::ChannelOptions;
use crate::picker::{Candidate, Picker};
use crate::subset::{client_of, subset};
use registry_core::{Address, Status};
use registry_engine::{ServiceState, View, ViewStatus};
use std::collections::{BTreeMap, HashMap};
use std::future::pending;
use std::num::NonZeroUsize;
use std::sync::Arc;
use tokio::sync::Notify;
use tokio::task::AbortHandle;

/// The key of the metadata in which an instance names its zone.
const ZONE: &str = "zone";

/// Where the addresses come from.
pub(crate) enum Source {
    Fixed(Vec<Address>),
    View(View),
}

/// Why nobody gets calls, if nobody does.
#[derive(Clone, Debug)]
pub(crate) enum Outlook {
    /// That may change at any moment.
    Waiting(String),
    /// That is how it is.
    Hopeless(String),
}

pub(crate) struct Keeper {
    source: Source,
    board: Arc<Board>,
    options: Arc<ChannelOptions>,
    /// What the subset is drawn from.
    client: u64,
    endpoints: HashMap<Address, Kept>,
    /// Told by the endpoints.
    changed: Arc<Notify>,
}

/// What an instance is to a channel. Several of one address are one.
#[derive(Clone, Copy, Debug)]
struct Wanted {
    weight: u32,
    is_near: bool,
}

/// An endpoint, and the task that keeps it connected: it goes with this.
struct Kept {
    endpoint: Arc<Endpoint>,
    task: AbortHandle,
    wanted: Wanted,
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Calls that go on after the channel is gone hold what it published last.
impl Drop for Keeper {
    fn drop(&mut self) {
        let outlook = Outlook::Hopeless("the channel is closed".into());
        self.board.meters.endpoints(0, 0);
        self.board.publish(Picker::default(), outlook);
    }
}

impl Keeper {
    pub(crate) fn new(source: Source, board: Arc<Board>, options: Arc<ChannelOptions>) -> Self {
        let client = options.client.as_deref().map_or_else(|| fastrand::u64(..), client_of);
        let (endpoints, changed) = (HashMap::new(), Arc::default());
        Self { source, board, options, client, endpoints, changed }
    }

    pub(crate) async fn run(mut self) {
        self.follow();
        loop {
            let told = match &mut self.source {
                Source::Fixed(_) => None,
                Source::View(view) => Some(view),
            };
            let other = async {
                match told {
                    Some(view) => view.changed().await,
                    None => pending().await,
                }
            };
            tokio::select! {
                () = other => self.follow(),
                () = self.changed.notified() => self.publish(),
            }
        }
    }

    /// Takes up who is listed now.
    fn follow(&mut self) {
        let wanted = self.wanted();
        self.endpoints.retain(|address, _| wanted.contains_key(address));
        let now = self.board.now();
        let expected = typical(self.endpoints.values(), now);
        for (address, wanted) in wanted {
            if let Some(kept) = self.endpoints.get_mut(&address) {
                kept.wanted = wanted;
                continue;
            }
            let endpoint = Arc::new(Endpoint::new(address.clone(), Load::new(expected, now)));
            let run = endpoint.clone().run(self.board.clone(), self.changed.clone());
            let task = tokio::spawn(run).abort_handle();
            self.endpoints.insert(address, Kept { endpoint, task, wanted });
        }
        self.publish();
    }

    /// Whom to connect to.
    fn wanted(&self) -> BTreeMap<Address, Wanted> {
        let mut listed = BTreeMap::<Address, Wanted>::new();
        match &self.source {
            Source::Fixed(addresses) => {
                let wanted = Wanted { weight: registry_core::DEFAULT_WEIGHT, is_near: false };
                listed.extend(addresses.iter().map(|address| (address.clone(), wanted)));
            }
            Source::View(view) => {
                let picture = view.state();
                let serve = |instance: &&_| serves(instance);
                for instance in picture.instances().iter().filter(serve) {
                    let zone = instance.metadata().get(ZONE);
                    let is_near = self.options.zone.is_some() && zone == self.options.zone.as_ref();
                    let wanted = Wanted { weight: instance.weight(), is_near };
                    let entry = listed.entry(instance.address().clone()).or_insert(wanted);
                    entry.weight = entry.weight.max(wanted.weight);
                    entry.is_near |= wanted.is_near;
                }
            }
        }
        let Some(size) = self.options.subset.map(NonZeroUsize::get) else { return listed };
        let (near, far): (Vec<_>, Vec<_>) =
            listed.into_iter().partition(|(_, wanted)| wanted.is_near);
        let chosen =
            |group| subset(self.client, size, group, |(address, _): &(Address, _)| address);
        chosen(near).into_iter().chain(chosen(far)).collect()
    }

    /// Says who gets calls now.
    fn publish(&self) {
        let connected = |kept: &Kept| match kept.endpoint.state() {
            State::Connected(connection) => Some(Candidate::new(connection, kept.wanted.weight)),
            _ => None,
        };
        let near: Vec<&Kept> = self.endpoints.values().filter(|kept| kept.wanted.is_near).collect();
        let mut candidates: Vec<_> = near.iter().copied().filter_map(connected).collect();
        if candidates.is_empty() || candidates.len() * 2 < near.len() {
            candidates = self.endpoints.values().filter_map(connected).collect();
        }
        self.board.meters.endpoints(self.endpoints.len(), candidates.len());
        self.board.publish(Picker::new(candidates), self.outlook());
    }

    /// Why there is nobody, if there is nobody.
    fn outlook(&self) -> Outlook {
        let service = &self.board.name;
        let mut failed = None;
        for kept in self.endpoints.values() {
            match kept.endpoint.state() {
                State::Failing(error) => failed = Some(error),
                State::Connecting | State::Connected(_) => {
                    return Outlook::Waiting(format!("no endpoint of {service} is connected yet"));
                }
            }
        }
        if let Some(error) = failed {
            let count = self.endpoints.len();
            return Outlook::Hopeless(format!(
                "none of the {count} endpoints of {service} can be reached: {}",
                error.message()
            ));
        }
        match &self.source {
            Source::Fixed(_) => Outlook::Hopeless("no address was given".into()),
            Source::View(view) => nobody(service, &view.state()),
        }
    }
}

/// Why nobody is to be connected to.
fn nobody(service: &str, picture: &ServiceState) -> Outlook {
    match (picture.instances().len(), picture.status()) {
        (0, ViewStatus::Loading { .. }) => {
            Outlook::Waiting(format!("{service} was not loaded from the registry yet"))
        }
        (0, ViewStatus::Stale { why, .. }) => {
            let what = format!("{service} cannot be loaded from the registry: {why}");
            // One that was never loaded may be at any moment; of a refusal nothing comes by itself.
            let is_awaited = picture.store_snapshot().is_none() && why.is_retryable();
            if is_awaited { Outlook::Waiting(what) } else { Outlook::Hopeless(what) }
        }
        (0, _) => Outlook::Hopeless(format!("no instance of {service} is registered")),
        (count, _) => Outlook::Hopeless(format!(
            "all instances of {service} are draining, or have weight 0, instances=`{count}`"
        )),
    }
}

/// Whether an instance is to get new calls.
fn serves(instance: &registry_core::Instance) -> bool {
    instance.status() == Status::Up && instance.weight() > 0
}

/// What an endpoint takes: the one in the middle of those that were called.
fn typical<'a>(endpoints: impl Iterator<Item = &'a Kept>, now: Ticks) -> Option<f32> {
    let mut known: Vec<f32> =
        endpoints.filter_map(|kept| kept.endpoint.load().latency(now)).collect();
    known.sort_by(f32::total_cmp);
    known.get(known.len() / 2).copied()
}
