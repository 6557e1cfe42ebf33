//! The conformance tests of the etcd store in the Kratos layout.
#![allow(clippy::unwrap_used)]

#[path = "subject/public.rs"]
mod public;
mod subject;

use async_trait::async_trait;
use etcd_client::Client;
use registry_core::{InstanceId, Registry, ServiceName};
use registry_etcd::EtcdRegistry;
use std::process::ExitCode;
use std::sync::Arc;
use subject::{Members, SubjectLayout};

fn main() -> ExitCode {
    subject::run::<Kratos>(Members::One, "?layout=kratos")
}

struct Kratos;

#[async_trait]
impl SubjectLayout for Kratos {
    fn over(registry: EtcdRegistry) -> (Self, Arc<dyn Registry>) {
        (Self, Arc::new(registry))
    }

    async fn evict(&self, client: &mut Client, service: &ServiceName) -> i64 {
        public::evict(client, format!("/microservices/{service}/")).await
    }

    fn key(&self, service: &ServiceName, id: &InstanceId) -> String {
        format!("/microservices/{service}/{id}")
    }
}
