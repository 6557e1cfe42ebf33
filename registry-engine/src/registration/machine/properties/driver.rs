//! The driver of a machine in a property test.

use super::super::*;
use super::{Answer, Command, Step, TTL, holder};
use registry_core::{Holder, Revision};
use std::collections::BTreeMap;

/// The longest backoff of the default options.
const MAX_BACKOFF: Duration = Duration::from_secs(5);

/// A simulated task, scheduler and store around a machine. It derives the expected decisions from the actions alone.
#[allow(clippy::struct_excessive_bools)] // they are independent of each other
pub(super) struct Driver {
    machine: RegistrationMachine,
    claim: Claim,
    options: RegistrationOptions,
    now: Instant,
    /// Callers whose command the machine has not taken yet.
    queued: Vec<u32>,
    stop_is_queued: bool,
    /// Callers whose command the machine has taken, and that wait for its outcome.
    waiting: Vec<u32>,
    last_caller: u32,
    replies: BTreeMap<u32, u32>,
    /// The answer that all waiting callers must get now.
    expected_reply: Option<Answer>,
    /// The sending time and the granted ttl of the last acknowledged request, unless the store reported a loss.
    acknowledged: Option<(Instant, Duration)>,
    update_is_pending: bool,
    is_superseded: bool,
    may_exist: bool,
    /// Whether the holder must be read before anything is written.
    must_read: bool,
    /// The holder that was read, until a claim is acknowledged or superseded.
    read: Option<Holder>,
    shows_active: bool,
    stopped: Option<Instant>,
}

impl Driver {
    pub(super) fn new(takeover: bool) -> Self {
        let (now, claim) = (Instant::now(), Claim::new(TTL).unwrap());
        let options = RegistrationOptions::default().with_takeover(takeover);
        let (machine, _) = RegistrationMachine::new(claim, &options, now);
        Self {
            machine,
            claim,
            options,
            now,
            queued: Vec::new(),
            stop_is_queued: false,
            waiting: vec![0], // the caller of `start`
            last_caller: 0,
            replies: BTreeMap::new(),
            expected_reply: None,
            acknowledged: None,
            update_is_pending: true,
            is_superseded: false,
            may_exist: false,
            must_read: takeover,
            read: None,
            shows_active: false,
            stopped: None,
        }
    }

    pub(super) fn first_action(&self) -> Action {
        Action::Wait { until: self.now }
    }

    /// Performs `action` as described by `step`, reports its end, and returns the next action.
    pub(super) fn perform(&mut self, action: &Action, step: &Step) -> Action {
        match *action {
            Action::WaitForRelease { until, .. } if step.renewals == 1 && !self.has_command() => {
                self.now = until.min(self.now + step.takes);
                self.handle(Event::Released, step)
            }
            Action::Wait { until } | Action::WaitForRelease { until, .. } => {
                if self.now + step.takes < until && step.command.is_some() {
                    self.now += step.takes;
                    self.enqueue(step.command);
                }
                self.take_command_or_wait(until, step)
            }
            Action::ReadHolder { .. } | Action::Register { is_update: false, .. }
                if self.misses_permit(None, step) =>
            {
                self.handle(Event::Unsent, step)
            }
            Action::ReadHolder { limit } => {
                let answer = self.answer(limit, step);
                let answer = match answer {
                    Answer::Ok(1) => Ok(None),
                    Answer::Ok(lease) => Ok(Some(holder(lease.into()))),
                    answer => Err(answer.result().unwrap_err()),
                };
                self.note_read(&answer);
                self.handle(Event::HolderRead { answer }, step)
            }
            Action::Register { limit, .. } => {
                let sent = self.now;
                let answer = self.answer(limit, step);
                self.note_register(answer, sent);
                let (service, id) = ("a".parse().unwrap(), "1".parse().unwrap());
                let instance = Instance::from_parts(service, id, "h:1".parse().unwrap());
                let grant = |factor| {
                    Lease::new(self.claim.lease(), TTL * factor, instance.clone(), Revision::new(1))
                };
                let answer = answer.result().map(grant);
                self.handle(Event::Registered { sent, instance, answer }, step)
            }
            Action::Renew { expiry, .. } => {
                if self.misses_permit(Some(expiry), step) {
                    return self.handle(Event::Unsent, step);
                }
                let (sent, ttl) = (self.now, self.acknowledged.unwrap().1);
                let answer = self.answer((expiry - sent).min(ttl / 3), step);
                match answer {
                    Answer::Ok(_) => self.acknowledged = Some((sent, ttl)),
                    Answer::Err(ErrorKind::LeaseLost) if !self.update_is_pending => {
                        self.acknowledged = None;
                    }
                    _ => {}
                }
                self.handle(Event::Renewed { sent, answer: answer.result().map(drop) }, step)
            }
            Action::Schedule { times, .. } => {
                let event = self.schedule(times, step);
                self.handle(event, step)
            }
            Action::Deregister { limit, .. } => {
                let answer = self.answer(limit, step).result().map(drop);
                let is_last = !matches!(&answer, Err(error) if error.is_retryable());
                let action = self.handle(Event::Deregistered { answer }, step);
                assert_eq!(matches!(action, Action::End(_)), is_last);
                action
            }
            Action::End(_) => unreachable!("no action follows the end"),
        }
    }

    fn enqueue(&mut self, command: Option<Command>) {
        match command {
            Some(Command::Update) => {
                self.last_caller += 1;
                self.queued.push(self.last_caller);
            }
            Some(Command::Stop) => self.stop_is_queued = true,
            None => {}
        }
    }

    fn has_command(&self) -> bool {
        self.stop_is_queued || !self.queued.is_empty()
    }

    fn take_command_or_wait(&mut self, until: Instant, step: &Step) -> Action {
        if take(&mut self.stop_is_queued) {
            let is_first = self.stopped.is_none();
            self.stopped.get_or_insert(self.now);
            let action = self.handle(Event::Stop, step);
            if is_first {
                match action {
                    Action::Deregister { .. } => assert!(self.may_exist, "nothing to withdraw"),
                    Action::End(Ok(())) => assert!(!self.may_exist, "the record may remain"),
                    _ => panic!("the stop has no effect: {action:?}"),
                }
            }
            return action;
        }
        if !self.queued.is_empty() {
            self.waiting.append(&mut self.queued);
            self.update_is_pending = true;
            let action = self.handle(Event::Update, step);
            let is_due = |until| until <= self.now || self.stopped.is_some();
            assert!(waits_until(&action).is_some_and(is_due), "{action:?}");
            return action;
        }
        if self.now < until {
            self.ignored(Event::Due, step);
        }
        self.now = self.now.max(until) + step.paused;
        let action = self.handle(Event::Due, step);
        assert!(waits_until(&action).is_none(), "no request");
        assert!(!matches!(action, Action::Schedule { .. }), "no request");
        action
    }

    /// Waits for a permit. Returns whether a command comes first, or the lease expires.
    fn misses_permit(&mut self, expiry: Option<Instant>, step: &Step) -> bool {
        let Some(waits) = step.waits else { return false };
        self.now += waits;
        if step.command.is_some() {
            self.enqueue(step.command);
            return true;
        }
        expiry.is_some_and(|expiry| expiry <= self.now)
    }

    /// Waits for the answer to a request. The machine must start no other request meanwhile.
    fn answer(&mut self, limit: Duration, step: &Step) -> Answer {
        self.enqueue(step.command);
        self.now += step.takes.min(limit) + step.paused;
        for event in [Event::Due, Event::Update, Event::Stop] {
            self.ignored(event, step);
        }
        if step.takes < limit { step.answer } else { Answer::Err(ErrorKind::Unavailable) }
    }

    fn note_read(&mut self, answer: &Result<Option<Holder>>) {
        match answer {
            Ok(holder) => (self.must_read, self.read) = (false, *holder),
            Err(error) if matches!(error.kind(), ErrorKind::Invalid | ErrorKind::Denied) => {
                self.expected_reply = Some(Answer::Err(error.kind()));
            }
            Err(_) => {}
        }
    }

    fn note_register(&mut self, answer: Answer, sent: Instant) {
        self.is_superseded = false;
        match answer {
            Answer::Ok(factor) => {
                self.acknowledged = Some((sent, TTL * factor));
                (self.may_exist, self.update_is_pending) = (true, false);
                self.read = None;
                // A grant that came a ttl late may have expired: the callers wait for the next one.
                if self.shows_active || self.remaining().is_some() {
                    self.expected_reply = Some(answer);
                }
            }
            Answer::Superseded(_) => {
                self.read = None;
                (self.acknowledged, self.is_superseded) = (None, true);
                self.expected_reply = Some(answer);
            }
            Answer::Err(ErrorKind::Invalid | ErrorKind::Denied) => {
                self.expected_reply = Some(answer);
            }
            Answer::Err(_) => self.may_exist = true,
        }
    }

    /// Simulates the scheduler until it stops or there is a command.
    fn schedule(&mut self, mut times: RenewalTimes, step: &Step) -> Event {
        let ttl = self.acknowledged.unwrap().1;
        for _ in 0..step.renewals {
            if self.has_command() || times.renewed + ttl <= self.now {
                break;
            }
            self.now = self.now.max(times.due);
            times = RenewalTimes { renewed: self.now, due: self.now + ttl / 3 };
            self.now += step.takes.min(ttl / 3);
        }
        self.acknowledged = Some((times.renewed, ttl));
        self.enqueue(step.command);
        let reason = if self.has_command() {
            None
        } else if let Err(error) = step.answer.result() {
            self.now = self.now.max(times.due) + step.takes.min(ttl / 3);
            if error.kind() == ErrorKind::LeaseLost {
                self.acknowledged = None;
            }
            Some(RenewalStop::Failed(error))
        } else {
            self.now = self.now.max(times.renewed + ttl);
            Some(RenewalStop::Expired)
        };
        self.now += step.paused;
        Event::Unscheduled { times, stop: reason }
    }

    /// Sends an event that the machine must ignore.
    fn ignored(&mut self, event: Event, step: &Step) {
        let moment = Moment { now: self.now, random: step.random, retrying: 0 };
        let (effects, action) = self.machine.handle(event, moment);
        assert!(effects.is_empty() && waits_until(&action).is_some(), "{action:?}");
    }

    /// Sends an event, and checks the decision of the machine.
    fn handle(&mut self, event: Event, step: &Step) -> Action {
        let moment = Moment { now: self.now, random: step.random, retrying: 0 };
        let (effects, action) = self.machine.handle(event, moment);
        for effect in effects {
            match effect {
                Effect::SetStatus(status) => {
                    self.shows_active = status.is_active();
                    assert!(
                        !self.shows_active || self.remaining().is_some(),
                        "active after the expiry"
                    );
                }
                Effect::Reply(outcome) => self.reply(outcome),
                Effect::Revert { .. } | Effect::CountRepeated | Effect::Warn(..) => {}
            }
        }
        assert_eq!(self.expected_reply, None, "no reply although the store has answered");
        self.check(&action);
        action
    }

    fn reply(&mut self, outcome: Result<()>) {
        let answer = self.expected_reply.take().expect("a reply without an answer of the store");
        let kind = |outcome: Result<()>| outcome.map_err(|error| error.kind());
        assert_eq!(kind(outcome), kind(answer.result().map(drop)));
        for caller in self.waiting.drain(..) {
            *self.replies.entry(caller).or_default() += 1;
        }
    }

    /// Returns how long the last acknowledged request keeps the instance listed at least.
    fn remaining(&self) -> Option<Duration> {
        let (sent, ttl) = self.acknowledged?;
        Some((sent + ttl).saturating_duration_since(self.now)).filter(|left| !left.is_zero())
    }

    fn check(&self, action: &Action) {
        let remaining = self.remaining();
        let is_waiting_for_now = waits_until(action).is_some_and(|until| until <= self.now);
        if self.stopped.is_none() && !is_waiting_for_now {
            assert_eq!(self.shows_active, remaining.is_some(), "the status is wrong: {action:?}");
        }
        match action {
            Action::WaitForRelease { .. } => {
                assert!(self.stopped.is_none());
                assert!(waits_until(action).unwrap() <= self.now + TTL.mul_f64(1.1));
            }
            Action::Wait { until } if self.stopped.is_some() => {
                let limit = MAX_BACKOFF.min(self.options.stop_timeout);
                assert!(*until <= self.now + limit, "the withdrawal is not retried");
            }
            Action::Wait { .. } if self.has_command() => {}
            Action::Wait { until } => {
                let bound = if self.is_superseded { TTL.mul_f64(1.1) } else { MAX_BACKOFF };
                assert!(*until <= self.now + bound, "no request is due in time");
                let is_early = remaining.is_none_or(|remaining| *until <= self.now + remaining);
                assert!(is_early, "no request is due before the lease expires");
            }
            Action::ReadHolder { limit } => {
                assert!(self.must_read, "the holder is read a second time");
                assert!(*limit <= self.options.timeout && self.stopped.is_none());
            }
            Action::Register { claim, limit, .. } => {
                assert!(!self.must_read, "a write before the holder was read");
                let takeover = self.read.map_or(Takeover::No, Takeover::From);
                assert_eq!(*claim, self.claim.with_takeover(takeover));
                assert!(
                    *limit <= remaining.unwrap_or(self.options.timeout),
                    "the timeout exceeds the lease"
                );
                assert!(self.stopped.is_none(), "a stopped registration registers");
            }
            Action::Renew { .. } | Action::Schedule { .. } => {
                assert!(remaining.is_some(), "a lease that is presumed expired is renewed");
                assert!(self.stopped.is_none(), "a stopped registration renews");
                let is_scheduled = matches!(action, Action::Schedule { .. });
                assert!(!is_scheduled || !self.update_is_pending, "an update is lost");
            }
            Action::Deregister { .. } => {
                assert!(self.stopped.is_some(), "withdrawn without a stop");
            }
            Action::End(outcome) => {
                let stopped = self.stopped.expect("ended without a stop");
                let timed_out = matches!(outcome, Err(error) if error.is_retryable());
                assert!(!timed_out || stopped + self.options.stop_timeout <= self.now);
            }
        }
    }

    /// Returns the number of replies to each caller. The task drops the remaining replies when it ends.
    pub(super) fn into_replies(mut self) -> Vec<u32> {
        for caller in self.waiting.into_iter().chain(self.queued) {
            *self.replies.entry(caller).or_default() += 1;
        }
        (0..=self.last_caller).map(|caller| self.replies.remove(&caller).unwrap_or(0)).collect()
    }
}

fn waits_until(action: &Action) -> Option<Instant> {
    match action {
        Action::Wait { until } | Action::WaitForRelease { until, .. } => Some(*until),
        _ => None,
    }
}
