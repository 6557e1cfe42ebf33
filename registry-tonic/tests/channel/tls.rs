//! Channels over TLS, configured through `MakeEndpoint`.

use crate::support::DEADLINE;
use rcgen::CertifiedKey;
use registry_core::Address;
use registry_testkit::lag::timeout;
use registry_tonic::{Channel, ChannelOptions, MakeEndpoint};
use tokio::net::TcpListener;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity, Server, ServerTlsConfig};
use tonic::{Code, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

/// Starts a server. Returns its address and certificate.
async fn server() -> (Address, String) {
    let CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let identity = Identity::from_pem(cert.pem(), signing_key.serialize_pem());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string().parse().unwrap();
    let (_, health) = tonic_health::server::health_reporter();
    let mut server =
        Server::builder().tls_config(ServerTlsConfig::new().identity(identity)).unwrap();
    let incoming = TcpIncoming::from(listener);
    tokio::spawn(server.add_service(health).serve_with_incoming(incoming));
    (address, cert.pem())
}

/// Calls `address` with a client that trusts only `certificate`.
async fn call(address: Address, certificate: String) -> Result<(), Status> {
    let trusted = Certificate::from_pem(certificate);
    let tls = ClientTlsConfig::new().ca_certificate(trusted).domain_name("localhost");
    let endpoint = MakeEndpoint::new(move |address| {
        Endpoint::from_shared(format!("https://{address}"))?.tls_config(tls.clone())
    });
    let options = ChannelOptions::default().with_endpoint(endpoint);
    let mut client = HealthClient::new(Channel::fixed([address], options));
    let check = client.check(HealthCheckRequest::default());
    timeout(DEADLINE, check).await.unwrap().map(drop)
}

#[tokio::test]
async fn endpoint_with_tls_is_called_over_tls() {
    let (address, certificate) = server().await;
    call(address, certificate).await.unwrap();
}

#[tokio::test]
async fn server_with_an_untrusted_certificate_is_not_called() {
    let ((address, _), (_, of_another)) = (server().await, server().await);
    let status = call(address, of_another).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert!(
        status.message().contains("can be reached (1 tried): invalid peer certificate"),
        "{status}"
    );
}
