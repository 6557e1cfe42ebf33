//! Callers in Go with several etcd hosts send an `:authority` that `h2` rejects. Calls a tonic server with and without the
//! listener of `serve`.
#![allow(clippy::unwrap_used)]

use futures_util::stream;
use rcgen::CertifiedKey;
use registry_testkit::lag::timeout;
use service_registry::serve::{Connection, Listener};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio_rustls::{TlsAcceptor, TlsConnector};
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Server;
use tonic::transport::server::{Router, TcpIncoming};
use tonic::{Request, Status};

const DATA: u8 = 0x0;
const HEADERS: u8 = 0x1;
const SETTINGS: u8 = 0x4;
const RST_STREAM: u8 = 0x3;

/// The `:authority` of a caller in Go with two etcd hosts.
const TWO_HOSTS: &str = "127.0.0.1:2379,localhost:2379";

/// Returns a gRPC health service, and a channel with the remote address of each call.
fn health() -> (Router, mpsc::Receiver<Option<SocketAddr>>) {
    let (see, seen) = mpsc::channel(1);
    let look = move |request: Request<()>| {
        see.try_send(request.remote_addr()).map_err(|_| Status::internal("one call at a time"))?;
        Ok(request)
    };
    let (_, health) = tonic_health::server::health_reporter();
    (Server::builder().add_service(InterceptedService::new(health, look)), seen)
}

/// Calls the health service. Returns the type and payload of the first `DATA` or `RST_STREAM` frame of the answer.
async fn call(mut stream: impl AsyncRead + AsyncWrite + Unpin, authority: &str) -> (u8, Vec<u8>) {
    let literal = |index: u8, value: &str| {
        [&[0x40 | index, u8::try_from(value.len()).unwrap()], value.as_bytes()].concat()
    };
    let block = [
        vec![0x83, 0x86], // POST, http
        literal(1, authority),
        literal(4, "/grpc.health.v1.Health/Check"),
        literal(31, "application/grpc"),
    ];
    let frame = |kind, flags, stream, payload: &[u8]| {
        let length = u8::try_from(payload.len()).unwrap();
        [&[0, 0, length, kind, flags, 0, 0, 0, stream], payload].concat()
    };
    let sent = [
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
        frame(SETTINGS, 0, 0, &[]),
        frame(HEADERS, 0x4, 1, &block.concat()),
        frame(DATA, 0x1, 1, &[0; 5]), // an empty message
    ];
    let answered = async {
        stream.write_all(&sent.concat()).await?;
        loop {
            let mut head = [0; 9];
            stream.read_exact(&mut head).await?;
            let mut payload = vec![0; u16::from_be_bytes([head[1], head[2]]).into()];
            stream.read_exact(&mut payload).await?;
            if head[8] == 1 && matches!(head[3], DATA | RST_STREAM) {
                return io::Result::Ok((head[3], payload));
            }
        }
    };
    timeout(Duration::from_secs(10), answered).await.expect("an answer in time").unwrap()
}

/// Returns the answer `SERVING`.
fn serving() -> (u8, Vec<u8>) {
    (DATA, vec![0, 0, 0, 0, 2, 8, 1])
}

#[tokio::test]
async fn a_tonic_server_answers_whatever_authority_a_caller_sends() {
    for address in ["127.0.0.1:0", "[::1]:0"] {
        let listener = Listener::from(TcpListener::bind(address).await.unwrap());
        let server = listener.local_addr().unwrap();
        let (router, mut seen) = health();
        tokio::spawn(router.serve_with_incoming(listener));
        for authority in [TWO_HOSTS, "prod%2Fuser.rpc", "user.rpc"] {
            let stream = TcpStream::connect(server).await.unwrap();
            let caller = stream.local_addr().unwrap();
            assert_eq!(call(stream, authority).await, serving(), "{authority}");
            assert_eq!(seen.recv().await.unwrap(), Some(caller));
        }
    }
}

/// If this fails, tonic accepts such calls, and the listener no longer has to repair them.
#[tokio::test]
async fn a_tonic_server_with_its_own_listener_resets_the_call() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = listener.local_addr().unwrap();
    tokio::spawn(health().0.serve_with_incoming(TcpIncoming::from(listener)));
    let stream = TcpStream::connect(server).await.unwrap();
    let protocol_error = vec![0, 0, 0, 1];
    assert_eq!(call(stream, TWO_HOSTS).await, (RST_STREAM, protocol_error));
}

#[tokio::test]
async fn a_connection_repairs_a_decrypted_stream() {
    let CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap();
    let server = ServerConfig::builder().with_no_client_auth();
    let server = server.with_single_cert(vec![cert.der().clone()], key).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(cert.der().clone()).unwrap();
    let client = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (accepted, _) = listener.accept().await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let (client, server) = tokio::join!(
        TlsConnector::from(Arc::new(client)).connect(name, stream),
        TlsAcceptor::from(Arc::new(server)).accept(accepted),
    );
    let connection = Connection::new(server.unwrap());
    let incoming = stream::iter([io::Result::Ok(connection)]);
    let (router, _seen) = health();
    tokio::spawn(router.serve_with_incoming(incoming));
    assert_eq!(call(client.unwrap(), TWO_HOSTS).await, serving());
}
