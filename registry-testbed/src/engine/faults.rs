//! Tests of each fault that a store can suffer, on each side, for shorter and longer than a ttl.

use super::fixture::Fixture;
use super::observer::AllowedLoss;
use super::{Environment, Fault, Side, SuiteOptions};
use registry_testkit::case::pass;
use registry_testkit::lag::Lag;
use std::sync::Arc;
use std::time::Duration;

/// The number of registrations.
const OWNERS: usize = 3;

/// A test of one fault on one side for one length.
#[derive(Clone, Copy, Debug)]
pub(super) struct FaultScenario {
    fault: Fault,
    side: Side,
    length: Length,
}

/// The length of a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Length {
    /// Shorter than a ttl.
    Short,
    /// Longer than a ttl and than the silence timeout of the store.
    Long,
    /// Longer than a ttl but shorter than the silence timeout: the watch outlives the leases.
    Stall,
}

impl FaultScenario {
    /// Returns the scenarios of all faults in the options, with the lengths that make a difference.
    pub(super) fn all(options: &SuiteOptions) -> Vec<Self> {
        let mut scenarios = Vec::new();
        for &(fault, sides) in options.faults {
            let lengths: &[Length] = match fault {
                // The fault is over at once, or has the same effect for any length.
                _ if fault.is_instantaneous() || fault == Fault::Compaction => &[Length::Short],
                // The fault has no effect on a patient client, for any length.
                _ if fault.is_degradation() => &[Length::Long],
                Fault::Pause if options.silence_timeout > options.expiry() => {
                    &[Length::Short, Length::Long, Length::Stall]
                }
                _ => &[Length::Short, Length::Long],
            };
            let sides = if fault.is_network_fault() { sides } else { &[Side::Both] };
            let pairs =
                lengths.iter().flat_map(|length| sides.iter().map(move |side| (length, side)));
            scenarios.extend(pairs.map(|(&length, &side)| Self { fault, side, length }));
        }
        scenarios
    }

    /// Returns the name of the test: the length, the fault, and the side or the store.
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

    /// Injects the fault while there are registrations and views, and makes the final checks.
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
        // An update that is requested during the fault is stored in the end.
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

    /// Returns whether the owners' leases expire.
    fn expires_leases(self) -> bool {
        self.length != Length::Short && self.fault.blocks_renewals() && self.side.has_publisher()
    }

    /// Returns whether the owners' leases may expire. Renewals arrive even if replies are lost, but after a ttl without
    /// a reply an owner registers again, which needs replies.
    fn may_expire_leases(self) -> bool {
        let loses_replies = self.fault == Fault::LostReplies && self.side.has_publisher();
        self.expires_leases() || loses_replies && self.length == Length::Long
    }

    /// Returns whether the subscriber's view becomes stale.
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
            // A healthy store reports the records as deleted.
            Fault::Revocation | Fault::Deletion => AllowedLoss::Any,
            _ if self.may_expire_leases() && !self.side.has_subscriber() => AllowedLoss::Any,
            // After the fault the server expires the leases one by one, while the view is live again.
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

    /// Asserts at the end of a long fault that it had its effect.
    async fn assert_effect(self, fixture: &Fixture) {
        if self.expires_leases() && self.fault.is_network_fault() {
            let listed = fixture.listed().await;
            let listed = listed.ids().filter(|id| id.as_str().starts_with("node")).count();
            assert_eq!(listed, 0, "the leases have not expired");
        }
        if self.is_detected() && self.length == Length::Long {
            let state = fixture.observers[0].view.status();
            let at_the_end = self.fault.is_silent() && fixture.options.silence_timeout.is_zero();
            assert!(at_the_end || !state.is_live(), "the subscriber is not stale: {state:?}");
        }
    }
}
