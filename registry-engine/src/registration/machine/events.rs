//! The inputs and outputs of the state machine of a registration.

use crate::registration::renewal::{RenewalStop, RenewalTimes};
use crate::registration::status::RegistrationStatus;
use registry_core::{Claim, Error, Holder, Instance, Lease, Result};
use std::time::Duration;
use tokio::time::Instant;

/// An input of the state machine.
#[derive(Debug)]
pub(in crate::registration) enum Event {
    /// The time of an [`Action::Wait`] has come.
    Due,
    /// A request was not sent: a command came before its permit, or the lease to renew may have expired.
    Unsent,
    /// The holder of an [`Action::WaitForRelease`] no longer holds the id.
    Released,
    /// The desired instance changed.
    Update,
    /// The registration was asked to stop.
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

/// The time of an event, and the randomness for all jitter that it causes.
#[derive(Clone, Copy, Debug)]
pub(in crate::registration) struct Moment {
    pub(in crate::registration) now: Instant,
    /// At least 0 and less than 1.
    pub(in crate::registration) random: f64,
    /// The number of registrations of this runtime that retry.
    pub(in crate::registration) retrying: u32,
}

/// The next action of the task. Each action except `End` ends with one event.
#[derive(Debug)]
pub(in crate::registration) enum Action {
    /// Waits for a command, until `until` at the latest.
    Wait { until: Instant },
    /// Waits for a command or until `holder` no longer holds the id, until `until` at the latest.
    WaitForRelease { holder: Holder, until: Instant },
    /// Reads the holder of the id.
    ReadHolder { limit: Duration },
    /// Registers the desired instance. For an update, `limit` includes the wait for a permit.
    Register { claim: Claim, limit: Duration, is_update: bool },
    /// Renews the lease, which expires at `expiry`.
    Renew { lease: Lease, expiry: Instant },
    /// Lets the scheduler renew the lease until it stops or there is a command.
    Schedule { lease: Lease, times: RenewalTimes },
    /// Withdraws the instance. Without a lease, no request was acknowledged, but one may have been applied.
    Deregister { lease: Option<Lease>, limit: Duration },
    /// Ends the task. The outcome is that of the withdrawal.
    End(Result<()>),
}

/// An effect that the task applies at once, before the next action.
#[derive(Debug)]
pub(in crate::registration) enum Effect {
    SetStatus(RegistrationStatus),
    /// Sends the outcome to all callers that wait for the desired instance.
    Reply(Result<()>),
    /// Reverts the desired instance from the refused to the acknowledged one, unless another update is queued.
    Revert {
        refused: Instance,
        acknowledged: Instance,
    },
    /// Counts that the instance is registered again after its lease was lost.
    CountRepeated,
    Warn(&'static str, Error),
}
