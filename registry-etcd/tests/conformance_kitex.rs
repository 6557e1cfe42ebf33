//! The conformance tests of the etcd store in the Kitex layout.
//!
//! The kit uses service names with a `/`, which Kitex does not allow, so names are mapped.
#![allow(clippy::unwrap_used)]

#[path = "subject/public.rs"]
mod public;
#[path = "subject/renamed.rs"]
mod renamed;
mod subject;

use async_trait::async_trait;
use etcd_client::Client;
use registry_core::{InstanceId, Registry, ServiceName};
use registry_etcd::EtcdRegistry;
use renamed::{Names, Renamed};
use std::process::ExitCode;
use std::sync::Arc;
use subject::{Members, SubjectLayout};

fn main() -> ExitCode {
    subject::run::<Kitex>(Members::One, "?layout=kitex")
}

struct Kitex;

#[async_trait]
impl SubjectLayout for Kitex {
    fn over(registry: EtcdRegistry) -> (Self, Arc<dyn Registry>) {
        (Self, Arc::new(Renamed::new(registry, WithoutSlash)))
    }

    async fn evict(&self, client: &mut Client, service: &ServiceName) -> i64 {
        public::evict(client, prefix(service)).await
    }

    fn key(&self, service: &ServiceName, id: &InstanceId) -> String {
        format!("{}{id}", prefix(service))
    }
}

fn prefix(service: &ServiceName) -> String {
    format!("kitex/registry-etcd/{}/", WithoutSlash.stored_service(service))
}

/// Replaces each slash by a character that the kit does not use.
#[derive(Clone, Debug)]
struct WithoutSlash;

const SLASH: &str = "\u{2215}";

impl Names for WithoutSlash {
    fn stored_service(&self, shown: &ServiceName) -> ServiceName {
        shown.as_str().replace('/', SLASH).parse().unwrap()
    }

    fn shown_service(&self, stored: &ServiceName) -> ServiceName {
        stored.as_str().replace(SLASH, "/").parse().unwrap()
    }
}
