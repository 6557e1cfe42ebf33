//! `register`: holds a registration for somebody else.

use crate::registration::{Plan, RegistrationArguments};
use crate::session::Session;
use crate::signals::{STOP, Signals};
use crate::{Failure, Outcome};
use futures_util::StreamExt;
use service_registry::Registration;
use service_registry::store::Start;
use std::pin::pin;
use std::process::ExitCode;
use tokio::time::timeout;

/// Hold a registration until SIGINT or SIGTERM, and print its states.
///
/// Then the instance is drained and withdrawn; a second signal cuts the draining short. Register
/// only what already listens. See `run` for a command that is registered while it runs.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    registration: RegistrationArguments,
}

pub(crate) async fn run(session: &Session, arguments: &Arguments) -> Outcome {
    let mut stop = Signals::of(&STOP)?;
    let plan = arguments.registration.plan(Start::Within(session.timeout()))?;
    let Ok(registry) = stop.or(session.connect()).await else { return Ok(ExitCode::SUCCESS) };
    let (instance, options) = (plan.instance.clone(), plan.options.clone());
    let patience = options.stop_timeout;
    let mut start = pin!(Registration::start(registry?, instance, options));
    let Ok(registration) = stop.or(&mut start).await else {
        // The registry may have heard of it: what is given up in the middle would stay listed.
        let Ok(started) = timeout(patience, start).await else {
            return Err(Failure::NotWithdrawn(patience));
        };
        plan.withdraw(started?, session.output()).await?;
        return Ok(ExitCode::SUCCESS);
    };
    let registration = registration?;
    let held = hold(session, &plan, &registration, &mut stop).await;
    // Whoever read the states may be gone: that is no reason to stay registered.
    plan.retire(registration, session.output(), stop.next()).await?;
    held.map(|()| ExitCode::SUCCESS)
}

/// Tells the states until there is a signal.
async fn hold(
    session: &Session,
    plan: &Plan,
    registration: &Registration,
    stop: &mut Signals,
) -> Result<(), Failure> {
    let mut states = registration.statuses();
    loop {
        tokio::select! {
            _ = stop.next() => return Ok(()),
            Some(state) = states.next() => plan.report(session.output(), &state)?,
        }
    }
}
