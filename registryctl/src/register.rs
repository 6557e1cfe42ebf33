//! `register`: keeps an instance of another program registered.

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

/// Keep an instance registered until SIGINT, SIGTERM or SIGQUIT, and print its status.
///
/// On the signal the instance is drained and withdrawn; a second signal cuts the draining short.
/// Register only a server that already listens. `run` starts a command and registers it while it
/// runs.
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
        // The request may have reached the registry: an instance whose start is dropped here could stay listed.
        let Ok(started) = timeout(patience, start).await else {
            return Err(Failure::NotWithdrawn(patience));
        };
        plan.withdraw(started?, session.output()).await?;
        return Ok(ExitCode::SUCCESS);
    };
    let registration = registration?;
    let held = hold(session, &plan, &registration, &mut stop).await;
    // Withdraw the instance also if the reader of the output has gone.
    plan.retire(registration, session.output(), stop.next()).await?;
    held.map(|()| ExitCode::SUCCESS)
}

/// Prints the status of the registration until a signal arrives.
async fn hold(
    session: &Session,
    plan: &Plan,
    registration: &Registration,
    stop: &mut Signals,
) -> Result<(), Failure> {
    let mut statuses = registration.statuses();
    loop {
        tokio::select! {
            _ = stop.next() => return Ok(()),
            Some(status) = statuses.next() => plan.report(session.output(), &status)?,
        }
    }
}
