//! The native layout.

use crate::subject::SubjectLayout;
use async_trait::async_trait;
use etcd_client::{Client, DeleteOptions};
use registry_core::{InstanceId, Registry, ServiceName};
use registry_etcd::EtcdRegistry;
use std::sync::Arc;

pub(crate) struct Native;

#[async_trait]
impl SubjectLayout for Native {
    fn over(registry: EtcdRegistry) -> (Self, Arc<dyn Registry>) {
        (Self, Arc::new(registry))
    }

    async fn evict(&self, client: &mut Client, service: &ServiceName) -> i64 {
        let prefix = format!("test/{}/", escape(service.as_str()));
        let all = DeleteOptions::new().with_prefix();
        client.delete(prefix, Some(all)).await.unwrap().deleted()
    }

    fn key(&self, service: &ServiceName, id: &InstanceId) -> String {
        format!("test/{}/{}", escape(service.as_str()), escape(id.as_str()))
    }
}

/// Sufficient for the names used here; the layout has its own tests.
fn escape(name: &str) -> String {
    name.replace('%', "%25").replace('/', "%2F")
}
