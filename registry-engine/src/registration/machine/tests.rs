//! Tests of the single rules of the state machine. Times are milliseconds since the start, and the randomness is always
//! 0.5.

use super::*;
use registry_core::{Holder, LeaseId, Revision};

const TTL: Duration = Duration::from_secs(9);

/// A machine whose decisions are rendered as text.
struct Bench {
    machine: RegistrationMachine,
    start: Instant,
    claim: Claim,
}

impl Bench {
    /// Returns a machine that has read at 0 ms that its id is vacant.
    fn new() -> Self {
        Self::with(&RegistrationOptions::default()).with_holder(None)
    }

    /// Lets the machine read the holder of its id at 0 ms.
    fn with_holder(mut self, holder: Option<Holder>) -> Self {
        assert_eq!(self.at(0, Event::Due), "read the holder within 2400");
        assert_eq!(self.at(0, Event::HolderRead { answer: Ok(holder) }), "wait until 0");
        self
    }

    fn with(options: &RegistrationOptions) -> Self {
        let (start, claim) = (Instant::now(), Claim::new(TTL).unwrap());
        let (machine, status) = RegistrationMachine::new(claim, options, start);
        assert!(matches!(status, RegistrationStatus::Retrying { since, .. } if since == start));
        Self { machine, start, claim }
    }

    /// Returns a machine that registered at 0 ms. The scheduler renews from 1500 ms on.
    fn active() -> Self {
        let mut bench = Self::new();
        bench.at(0, Event::Due);
        let decision = bench.registered(0, Ok(TTL), 0);
        assert_eq!(decision, "set status Active; reply Ok; schedule at 1500");
        bench
    }

    /// Returns a machine whose last renewal was sent at 4000 ms, and that sends an update from 5000 ms on.
    fn updating() -> Self {
        let mut bench = Self::active();
        assert_eq!(bench.unscheduled(5_000, 4_000, 7_000, None), "wait until 7000");
        assert_eq!(bench.at(5_000, Event::Update), "wait until 5000");
        assert_eq!(bench.at(5_000, Event::Due), "register within 2400 without takeover");
        bench
    }

    fn instant(&self, ms: u64) -> Instant {
        self.start + Duration::from_millis(ms)
    }

    /// Handles an event at `ms`, and returns the decision.
    fn at(&mut self, ms: u64, event: Event) -> String {
        let moment = Moment { now: self.instant(ms), random: 0.5, retrying: 0 };
        let (effects, action) = self.machine.handle(event, moment);
        let mut decision: Vec<String> = effects.into_iter().map(|e| self.name(e)).collect();
        decision.push(self.name_action(action));
        decision.join("; ")
    }

    /// Answers a register request that was sent at `sent`, at `ms`, with a granted ttl.
    fn registered(&mut self, sent: u64, answer: Result<Duration>, ms: u64) -> String {
        let (lease, instance, sent) = (self.claim.lease(), instance(), self.instant(sent));
        let answer = answer.map(|ttl| Lease::new(lease, ttl, instance.clone(), Revision::new(1)));
        self.at(ms, Event::Registered { sent, instance, answer })
    }

    fn renewed(&mut self, sent: u64, answer: Result<()>, ms: u64) -> String {
        let sent = self.instant(sent);
        self.at(ms, Event::Renewed { sent, answer })
    }

    /// Ends the scheduler at `ms`.
    fn unscheduled(
        &mut self,
        ms: u64,
        renewed: u64,
        due: u64,
        stop: Option<RenewalStop>,
    ) -> String {
        let times = RenewalTimes { renewed: self.instant(renewed), due: self.instant(due) };
        self.at(ms, Event::Unscheduled { times, stop })
    }

    /// Loses the lease of an active registration, so that it registers the instance again.
    fn lose(&mut self, ms: u64) {
        self.unscheduled(ms, 0, ms, Some(RenewalStop::Failed(error(ErrorKind::LeaseLost))));
        self.at(ms, Event::Due);
    }

    fn ms(&self, at: Instant) -> u128 {
        (at - self.start).as_millis()
    }

    fn name(&self, effect: Effect) -> String {
        let name =
            |outcome: Result<()>| outcome.map_or_else(|e| e.kind().to_string(), |()| "Ok".into());
        match effect {
            Effect::SetStatus(RegistrationStatus::Retrying { since, why }) => {
                format!("set status Retrying since {}: {why}", self.ms(since))
            }
            Effect::SetStatus(status) => format!("set status {status:?}"),
            Effect::Reply(outcome) => format!("reply {}", name(outcome)),
            Effect::Revert { .. } => "revert".into(),
            Effect::CountRepeated => "count".into(),
            Effect::Warn(..) => "warn".into(),
        }
    }

    fn name_action(&self, action: Action) -> String {
        match action {
            Action::Wait { until } => format!("wait until {}", self.ms(until)),
            Action::WaitForRelease { holder, until } => {
                format!("wait until {} or released by {}", self.ms(until), holder.lease().unwrap())
            }
            Action::ReadHolder { limit } => {
                format!("read the holder within {}", limit.as_millis())
            }
            Action::Register { claim, limit, .. } => {
                assert_eq!(claim.with_takeover(Takeover::No), self.claim, "another claim");
                let takeover = match claim.takeover() {
                    Takeover::No => "without takeover".into(),
                    Takeover::From(holder) => format!("from {}", holder.lease().unwrap()),
                };
                format!("register within {} {takeover}", limit.as_millis())
            }
            Action::Renew { expiry, .. } => format!("renew before {}", self.ms(expiry)),
            Action::Schedule { times, .. } => format!("schedule at {}", self.ms(times.due)),
            Action::Deregister { lease, limit } => {
                let which = if lease.is_some() { "lease" } else { "claim" };
                format!("deregister {which} within {}", limit.as_millis())
            }
            Action::End(outcome) => match outcome {
                Ok(()) => "end Ok".into(),
                Err(error) => format!("end {}", error.kind()),
            },
        }
    }
}

fn instance() -> Instance {
    let (service, id) = ("a".parse().unwrap(), "1".parse().unwrap());
    Instance::from_parts(service, id, "h:1".parse().unwrap())
}

fn error(kind: ErrorKind) -> Error {
    Error::new(kind, "refused")
}

fn down() -> Error {
    Error::new(ErrorKind::Unavailable, "down")
}

fn holder(lease: i64) -> Holder {
    Holder::new(Some(LeaseId::new(lease).unwrap()), None)
}

fn held_by(lease: i64) -> Error {
    error(ErrorKind::Superseded).with_holder(holder(lease))
}

#[test]
fn the_start_displaces_only_the_holder_that_it_read() {
    let mut bench = Bench::with(&RegistrationOptions::default()).with_holder(Some(holder(7)));
    assert_eq!(bench.at(0, Event::Due), "register within 2400 from 7");
    assert_eq!(bench.registered(0, Err(down()), 20), "wait until 70");
    let decision = "set status Retrying since 0: down; register within 2400 from 7";
    assert_eq!(bench.at(70, Event::Due), decision);
    let decision =
        "warn; set status Superseded; reply superseded; wait until 9125 or released by 8";
    assert_eq!(bench.registered(70, Err(held_by(8)), 80), decision);
    assert_eq!(bench.at(9_125, Event::Due), "register within 2400 without takeover");
}

/// Regression: the store applied the first claim, but its reply was lost, and then a newer incarnation took over. The
/// start mistook the refusal of its repeated claim for the first answer, and took over from the newer incarnation.
#[test]
fn a_start_whose_reply_was_lost_yields_to_a_newer_incarnation() {
    let mut bench = Bench::new();
    assert_eq!(bench.at(0, Event::Due), "register within 2400 without takeover");
    assert_eq!(bench.registered(0, Err(down()), 2_400), "wait until 2450");
    bench.at(2_450, Event::Due);
    let decision =
        "warn; set status Superseded; reply superseded; wait until 11505 or released by 8";
    assert_eq!(bench.registered(2_450, Err(held_by(8)), 2_460), decision);
}

#[test]
fn an_unanswered_read_is_repeated_before_anything_is_written() {
    let mut bench = Bench::with(&RegistrationOptions::default());
    assert_eq!(bench.at(0, Event::Due), "read the holder within 2400");
    assert_eq!(bench.at(10, Event::HolderRead { answer: Err(down()) }), "wait until 60");
    let decision = "set status Retrying since 0: down; read the holder within 2400";
    assert_eq!(bench.at(60, Event::Due), decision);
    assert_eq!(bench.at(70, Event::HolderRead { answer: Err(down()) }), "wait until 170");
    bench.at(170, Event::Due);
    assert_eq!(bench.at(180, Event::HolderRead { answer: Ok(Some(holder(7))) }), "wait until 180");
    assert_eq!(bench.at(180, Event::Due), "register within 2400 from 7");
    // The answer resets the backoff.
    assert_eq!(bench.registered(180, Err(down()), 200), "wait until 250");
}

#[test]
fn a_refused_read_is_reported_and_repeated_and_a_stop_withdraws_nothing() {
    for kind in [ErrorKind::Denied, ErrorKind::Invalid] {
        let mut bench = Bench::with(&RegistrationOptions::default());
        bench.at(0, Event::Due);
        let decision = bench.at(0, Event::HolderRead { answer: Err(error(kind)) });
        assert_eq!(decision, format!("reply {kind}; wait until 50"));
        let decision = "set status Retrying since 0: refused; read the holder within 2400";
        assert_eq!(bench.at(50, Event::Due), decision);
        assert_eq!(bench.at(60, Event::HolderRead { answer: Ok(None) }), "wait until 60");
        assert_eq!(bench.at(60, Event::Stop), "set status Stopped; end Ok");
    }
}

#[test]
fn a_start_without_takeover_displaces_nobody() {
    let options = RegistrationOptions::default().with_takeover(false);
    let mut bench = Bench::with(&options);
    bench.at(0, Event::Due);
    let decision =
        "warn; set status Superseded; reply superseded; wait until 9045 or released by 7";
    assert_eq!(bench.registered(0, Err(held_by(7)), 0), decision);
}

#[test]
fn a_lost_lease_is_registered_again_at_once_without_takeover() {
    let mut bench = Bench::active();
    let stop = RenewalStop::Failed(error(ErrorKind::LeaseLost));
    let decision = "count; warn; set status Retrying since 1500: refused; wait until 1500";
    assert_eq!(bench.unscheduled(1_500, 0, 1_500, Some(stop)), decision);
    assert_eq!(bench.at(1_500, Event::Due), "register within 2400 without takeover");
    let decision =
        "warn; set status Superseded; reply superseded; wait until 10545 or released by 7";
    assert_eq!(bench.registered(1_500, Err(held_by(7)), 1_500), decision);
}

#[test]
fn a_failed_renewal_is_retried_with_backoff_and_the_status_stays_active() {
    let mut bench = Bench::active();
    let stop = RenewalStop::Failed(down());
    assert_eq!(bench.unscheduled(1_500, 0, 1_500, Some(stop)), "wait until 1550");
    assert_eq!(bench.at(1_550, Event::Due), "renew before 9000");
    assert_eq!(bench.renewed(1_550, Err(down()), 1_560), "wait until 1660");
    assert_eq!(bench.at(1_660, Event::Due), "renew before 9000");
    assert_eq!(bench.renewed(1_660, Ok(()), 1_670), "schedule at 4675");
    // The success resets the number of failures.
    let stop = RenewalStop::Failed(down());
    assert_eq!(bench.unscheduled(4_675, 1_660, 4_675, Some(stop)), "wait until 4725");
}

#[test]
fn a_lease_is_retried_after_half_of_the_remaining_time_at_the_latest() {
    let mut bench = Bench::active();
    let stop = RenewalStop::Failed(down());
    assert_eq!(bench.unscheduled(8_700, 0, 1_500, Some(stop)), "wait until 8750");
    assert_eq!(bench.at(8_750, Event::Due), "renew before 9000");
    assert_eq!(bench.renewed(8_750, Err(down()), 8_760), "wait until 8860");
    assert_eq!(bench.at(8_860, Event::Due), "renew before 9000");
    assert_eq!(
        bench.renewed(8_860, Err(down()), 8_880),
        "wait until 9000",
        "less than ttl/50 left"
    );
}

#[test]
fn a_lease_that_is_presumed_expired_is_registered_instead_of_renewed() {
    let mut bench = Bench::active();
    bench.unscheduled(8_880, 0, 1_500, Some(RenewalStop::Failed(down())));
    let decision = "count; warn; set status Retrying since 9000: down; \
                    register within 2400 without takeover";
    assert_eq!(bench.at(9_000, Event::Due), decision);
    assert_eq!(bench.registered(9_000, Err(error(ErrorKind::Internal)), 9_000), "wait until 9100");
    let decision = "set status Retrying since 9000: refused; register within 2400 without takeover";
    assert_eq!(bench.at(9_100, Event::Due), decision);
    // The lease is not new, so the next renewal has the jitter of a tenth.
    let decision = "set status Active; reply Ok; schedule at 12115";
    assert_eq!(bench.registered(9_100, Ok(TTL), 9_200), decision);
}

#[test]
fn a_pause_of_one_ttl_is_reported() {
    let mut bench = Bench::active();
    let decision = bench.unscheduled(20_000, 0, 1_500, Some(RenewalStop::Expired));
    assert_eq!(decision, "wait until 20000");
    let decision = "count; warn; set status Retrying since 20000: the process was paused for one \
                    ttl; register within 2400 without takeover";
    assert_eq!(bench.at(20_000, Event::Due), decision);
}

#[test]
fn a_renewal_that_is_acknowledged_a_ttl_late_does_not_keep_the_lease() {
    let mut bench = Bench::active();
    bench.unscheduled(1_500, 0, 1_500, Some(RenewalStop::Failed(down())));
    bench.at(1_550, Event::Due);
    assert_eq!(bench.renewed(1_550, Ok(()), 10_550), "wait until 4565");
    let decision = bench.at(10_550, Event::Due);
    assert!(decision.ends_with("register within 2400 without takeover"), "{decision}");
}

/// Regression: the status became `Active` for a moment although the lease might have expired already.
#[test]
fn a_lease_that_is_granted_a_ttl_late_is_presumed_expired() {
    let mut bench = Bench::new();
    bench.at(0, Event::Due);
    assert_eq!(bench.registered(0, Ok(TTL), 9_000), "wait until 1500");
    let decision = "set status Retrying since 0: the store took one ttl to grant the lease; \
                    register within 2400 without takeover";
    assert_eq!(bench.at(9_000, Event::Due), decision);
    let decision = "set status Active; reply Ok; schedule at 12015";
    assert_eq!(bench.registered(9_000, Ok(TTL), 17_999), decision);
}

#[test]
fn a_superseded_registration_tries_again_once_per_ttl() {
    let mut bench = Bench::active();
    bench.unscheduled(1_500, 0, 1_500, Some(RenewalStop::Failed(error(ErrorKind::LeaseLost))));
    bench.at(1_500, Event::Due);
    bench.registered(1_500, Err(held_by(7)), 1_500);
    assert_eq!(bench.at(10_545, Event::Due), "register within 2400 without takeover");
    assert_eq!(bench.registered(10_545, Err(down()), 10_545), "wait until 10595 or released by 7");
    assert_eq!(bench.at(10_595, Event::Due), "register within 2400 without takeover");
    let decision = "set status Active; reply Ok; schedule at 12095";
    assert_eq!(bench.registered(10_595, Ok(TTL), 10_595), decision, "a new lease");
}

#[test]
fn a_superseded_registration_registers_at_once_when_its_successor_is_gone() {
    let mut bench = Bench::active();
    bench.lose(1_500);
    bench.registered(1_500, Err(held_by(7)), 1_500);
    assert_eq!(bench.at(5_000, Event::Released), "wait until 5000");
    assert_eq!(bench.at(5_000, Event::Due), "register within 2400 without takeover");
    // Another incarnation registered first.
    let decision =
        "warn; set status Superseded; reply superseded; wait until 14045 or released by 8";
    assert_eq!(bench.registered(5_000, Err(held_by(8)), 5_000), decision);
}

#[test]
fn a_watch_that_wrongly_reports_the_holder_as_gone_causes_no_loop() {
    let mut bench = Bench::active();
    bench.lose(1_500);
    bench.registered(1_500, Err(held_by(7)), 1_500);
    bench.at(5_000, Event::Released);
    bench.at(5_000, Event::Due);
    let decision = "warn; set status Superseded; reply superseded; wait until 14045";
    assert_eq!(bench.registered(5_000, Err(held_by(7)), 5_000), decision);
    bench.at(14_045, Event::Due);
    let decision = "warn; set status Superseded; reply superseded; wait until 23090";
    assert_eq!(bench.registered(14_045, Err(held_by(7)), 14_045), decision);
    bench.at(23_090, Event::Due);
    let decision =
        "warn; set status Superseded; reply superseded; wait until 32135 or released by 8";
    assert_eq!(bench.registered(23_090, Err(held_by(8)), 23_090), decision);
}

#[test]
fn a_record_that_is_lost_repeatedly_is_registered_with_backoff() {
    let mut bench = Bench::active();
    let lost = |at: u64, due: u64| {
        format!("count; warn; set status Retrying since {at}: refused; wait until {due}")
    };
    let fail = |bench: &mut Bench, at| {
        let stop = RenewalStop::Failed(error(ErrorKind::LeaseLost));
        bench.unscheduled(at, at, at + 3_000, Some(stop))
    };
    for (at, due) in [(1_000, 1_000), (1_100, 1_150), (1_300, 1_400), (1_500, 1_700)] {
        assert_eq!(fail(&mut bench, at), lost(at, due));
        assert_eq!(bench.at(due, Event::Due), "register within 2400 without takeover");
        assert!(bench.registered(due, Ok(TTL), due).starts_with("set status Active; reply Ok"));
    }
    assert_eq!(fail(&mut bench, 10_700), lost(10_700, 10_700), "the record existed for a ttl");
}

#[test]
fn more_than_a_hundred_simultaneous_losses_spread_out() {
    for (retrying, due) in [(100, 1_500), (1_100, 2_000)] {
        let mut bench = Bench::active();
        let times = RenewalTimes { renewed: bench.instant(0), due: bench.instant(1_500) };
        let stop = Some(RenewalStop::Failed(error(ErrorKind::LeaseLost)));
        let moment = Moment { now: bench.instant(1_500), random: 0.5, retrying };
        let (_, action) = bench.machine.handle(Event::Unscheduled { times, stop }, moment);
        assert_eq!(bench.name_action(action), format!("wait until {due}"));
    }
}

#[test]
fn the_timeout_of_an_update_ends_when_the_lease_expires() {
    let mut bench = Bench::active();
    assert_eq!(bench.unscheduled(8_000, 0, 8_500, None), "wait until 8500");
    assert_eq!(bench.at(8_000, Event::Update), "wait until 8000");
    assert_eq!(bench.at(8_000, Event::Due), "register within 1000 without takeover");
    assert_eq!(bench.registered(8_000, Ok(TTL), 8_010), "reply Ok; schedule at 11015");
}

#[test]
fn a_refused_update_is_reverted_to_the_acknowledged_instance() {
    for kind in [ErrorKind::Invalid, ErrorKind::Denied] {
        let mut bench = Bench::updating();
        let decision = bench.registered(5_000, Err(error(kind)), 5_100);
        assert_eq!(decision, format!("revert; reply {kind}; wait until 5150"));
        assert_eq!(bench.at(5_150, Event::Due), "register within 2400 without takeover");
        assert_eq!(bench.registered(5_150, Ok(TTL), 5_200), "reply Ok; schedule at 8165");
    }
}

#[test]
fn a_lease_is_renewed_while_an_update_is_pending() {
    let mut bench = Bench::updating();
    // Less than a third of the ttl has passed since 4000.
    assert_eq!(bench.registered(5_000, Err(down()), 6_900), "wait until 6950");
    assert_eq!(bench.at(6_950, Event::Due), "register within 2400 without takeover");
    assert_eq!(bench.registered(6_950, Err(down()), 7_000), "renew before 13000");
    assert_eq!(bench.renewed(7_000, Ok(()), 7_050), "wait until 7100", "the retry of the update");
    assert_eq!(bench.at(7_100, Event::Due), "register within 2400 without takeover");
    assert_eq!(bench.registered(7_100, Err(down()), 12_000), "renew before 16000");
    let lost = bench.renewed(12_000, Err(error(ErrorKind::LeaseLost)), 12_050);
    assert_eq!(lost, "wait until 12200", "the pending update may have caused the loss");
    assert_eq!(bench.at(12_200, Event::Due), "register within 2400 without takeover");
}

#[test]
fn a_refused_start_is_reported_and_retried() {
    let mut bench = Bench::new();
    bench.at(0, Event::Due);
    let decision = bench.registered(0, Err(error(ErrorKind::Denied)), 0);
    assert_eq!(decision, "reply denied; wait until 50");
    assert_eq!(bench.at(50, Event::Stop), "set status Stopped; end Ok", "nothing was registered");
}

#[test]
fn a_stop_withdraws_a_record_that_may_exist_and_retries_until_the_stop_timeout() {
    let mut bench = Bench::new();
    bench.at(0, Event::Due);
    bench.registered(0, Err(down()), 0);
    assert_eq!(bench.at(10, Event::Stop), "deregister claim within 5000");
    let answer = Err(down());
    assert_eq!(bench.at(100, Event::Deregistered { answer }), "wait until 150");
    assert_eq!(bench.at(150, Event::Due), "deregister claim within 4860");
    let answer = Err(down());
    assert_eq!(bench.at(5_000, Event::Deregistered { answer }), "wait until 5010");
    assert_eq!(bench.at(5_010, Event::Due), "set status Stopped; end unavailable");

    let mut bench = Bench::active();
    assert_eq!(bench.unscheduled(1_000, 0, 1_500, None), "wait until 1500");
    assert_eq!(bench.at(1_000, Event::Stop), "deregister lease within 5000");
    let answer = Err(error(ErrorKind::Denied));
    let decision = bench.at(1_100, Event::Deregistered { answer });
    assert_eq!(decision, "set status Stopped; end denied", "a refusal is not retried");
}

#[test]
fn a_stop_without_a_timeout_is_retried_without_end() {
    let stop_timeout = Duration::MAX;
    let options = RegistrationOptions::default().with_stop_timeout(stop_timeout);
    let mut bench = Bench::with(&options).with_holder(None);
    bench.at(0, Event::Due);
    bench.registered(0, Err(down()), 0);
    assert_eq!(bench.at(10, Event::Stop), "deregister claim within 5000");
    let answer = Err(down());
    assert_eq!(bench.at(86_400_000, Event::Deregistered { answer }), "wait until 86400050");
}

#[test]
fn an_unexpected_event_changes_nothing() {
    let mut bench = Bench::active();
    assert_eq!(bench.at(9_999, Event::Due), "wait until 1500", "the scheduler renews");
    assert_eq!(bench.at(9_999, Event::Stop), "wait until 1500");
    assert_eq!(bench.registered(0, Err(down()), 9_999), "wait until 1500");
    assert_eq!(bench.unscheduled(1_000, 0, 1_500, None), "wait until 1500");
    assert_eq!(bench.at(1_499, Event::Due), "wait until 1500", "not due yet");
    assert_eq!(bench.at(1_500, Event::Due), "renew before 9000");
}
