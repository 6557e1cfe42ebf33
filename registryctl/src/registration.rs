//! The part that `register` and `run` share: registering, draining and withdrawing an instance.

use crate::Failure;
use crate::output::{Output, note};
use serde::Serialize;
use service_registry::store::{DEFAULT_WEIGHT, LeaseId, Start};
use service_registry::{
    Address, Instance, InstanceId, InstanceStatus, Registration, RegistrationOptions,
    RegistrationStatus, Result, ServiceName,
};
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

#[derive(Debug, clap::Args)]
pub(crate) struct RegistrationArguments {
    /// Name of the service.
    service: ServiceName,

    /// Address that callers connect to: `HOST:PORT`.
    address: Address,

    /// Id of the instance. An instance that already has this id is displaced.
    ///
    /// The default is the id of the lease, a random number, as the go-zero layout requires.
    #[arg(long)]
    id: Option<InstanceId>,

    /// Share of the calls, relative to the weights of the other instances.
    #[arg(long, default_value_t = DEFAULT_WEIGHT)]
    weight: u32,

    /// Metadata of the instance; repeat the option for several pairs.
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
    metadata: Vec<(String, String)>,

    /// How long the instance stays listed after this process dies. [default: that of the URL, or 10s]
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    ttl: Option<Duration>,

    /// How long the instance is registered as draining before it is withdrawn.
    #[arg(long, value_name = "DURATION", default_value = "1s")]
    #[arg(value_parser = humantime::parse_duration)]
    drain: Duration,
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("expected KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}

/// An instance to register, and its options.
#[derive(Clone)]
pub(crate) struct Plan {
    pub(crate) instance: Instance,
    pub(crate) options: RegistrationOptions,
    drain: Duration,
}

impl RegistrationArguments {
    pub(crate) fn address(&self) -> &Address {
        &self.address
    }

    /// Checks the arguments, as far as that is possible without a registry.
    pub(crate) fn plan(&self, start: Start) -> Result<Plan> {
        let lease = LeaseId::random();
        let id = match &self.id {
            Some(id) => id.clone(),
            None => lease.to_string().parse()?,
        };
        let instance = Instance::from_parts(self.service.clone(), id, self.address.clone())
            .with_weight(self.weight)
            .with_metadata(self.metadata.iter().cloned());
        let options =
            RegistrationOptions::default().with_ttl(self.ttl).with_lease(lease).with_start(start);
        Ok(Plan { instance, options, drain: self.drain })
    }
}

impl Plan {
    /// Registers the instance as draining, waits for the drain time or until `cut`, and withdraws it.
    ///
    /// Cutting a [`Registration::drain`] short would withdraw the instance in the background instead.
    pub(crate) async fn retire(
        &self,
        registration: Registration,
        output: Output,
        cut: impl Future,
    ) -> Result<(), Failure> {
        if !self.drain.is_zero() {
            let reported = report(output, "draining", &self.instance, None);
            tokio::select! {
                () = drain(&registration, self.drain) => {}
                _ = cut => {}
            }
            self.withdraw(registration, output).await?;
            return reported;
        }
        self.withdraw(registration, output).await
    }

    pub(crate) async fn withdraw(
        &self,
        registration: Registration,
        output: Output,
    ) -> Result<(), Failure> {
        registration.stop().await?;
        report(output, "withdrawn", &self.instance, None)
    }

    /// Prints the status of the registration.
    pub(crate) fn report(
        &self,
        output: Output,
        status: &RegistrationStatus,
    ) -> Result<(), Failure> {
        match status {
            RegistrationStatus::Active => report(output, "active", &self.instance, None),
            RegistrationStatus::Retrying { why, .. } => {
                report(output, "retrying", &self.instance, Some(&why.chain().to_string()))
            }
            RegistrationStatus::Superseded => report(output, "superseded", &self.instance, None),
            _ => Ok(()), // `Stopped`: this process has stopped it
        }
    }
}

/// Registers the instance as draining, and waits until `grace` has passed.
async fn drain(registration: &Registration, grace: Duration) {
    let start = Instant::now();
    let draining = registration.instance().with_status(InstanceStatus::Draining);
    if let Ok(Err(error)) = timeout(grace, registration.update(|_| draining)).await {
        note(format_args!("cannot register the instance as draining: {}", error.chain()));
    }
    sleep(grace.saturating_sub(start.elapsed())).await;
}

#[derive(Serialize)]
struct StatusLine<'a> {
    state: &'a str,
    service: &'a ServiceName,
    id: &'a InstanceId,
    address: &'a Address,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<&'a str>,
}

fn report(
    output: Output,
    state: &str,
    instance: &Instance,
    why: Option<&str>,
) -> Result<(), Failure> {
    let (service, id, address) = (instance.service(), instance.id(), instance.address());
    let because = why.map(|why| format!(": {why}")).unwrap_or_default();
    let line = format!("{state} {service} {id} {address}{because}");
    output.say(&StatusLine { state, service, id, address, why }, line)
}
