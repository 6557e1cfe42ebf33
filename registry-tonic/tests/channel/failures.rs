//! Tests of failures: which calls count against an endpoint, and how a call fails.

use crate::support::{
    Backend, DEADLINE, Fixture, Mode, call, calls, instance, service, until_called,
    until_calls_go_to,
};
use futures_util::future::BoxFuture;
use h2::server::SendResponse;
use registry_core::{Address, CallOptions, Instance, Registry};
use registry_engine::Backoff;
use registry_testkit::lag::{timeout, tolerating};
use registry_tonic::{CallEnd, Channel, ChannelOptions, Classify, Ejection, Outcome};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tonic::Code;
use tonic::codegen::Bytes;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

/// A gRPC frame with the status `SERVING`.
const SERVING: &[u8] = b"\0\0\0\0\x02\x08\x01";

/// Answers one call.
type Answer = fn(SendResponse<Bytes>) -> BoxFuture<'static, ()>;

/// A server that answers each call with a scripted [`Answer`].
struct RawServer {
    address: Address,
    calls: Arc<AtomicU32>,
}

impl RawServer {
    async fn start(answer: Answer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string().parse().unwrap();
        let calls = Arc::new(AtomicU32::new(0));
        let counted = calls.clone();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let calls = counted.clone();
                tokio::spawn(async move {
                    let mut connection = h2::server::handshake(socket).await.unwrap();
                    while let Some(Ok((_, response))) = connection.accept().await {
                        calls.fetch_add(1, Ordering::SeqCst);
                        tokio::spawn(answer(response));
                    }
                });
            }
        });
        Self { address, calls }
    }

    fn instance(&self, id: &str) -> Instance {
        Instance::from_parts(service(), id.parse().unwrap(), self.address.clone())
    }
}

fn ok() -> http::Response<()> {
    http::Response::builder().header("content-type", "application/grpc").body(()).unwrap()
}

/// Ejects an endpoint after two failures, for the rest of the test.
fn permanent_ejection() -> Ejection {
    let base = Duration::from_secs(60);
    Ejection::default().with_failures(2).with_base(base).with_max(base)
}

/// Regression: a response with HTTP 200 and no gRPC status counted as a success, so its endpoint was never
/// ejected.
#[tokio::test]
async fn response_without_a_status_counts_as_a_failure_and_ejects() {
    let without_body: Answer = |mut response| {
        Box::pin(async move {
            response.send_response(ok(), true).unwrap();
        })
    };
    let without_trailers: Answer = |mut response| {
        Box::pin(async move {
            let mut body = response.send_response(ok(), false).unwrap();
            body.send_data(SERVING.into(), true).unwrap();
        })
    };
    for answer in [without_body, without_trailers] {
        let (broken, backend) = (RawServer::start(answer).await, Backend::start());
        let fixture = Fixture::new();
        fixture.put(instance(1, &backend)).await;
        let options = ChannelOptions::default().with_ejection(permanent_ejection());
        let client = fixture.client(options);
        // The broken server would not be ejected as the only endpoint.
        calls(&client, 1).await;
        fixture.put(broken.instance("broken")).await;
        let fails_twice = async {
            let mut failed = Vec::new();
            while failed.len() < 2 {
                failed.extend(call(&client).await.err());
            }
            failed
        };
        for status in timeout(DEADLINE, fails_twice).await.unwrap() {
            assert_eq!(status.code(), Code::Internal, "{status}");
            assert!(status.message().contains("without a status"), "{status}");
        }
        calls(&client, 200).await;
        assert_eq!(broken.calls.load(Ordering::SeqCst), 2);
    }
}

/// Regression: once the headers of the response had arrived, a call stayed open for seconds after its deadline.
#[test]
fn deadline_covers_the_body_of_the_response() {
    tolerating(Duration::from_secs(5), async |lag| {
        let backend = Backend::start();
        let fixture = Fixture::new();
        fixture.put(instance(1, &backend)).await;
        let limit = Duration::from_secs(1);
        let options = ChannelOptions::default().with_timeout(limit);
        let mut client = fixture.client(options);
        let deadline = lag.deadline(limit * 3 / 2);
        let opened = timeout(DEADLINE, client.watch(HealthCheckRequest::default())).await;
        let mut stream = opened.unwrap().unwrap().into_inner();
        assert!(timeout(DEADLINE, stream.message()).await.unwrap().unwrap().is_some());
        // The server sends no more.
        let status = timeout(DEADLINE, stream.message()).await.unwrap().unwrap_err();
        assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");
        deadline.assert_met();
    });
}

/// Regression: a call that a server refused was retried on the same server, and failed after three refusals.
#[tokio::test]
async fn retry_avoids_the_endpoint_that_refused() {
    let refuse: Answer =
        |mut response| Box::pin(async move { response.send_reset(h2::Reason::REFUSED_STREAM) });
    let (refuser, backend) = (RawServer::start(refuse).await, Backend::start());
    let fixture = Fixture::new();
    let lease = fixture.put(instance(1, &backend)).await;
    let client = fixture.client(ChannelOptions::default());
    calls(&client, 1).await; // connects the other endpoint
    fixture.put(refuser.instance("refuser")).await;
    let refused_often = async {
        while refuser.calls.load(Ordering::SeqCst) < 50 {
            calls(&client, 1).await;
        }
    };
    timeout(DEADLINE, refused_often).await.unwrap();

    // Without another endpoint, the call is retried on the refuser until it fails.
    fixture.registry.deregister(&lease, &CallOptions::DEFAULT).await.unwrap();
    backend.until_disconnected().await;
    assert_eq!(call(&client).await.unwrap_err().code(), Code::Unavailable);
}

/// Regression: calls waited while the channel reconnected to a dead server, which takes the whole connect timeout
/// if the server does not answer.
#[test]
fn calls_fail_at_once_when_all_servers_are_dead() {
    tolerating(Duration::from_secs(5), async |lag| {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string().parse().unwrap();
        let (kill, killed) = oneshot::channel::<()>();
        let server = tokio::spawn(async move {
            let (socket, _) = listener.accept().await.unwrap();
            let mut connection = h2::server::handshake(socket).await.unwrap();
            tokio::select! {
                _ = connection.accept() => panic!("unexpected call"),
                _ = killed => {}
            }
            listener // stays bound, but no longer accepts
        });
        let long = Duration::from_secs(60);
        let backoff = Backoff::new(Duration::from_millis(1), Duration::from_millis(1));
        let options = ChannelOptions::default()
            .with_wait(long)
            .with_connect_timeout(long)
            .with_backoff(backoff);
        let channel = Channel::fixed([address], options);
        timeout(DEADLINE, channel.ready(DEADLINE)).await.unwrap().unwrap();
        kill.send(()).unwrap();
        let _listener = timeout(DEADLINE, server).await.unwrap().unwrap();
        let deadline = lag.deadline(Duration::from_secs(2));
        let status = call(&HealthClient::new(channel)).await.unwrap_err();
        assert_eq!(status.code(), Code::Unavailable, "{status}");
        deadline.assert_met();
    });
}

/// Regression: a client that was released before its servers called a method that they did not have yet, and
/// ejected half of them.
#[tokio::test]
async fn status_unrelated_to_the_health_of_the_endpoint_does_not_eject() {
    for code in [Code::InvalidArgument, Code::Unimplemented, Code::ResourceExhausted] {
        let backends = [Backend::start(), Backend::start()];
        let fixture = Fixture::new();
        fixture.put_all(&backends).await;
        let options = ChannelOptions::default().with_ejection(permanent_ejection());
        let client = fixture.client(options);
        until_calls_go_to(&client, &backends, |_| true).await;
        backends[0].set(Mode::Fail(code));
        until_called(&client, &backends[0], 20).await;
    }
}

#[tokio::test]
async fn classify_decides_what_ejects() {
    let backends = [Backend::start(), Backend::start()];
    let fixture = Fixture::new();
    fixture.put_all(&backends).await;
    let classify = Classify::new(|end| match end {
        CallEnd::Status(Code::ResourceExhausted) => Outcome::Failure,
        other => other.default_outcome(),
    });
    let options =
        ChannelOptions::default().with_ejection(permanent_ejection()).with_classify(classify);
    let client = fixture.client(options);
    until_calls_go_to(&client, &backends, |_| true).await;
    backends[0].set(Mode::Fail(Code::ResourceExhausted));
    until_called(&client, &backends[0], 2).await;
    let before = backends[0].calls();
    calls(&client, 200).await;
    assert_eq!(backends[0].calls(), before);
}
