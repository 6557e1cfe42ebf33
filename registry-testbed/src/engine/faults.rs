//! Each fault that a store can suffer, on each side, for shorter and longer than a ttl.

use super::follower::Loss;
use super::scene::Scene;
use super::{Arena, Fault, Side, Terms};
use registry_testkit::case::pass;
use std::sync::Arc;
use std::time::Duration;

/// How many instances the service has.
const OWNERS: usize = 3;

/// One fault, as a scenario.
#[derive(Clone, Copy, Debug)]
pub(super) struct Strike {
    fault: Fault,
    side: Side,
    length: Length,
}

/// How long a fault lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Length {
    /// Shorter than a ttl.
    Short,
    /// Longer than a ttl, and than it takes the store's connection to be found dead.
    Long,
    /// Longer than a ttl, and shorter than that: the watch outlives the leases.
    Stall,
}

impl Strike {
    /// All that the terms allow and that mean something.
    pub(super) fn all(terms: &Terms) -> Vec<Self> {
        let mut strikes = Vec::new();
        for &(fault, sides) in terms.faults {
            let lengths: &[Length] = match fault {
                // They are over at once, or go on for no matter how long.
                _ if fault.is_momentary() || fault == Fault::Compaction => &[Length::Short],
                // They do nothing to those who wait long enough.
                _ if fault.is_mild() => &[Length::Long],
                Fault::Pause if terms.notice > terms.dead() => {
                    &[Length::Short, Length::Long, Length::Stall]
                }
                _ => &[Length::Short, Length::Long],
            };
            let sides = if fault.is_on_a_way() { sides } else { &[Side::Both] };
            let each =
                lengths.iter().flat_map(|length| sides.iter().map(move |side| (length, side)));
            strikes.extend(each.map(|(&length, &side)| Self { fault, side, length }));
        }
        strikes
    }

    /// The length, the fault, and what is hit.
    pub(super) fn name(self) -> String {
        let length = match self.length {
            Length::Short => "short",
            Length::Long => "long",
            Length::Stall => "stall",
        };
        if self.fault.is_on_a_way() {
            return format!("{length}::{}_of_{}", self.fault, self.side);
        }
        format!("{length}::{}_of_the_store", self.fault)
    }

    /// Lets it happen to a service with owners and views, and ends as every scenario ends.
    pub(super) async fn run(self, arena: Arc<dyn Arena>, terms: Terms) {
        let keeps_history = !self.fault.loses_history();
        let mut scene = Scene::with_history(arena.clone(), terms.clone(), keeps_history).await;
        for n in 1..=OWNERS {
            scene.own(&format!("node-{n}")).await;
        }
        scene.follow(self.loss_of_the_subscriber());
        scene.follow_directly(self.loss_of_the_bystander());
        scene.begin().await;

        scene.diary.note("struck");
        arena.strike(self.fault, self.side, &scene.service).await;
        if !self.fault.takes_the_store_away() {
            scene.visit("guest-1").await;
        }
        let during = async {
            pass(self.lasts(&terms)).await;
            self.assert_that_it_bit(&scene).await;
            arena.heal().await;
            scene.diary.note("healed");
        };
        // An update that is asked for meanwhile is made in the end.
        tokio::join!(during, scene.update(0, "new"));
        if self.fault.takes_the_store_away() {
            scene.visit("guest-1").await;
        }
        let ended = scene.finish().await;
        if self.is_noticed() {
            assert!(ended.seen[0].losses_of_touch > 0, "the subscriber noticed nothing");
        }
        if matches!(self.fault, Fault::Compaction | Fault::Rollback) {
            assert!(ended.sums[0].resets > 1, "the subscriber did not have to begin anew");
        }
    }

    fn lasts(self, terms: &Terms) -> Duration {
        match self.length {
            Length::Long => terms.long(self.fault),
            Length::Stall => terms.dead(),
            Length::Short if self.fault.is_momentary() || self.fault == Fault::Kill => {
                terms.quick()
            }
            Length::Short => terms.short(),
        }
    }

    /// Whether the store lets the owners' leases run out.
    fn starves(self) -> bool {
        self.length != Length::Short && self.fault.starves_leases() && self.side.has_publisher()
    }

    /// Whether it may: to register anew, which a server is only asked to after the ttl, takes replies.
    fn may_starve(self) -> bool {
        let deaf = self.fault == Fault::LostReplies && self.side.has_publisher();
        self.starves() || deaf && self.length == Length::Long
    }

    /// Whether the subscriber's view knows that it lost touch.
    fn is_noticed(self) -> bool {
        let long = self.length == Length::Long;
        match self.fault {
            Fault::Cut | Fault::Reset | Fault::Outage => self.side.has_subscriber(),
            Fault::Silence | Fault::LostReplies => long && self.side.has_subscriber(),
            Fault::Pause => self.length != Length::Short,
            Fault::Kill | Fault::Failover => true,
            _ => false,
        }
    }

    fn loss_of_the_subscriber(self) -> Loss {
        match self.fault {
            // The store is well, and says that they are gone.
            Fault::Revocation | Fault::Deletion => Loss::Any,
            _ if self.may_starve() && !self.side.has_subscriber() => Loss::Any,
            // The server ends the leases one by one after it, while the view is live again.
            Fault::Pause | Fault::Kill if self.starves() => Loss::Few,
            _ => Loss::None,
        }
    }

    fn loss_of_the_bystander(self) -> Loss {
        match self.fault {
            _ if self.may_starve() && self.fault.is_on_a_way() => Loss::Any,
            _ => self.loss_of_the_subscriber(),
        }
    }

    /// At the end of what lasts long.
    async fn assert_that_it_bit(self, scene: &Scene) {
        if self.starves() && self.fault.is_on_a_way() {
            let listed = scene.listed().await;
            let kept = listed.ids().filter(|id| id.as_str().starts_with("node")).count();
            assert_eq!(kept, 0, "the leases were to run out");
        }
        if self.is_noticed() && self.length == Length::Long {
            let state = scene.followers[0].view.status();
            let at_the_end = self.fault.is_silent() && scene.terms.notice.is_zero();
            assert!(at_the_end || !state.is_live(), "the subscriber has not noticed: {state:?}");
        }
    }
}
