//! What goes into the state machine of a registration, and what comes out.

use crate::registration::renewal::{RenewalStop, RenewalTimes};
use crate::registration::status::RegistrationStatus;
use registry_core::{Claim, Error, Holder, Instance, Lease, Result};
use std::time::Duration;
use tokio::time::Instant;

/// What happened.
#[derive(Debug)]
pub(in crate::registration) enum Event {
    /// The time of an [`Action::Wait`] has come.
    Due,
    /// A request was not sent: there was a command before its turn came, or the lease to renew may have expired.
    Unsent,
    /// The holder of an [`Action::WaitForRelease`] no longer holds the id.
    Released,
    /// The desired instance changed.
    Update,
    /// The registration is to end.
    Stop,
    /// The answer to an [`Action::ReadHolder`].
    HolderRead { answer: Result<Option<Holder>> },
    /// The answer to an [`Action::Register`] that registered `instance`.
    Registered { sent: Instant, instance: Instance, answer: Result<Lease> },
    /// The answer to an [`Action::Renew`].
    Renewed { sent: Instant, answer: Result<()> },
    /// The end of an [`Action::Schedule`]: the scheduler stopped, or there is a command.
    Unscheduled { times: RenewalTimes, stop: Option<RenewalStop> },
    /// The answer to an [`Action::Deregister`].
    Deregistered { answer: Result<()> },
}

/// When an event happened, and the randomness for all jitter that follows from it.
#[derive(Clone, Copy, Debug)]
pub(in crate::registration) struct Moment {
    pub(in crate::registration) now: Instant,
    /// At least 0 and less than 1.
    pub(in crate::registration) random: f64,
    /// How many registrations of this runtime have to retry their last request.
    pub(in crate::registration) retrying: u32,
}

/// What the task does next. Each action but the last ends with one event.
#[derive(Debug)]
pub(in crate::registration) enum Action {
    /// Waits for a command, but no longer than `until`.
    Wait { until: Instant },
    /// Waits for a command, but no longer than `until`, and no longer than `holder` holds the id.
    WaitForRelease { holder: Holder, until: Instant },
    /// Reads who holds the id.
    ReadHolder { limit: Duration },
    /// Registers the desired instance. An update of a record whose lease is held does not wait for its turn for longer than
    /// the request may take.
    Register { claim: Claim, limit: Duration, is_update: bool },
    /// Renews the lease, which expires at `expiry`.
    Renew { lease: Lease, expiry: Instant },
    /// Lets the scheduler renew the lease until it stops or there is a command.
    Schedule { lease: Lease, times: RenewalTimes },
    /// Withdraws the instance. `None`: no request was acknowledged, but one may have been applied.
    Deregister { lease: Option<Lease>, limit: Duration },
    /// Ends the task. The outcome is that of the withdrawal.
    End(Result<()>),
}

/// What the task does at once, before the next action.
#[derive(Debug)]
pub(in crate::registration) enum Effect {
    SetStatus(RegistrationStatus),
    /// Sends the outcome to all callers that wait for the desired instance.
    Reply(Result<()>),
    /// Returns from the refused instance to the acknowledged one, unless another update came in between.
    Revert {
        refused: Instance,
        acknowledged: Instance,
    },
    /// Counts that the instance is registered again after its lease was lost.
    CountRepeated,
    Warn(&'static str, Error),
}
