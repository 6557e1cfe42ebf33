//! Each fault that a store can suffer, on each side, for shorter and longer than a ttl.

use super::fixture::Fixture;
use super::observer::AllowedLoss;
use super::{Environment, Fault, Side, SuiteOptions};
use registry_testkit::case::pass;
use registry_testkit::lag::Lag;
use std::sync::Arc;
use std::time::Duration;

/// How many instances the service has.
const OWNERS: usize = 3;

/// One fault on one side for one length, as a test.
#[derive(Clone, Copy, Debug)]
pub(super) struct FaultScenario {
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

impl FaultScenario {
    /// All that the options allow and that make sense.
    pub(super) fn all(options: &SuiteOptions) -> Vec<Self> {
        let mut scenarios = Vec::new();
        for &(fault, sides) in options.faults {
            let lengths: &[Length] = match fault {
                // They are over at once, or their length does not matter.
                _ if fault.is_instantaneous() || fault == Fault::Compaction => &[Length::Short],
                // They do nothing to a client that waits long enough.
                _ if fault.is_degradation() => &[Length::Long],
                Fault::Pause if options.silence_timeout > options.expiry() => {
                    &[Length::Short, Length::Long, Length::Stall]
                }
                _ => &[Length::Short, Length::Long],
            };
            let sides = if fault.is_network_fault() { sides } else { &[Side::Both] };
            let each =
                lengths.iter().flat_map(|length| sides.iter().map(move |side| (length, side)));
            scenarios.extend(each.map(|(&length, &side)| Self { fault, side, length }));
        }
        scenarios
    }

    /// The name of the test: the length, the fault, and what it hits.
    pub(super) fn name(self) -> String {
        let length = match self.length {
            Length::Short => "short",
            Length::Long => "long",
            Length::Stall => "stall",
        };
        if self.fault.is_network_fault() {
            return format!("{length}::{}_of_{}", self.fault, self.side);
        }
        format!("{length}::{}_of_the_store", self.fault)
    }

    /// Injects it into a service with registrations and views, and makes the final checks.
    pub(super) async fn run(
        self,
        environment: Arc<dyn Environment>,
        options: SuiteOptions,
        lag: Lag,
    ) {
        let keeps_history = !self.fault.loses_history();
        let mut fixture =
            Fixture::with_history(environment.clone(), options.clone(), lag, keeps_history).await;
        for n in 1..=OWNERS {
            fixture.register(&format!("node-{n}")).await;
        }
        fixture.observe(self.subscriber_loss());
        fixture.observe_directly(self.direct_view_loss());
        fixture.start_checks().await;

        fixture.log.record("injected");
        environment.inject(self.fault, self.side, &fixture.service).await;
        if !self.fault.stops_the_store() {
            fixture.register_directly("guest-1").await;
        }
        let during = async {
            pass(self.duration(&options)).await;
            self.assert_effect(&fixture).await;
            environment.heal().await;
            fixture.log.record("healed");
        };
        // An update that is requested meanwhile is stored in the end.
        tokio::join!(during, fixture.update(0, "new"));
        if self.fault.stops_the_store() {
            fixture.register_directly("guest-1").await;
        }
        let ended = fixture.finish().await;
        if self.is_detected() {
            assert!(ended.seen[0].stale_transitions > 0, "the subscriber did not become stale");
        }
        if matches!(self.fault, Fault::Compaction | Fault::Rollback) {
            assert!(ended.replicas[0].resets > 1, "the subscriber did not have to reload");
        }
    }

    fn duration(self, options: &SuiteOptions) -> Duration {
        match self.length {
            Length::Long => options.long_fault(self.fault),
            Length::Stall => options.expiry(),
            Length::Short if self.fault.is_instantaneous() || self.fault == Fault::Kill => {
                options.brief_fault()
            }
            Length::Short => options.short_fault(),
        }
    }

    /// Whether the owners' leases expire.
    fn expires_leases(self) -> bool {
        self.length != Length::Short && self.fault.blocks_renewals() && self.side.has_publisher()
    }

    /// Whether they may expire: registering anew, which an owner does after the ttl, needs replies.
    fn may_expire_leases(self) -> bool {
        let deaf = self.fault == Fault::LostReplies && self.side.has_publisher();
        self.expires_leases() || deaf && self.length == Length::Long
    }

    /// Whether the subscriber's view becomes stale.
    fn is_detected(self) -> bool {
        let long = self.length == Length::Long;
        match self.fault {
            Fault::Cut | Fault::Reset | Fault::Outage => self.side.has_subscriber(),
            Fault::Silence | Fault::LostReplies => long && self.side.has_subscriber(),
            Fault::Pause => self.length != Length::Short,
            Fault::Kill | Fault::Failover => true,
            _ => false,
        }
    }

    fn subscriber_loss(self) -> AllowedLoss {
        match self.fault {
            // A healthy store reports them as deleted.
            Fault::Revocation | Fault::Deletion => AllowedLoss::Any,
            _ if self.may_expire_leases() && !self.side.has_subscriber() => AllowedLoss::Any,
            // The server ends the leases one by one after it, while the view is live again.
            Fault::Pause | Fault::Kill if self.expires_leases() => AllowedLoss::Few,
            _ => AllowedLoss::None,
        }
    }

    fn direct_view_loss(self) -> AllowedLoss {
        match self.fault {
            _ if self.may_expire_leases() && self.fault.is_network_fault() => AllowedLoss::Any,
            _ => self.subscriber_loss(),
        }
    }

    /// Checks at the end of a long fault that it had its effect.
    async fn assert_effect(self, fixture: &Fixture) {
        if self.expires_leases() && self.fault.is_network_fault() {
            let listed = fixture.listed().await;
            let kept = listed.ids().filter(|id| id.as_str().starts_with("node")).count();
            assert_eq!(kept, 0, "the leases must have expired");
        }
        if self.is_detected() && self.length == Length::Long {
            let state = fixture.observers[0].view.status();
            let at_the_end = self.fault.is_silent() && fixture.options.silence_timeout.is_zero();
            assert!(at_the_end || !state.is_live(), "the subscriber is not stale: {state:?}");
        }
    }
}
