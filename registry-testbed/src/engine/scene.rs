//! What the scenarios have in common: who registers, who looks, and how it ends.

use super::diary::Diary;
use super::follower::{Follower, Living, Loss, Seen, Sum, brief, ids, judge, with_data};
use super::witness::Witness;
use super::{Arena, Side, Terms};
use futures_util::StreamExt;
use registry_core::{Claim, Instance, InstanceId, Instances, Lease, Registry, Result, ServiceName};
use registry_engine::{Discovery, Registration, View};
use registry_testkit::case::{instance, retry, service};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout, timeout_at};

/// One service on an arena.
pub(super) struct Scene {
    pub(super) arena: Arc<dyn Arena>,
    pub(super) terms: Terms,
    pub(super) service: ServiceName,
    pub(super) owners: Vec<Registration>,
    pub(super) followers: Vec<Follower>,
    pub(super) witness: Witness,
    living: Living,
    /// Whether the store keeps its history.
    one_history: bool,
    pub(super) diary: Diary,
    /// Instances that nobody keeps, registered directly and for long.
    guests: Vec<Lease>,
}

impl Drop for Scene {
    fn drop(&mut self) {
        self.diary.tell();
    }
}

/// What a scene was when it ended.
pub(super) struct Ended {
    /// What was seen in each view.
    pub(super) seen: Vec<Seen>,
    /// What the updates of each view added up to.
    pub(super) sums: Vec<Sum>,
}

impl Scene {
    /// An empty scene, on a store that keeps its history.
    pub(super) async fn new(arena: Arc<dyn Arena>, terms: Terms) -> Self {
        Self::with_history(arena, terms, true).await
    }

    /// An empty scene, on a store that keeps its history or does not.
    pub(super) async fn with_history(
        arena: Arc<dyn Arena>,
        terms: Terms,
        one_history: bool,
    ) -> Self {
        let service = service("user.rpc");
        let witness = Witness::call(arena.direct(), &service).await;
        let (owners, followers, guests) = (Vec::new(), Vec::new(), Vec::new());
        let (living, diary) = (Living::default(), Diary::default());
        if !terms.traits.paused_clock {
            diary.take_the_pulse();
        }
        Self {
            arena,
            terms,
            service,
            owners,
            followers,
            witness,
            living,
            one_history,
            diary,
            guests,
        }
    }

    /// The registry of a side.
    pub(super) fn registry(&self, side: Side) -> Arc<dyn Registry> {
        self.arena.registry(side)
    }

    /// Keeps an instance registered, on the way of the publishers.
    pub(super) async fn own(&mut self, id: &str) {
        let owner = self.start(id).await.unwrap();
        self.diary.follow(&owner);
        self.owners.push(owner);
    }

    /// Starts to keep an instance registered, and leaves it to the caller.
    pub(super) async fn start(&self, id: &str) -> Result<Registration> {
        let (node, options) = (instance(&self.service, id), self.terms.registration());
        let start = Registration::start(self.registry(Side::Publisher), node, options);
        timeout(2 * self.terms.settled(), start).await.expect("a start ends in time")
    }

    /// Looks at the service, on the way of the subscribers.
    pub(super) fn follow(&mut self, loss: Loss) {
        let view = self.view();
        self.watch_over("the subscriber", view, loss);
    }

    /// Looks at the service directly.
    pub(super) fn follow_directly(&mut self, loss: Loss) {
        let discovery = Discovery::new(self.arena.direct(), self.terms.discovery());
        self.watch_over("the bystander", discovery.view(&self.service), loss);
    }

    /// A view of its own, on the way of the subscribers.
    pub(super) fn view(&self) -> View {
        let registry = self.registry(Side::Subscriber);
        Discovery::new(registry, self.terms.discovery()).view(&self.service)
    }

    fn watch_over(&mut self, name: &'static str, view: View, loss: Loss) {
        let (living, one_history) = (self.living.clone(), self.one_history);
        self.followers.push(Follower::new(
            name,
            view,
            living,
            loss,
            one_history,
            self.diary.clone(),
        ));
    }

    /// All views show what the store lists. From now on they must show the owners' instances.
    pub(super) async fn begin(&self) {
        self.settle(self.terms.settled()).await;
        for owner in &self.owners {
            self.living.born(owner.instance().id());
        }
    }

    /// The view of what lives ceases to matter: it is stopped, or taken down on purpose.
    pub(super) fn ends(&self, id: &InstanceId) {
        self.living.dies(id);
    }

    /// Registers an instance directly and for long, so that the service changes.
    pub(super) async fn visit(&mut self, id: &str) {
        let (guest, direct) = (instance(&self.service, id), self.arena.direct());
        let claim = Claim::new(registry_testkit::case::LONG).unwrap();
        self.guests.push(retry(|| direct.register(&guest, &claim)).await);
    }

    /// Registers an instance on the way of the publishers, as a process that dies then: nobody renews it.
    pub(super) async fn crash(&mut self, id: &str) {
        let (dead, registry) = (instance(&self.service, id), self.registry(Side::Publisher));
        let claim = Claim::new(self.terms.ttl()).unwrap();
        self.guests.push(retry(|| registry.register(&dead, &claim)).await);
    }

    /// Does not expect the instances any more that nobody keeps.
    pub(super) fn forget_guests(&mut self) {
        self.guests.clear();
    }

    /// Has an owner change its data, which takes as long as the store is away.
    pub(super) async fn update(&self, owner: usize, data: &str) {
        let owner = &self.owners[owner];
        let update = owner.update(with_data(owner.instance(), data));
        update.await.expect("the store takes it in the end");
    }

    /// What the store lists, read directly.
    pub(super) async fn listed(&self) -> Instances {
        let direct = self.arena.direct();
        retry(|| direct.load(&self.service)).await.instances().clone()
    }

    /// Waits until all is as it should be, for `limit` in all.
    pub(super) async fn settle(&self, limit: Duration) {
        let end = Instant::now() + limit;
        for owner in &self.owners {
            let mut states = owner.statuses();
            let active =
                async { while !states.next().await.expect("it is not stopped").is_active() {} };
            let outcome = timeout_at(end, active).await;
            assert!(outcome.is_ok(), "after {limit:?} it is not active: {owner:?}");
        }
        for follower in &self.followers {
            self.converges(follower.name, &follower.view, end).await;
        }
        for owner in &self.owners {
            assert!(owner.status().is_active(), "it was active, and is not: {owner:?}");
        }
    }

    /// Waits until a view shows what the store lists, and that is whom it should list.
    pub(super) async fn converges(&self, name: &str, view: &View, end: Instant) {
        let mut view = view.clone();
        let mut listed = self.listed().await;
        let converged = async {
            loop {
                {
                    let picture = view.state();
                    let same = *picture.instances() == listed && picture.retained().is_empty();
                    if same && picture.status().is_live() && self.are_those_expected(&listed) {
                        return;
                    }
                }
                view.changed().await;
                listed = self.listed().await;
            }
        };
        let outcome = timeout_at(end, converged).await;
        assert!(
            outcome.is_ok(),
            "{name} does not converge: {}, and the store lists {:?}",
            brief(&view.state()),
            ids(&self.listed().await),
        );
    }

    /// Whether these are the owners' instances as they want them, and the guests that are left.
    fn are_those_expected(&self, listed: &Instances) -> bool {
        let owned: Vec<Instance> = self.owners.iter().map(Registration::instance).collect();
        let is_owned = |instance: &Instance| owned.iter().any(|own| own.id() == instance.id());
        let is_guest =
            |id: &InstanceId| self.guests.iter().any(|lease| lease.instance().id() == id);
        let guests = listed.iter().filter(|instance| !is_owned(instance));
        // A store that forgets what it stored forgets guests for good.
        let all_guests = !self.one_history || {
            let awaited = self.guests.iter().filter(|lease| !is_owned(lease.instance()));
            awaited.count() == guests.clone().count()
        };
        all_guests
            && guests.map(Instance::id).all(is_guest)
            && owned.iter().all(|own| listed.find(own.id().as_str()) == Some(own))
    }

    /// Ends it as every scenario ends: all is well again, and nothing is left behind.
    pub(super) async fn finish(mut self) -> Ended {
        let limit = self.terms.settled();
        self.settle(limit).await;
        let direct = self.arena.direct();
        for owner in std::mem::take(&mut self.owners) {
            self.living.dies(owner.instance().id());
            let stop = timeout(2 * limit, owner.stop()).await.expect("a stop ends in time");
            stop.expect("a store that is well acknowledges a stop");
        }
        for lease in std::mem::take(&mut self.guests) {
            retry(|| direct.deregister(&lease)).await;
        }
        let left = self.listed().await;
        assert!(left.is_empty(), "all were stopped, and some are left: {left:?}");
        if self.terms.traits.paused_clock {
            // After trouble a view retains even these for a ttl. That depends on no store, and takes
            // time on a real clock.
            self.settle(limit).await;
        }
        let (mut seen, mut sums) = (Vec::new(), Vec::new());
        for follower in std::mem::take(&mut self.followers) {
            follower.sums_up_to(&left, limit).await;
            let (saw, sum) = follower.finish().await;
            seen.push(saw);
            sums.push(sum);
        }
        let last = sums.iter().map(Sum::revision).max().unwrap_or_default();
        if self.one_history {
            let log = self.witness.testify(last, limit).await;
            judge(&sums, log.as_ref());
        } else {
            judge(&sums, None);
        }
        let left = retry(|| direct.load(&self.service)).await;
        assert!(left.instances().is_empty(), "something came back: {left:?}");
        Ended { seen, sums }
    }
}
