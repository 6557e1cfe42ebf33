//! The gRPC health of a server.

use tonic::server::NamedService;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

/// The gRPC health of a server, and of the services that it names.
#[derive(Clone, Debug, Default)]
pub struct Health {
    reporter: HealthReporter,
    services: Vec<&'static str>,
}

impl Health {
    /// The health of the server as a whole, which clients ask for by the empty name.
    pub fn new(reporter: HealthReporter) -> Self {
        Self { reporter, services: Vec::new() }
    }

    /// Adds the service that `S` serves, for clients that ask by its name.
    #[must_use]
    pub fn of<S: NamedService>(mut self) -> Self {
        self.services.push(S::NAME);
        self
    }

    /// Reports `SERVING` or `NOT_SERVING`, for the server and each of the services.
    pub async fn set_serving(&self, serving: bool) {
        let status = if serving { ServingStatus::Serving } else { ServingStatus::NotServing };
        for service in [""].iter().chain(&self.services) {
            self.reporter.set_service_status(service, status).await;
        }
    }
}
