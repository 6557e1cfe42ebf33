//! The conformance tests of the etcd store in the go-zero layout.
//!
//! The kit uses arbitrary instance ids, but this layout requires numbers, so ids are mapped.
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
use std::collections::HashMap;
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use subject::{Members, SubjectLayout};

fn main() -> ExitCode {
    subject::run::<GoZero>(Members::One, "?layout=go-zero")
}

struct GoZero(Numbers);

#[async_trait]
impl SubjectLayout for GoZero {
    fn over(registry: EtcdRegistry) -> (Self, Arc<dyn Registry>) {
        let numbers = Numbers::default();
        (Self(numbers.clone()), Arc::new(Renamed::new(registry, numbers)))
    }

    async fn evict(&self, client: &mut Client, service: &ServiceName) -> i64 {
        public::evict(client, format!("{service}/")).await
    }

    fn key(&self, service: &ServiceName, id: &InstanceId) -> String {
        format!("{service}/{}", self.0.stored_id(id))
    }
}

/// The mapping of ids to numbers.
#[derive(Clone, Debug, Default)]
struct Numbers(Arc<Mutex<HashMap<InstanceId, InstanceId>>>);

impl Names for Numbers {
    /// Returns the number of an id, and assigns one at first use.
    fn stored_id(&self, shown: &InstanceId) -> InstanceId {
        let mut numbers = self.0.lock().unwrap();
        let next = numbers.len() + 1;
        numbers.entry(shown.clone()).or_insert_with(|| next.to_string().parse().unwrap()).clone()
    }

    fn shown_id(&self, stored: &InstanceId) -> InstanceId {
        let numbers = self.0.lock().unwrap();
        let (name, _) =
            numbers.iter().find(|(_, each)| *each == stored).expect("the number is mapped");
        name.clone()
    }
}
