//! The gRPC health of a server, as a client asks for it.
#![allow(clippy::unwrap_used)]

use registry_testkit::lag::timeout;
use registry_tonic::Health;
use std::time::Duration;
use tokio::net::TcpListener;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Server};
use tonic_health::ServingStatus;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

/// A service that the client asks for by name.
struct HealthOfShop;

impl tonic::server::NamedService for HealthOfShop {
    const NAME: &'static str = "mall.Shop";
}

#[tokio::test]
async fn a_server_and_its_named_service_report_the_same_status() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (reporter, service) = tonic_health::server::health_reporter();
    let health = Health::new(reporter).of::<HealthOfShop>();
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    tokio::spawn(Server::builder().add_service(service).serve_with_incoming(incoming));

    let checks = async {
        let channel = Channel::from_shared(url).unwrap().connect().await.unwrap();
        let mut client = HealthClient::new(channel);
        for serving in [false, true, false] {
            health.set_serving(serving).await;
            for service in ["", "mall.Shop"] {
                let request = HealthCheckRequest { service: service.into() };
                let status = client.check(request).await.unwrap().into_inner().status;
                assert_eq!(status == ServingStatus::Serving as i32, serving, "{service}");
            }
        }
    };
    timeout(Duration::from_secs(10), checks).await.expect("the server does not answer");
}
