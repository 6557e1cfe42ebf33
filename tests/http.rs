//! Tests of the HTTP layer: which instance gets a request, and how its response counts.
#![cfg(all(feature = "http", feature = "mem"))]
#![allow(clippy::unwrap_used)]

use http::{Request, Response};
use registry_testkit::lag::timeout;
use service_registry::balance::{Failure, Outcome, PickOptions};
use service_registry::http::{BalanceLayer, CallError, classify_error, discover};
use service_registry::{Client, ErrorKind, Instance, Registration, View, connect};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::future::ready;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tower::discover::Change;
use tower::retry::{Policy, RetryLayer};
use tower::{BoxError, Layer, Service, ServiceExt, service_fn};

const LIMIT: Duration = Duration::from_secs(20);

async fn world<const N: usize>(ids: [&str; N]) -> (Client, View, [Registration; N]) {
    let client = connect("mem://").await.unwrap();
    let mut registrations = Vec::new();
    for (n, id) in (1..).zip(ids) {
        let node = Instance::new("user", ([10, 0, 0, n], 80).into()).unwrap();
        registrations.push(client.register(node.with_id(id.parse().unwrap())).await.unwrap());
    }
    let view = client.discover("user").unwrap();
    view.ready(LIMIT).await.unwrap();
    (client, view, registrations.try_into().unwrap())
}

fn get(uri: &str) -> Request<()> {
    Request::get(uri).body(()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_request_goes_to_an_instance_and_keeps_its_path_and_scheme() {
    let (_client, view, _registrations) = world(["a"]).await;
    let echo = service_fn(|request: Request<()>| async move {
        Ok::<_, Infallible>(Response::new(request.uri().to_string()))
    });
    let mut http = BalanceLayer::new(view).layer(echo);
    for (uri, sent) in [
        ("/users/7?full=1", "http://10.0.0.1:80/users/7?full=1"),
        ("https://user/7", "https://10.0.0.1:80/7"),
        ("http://user:99", "http://10.0.0.1:80/"),
    ] {
        let answer = http.ready().await.unwrap().call(get(uri)).await.unwrap();
        assert_eq!(answer.body(), sent);
        assert_eq!(answer.extensions().get::<Instance>().unwrap().id().as_str(), "a");
    }
}

/// Regression: a fast 500 counted as a success, so a broken server attracted most calls.
#[tokio::test(start_paused = true)]
async fn a_5xx_status_attracts_no_calls_and_other_statuses_count_as_success() {
    for (status, expected) in
        [(502, 0..=5), (503, 0..=5), (504, 0..=5), (500, 0..=5), (404, 50..=100), (200, 50..=100)]
    {
        let (_client, view, _registrations) = world(["a", "b"]).await;
        let answer = service_fn(move |request: Request<()>| async move {
            let is_a = request.uri().host() == Some("10.0.0.1");
            if !is_a {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            let status = if is_a { status } else { 200 };
            Ok::<_, Infallible>(Response::builder().status(status).body(()).unwrap())
        });
        let (mut http, mut by_a) = (BalanceLayer::new(view).layer(answer), 0);
        for _ in 0..100 {
            let answer = http.ready().await.unwrap().call(get("/")).await.unwrap();
            let instance = answer.extensions().get::<Instance>().unwrap();
            by_a += u32::from(instance.id().as_str() == "a");
        }
        assert!(expected.contains(&by_a), "{by_a} of 100 calls got {status}"); // it is the faster one
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_avoids_the_instances_that_it_excludes() {
    let (_client, view, [a, _b]) = world(["a", "b"]).await;
    let answer = service_fn(|_: Request<()>| async { Ok::<_, Infallible>(Response::new(())) });
    let mut http = BalanceLayer::new(view).layer(answer);
    let not_a = PickOptions::default().with_exclude([a.instance().id().clone()]);
    for _ in 0..50 {
        let mut request = get("/");
        request.extensions_mut().insert(not_a.clone());
        let answer = http.ready().await.unwrap().call(request).await.unwrap();
        assert_eq!(answer.extensions().get::<Instance>().unwrap().id().as_str(), "b");
    }
}

/// Regression: a retry of tower got only the error, which did not name the instance that failed.
#[tokio::test(start_paused = true)]
async fn an_error_names_the_instance_that_was_called_and_keeps_its_source() {
    let (_client, view, _registrations) = world(["a"]).await;
    let refuse =
        service_fn(|_: Request<()>| async { Err::<Response<()>, _>(io::Error::other("no")) });
    let error = BalanceLayer::new(view).layer(refuse).call(get("/")).await.unwrap_err();
    let error = error.downcast::<CallError>().unwrap();
    assert_eq!(error.to_string(), "the call failed, instance=`a`, address=`10.0.0.1:80`");
    assert_eq!(error.instance().id().as_str(), "a");
    assert_eq!(error.into_source().to_string(), "no");
}

/// Retries a request once, on another instance.
#[derive(Clone)]
struct RetryOnAnother;

impl<R> Policy<Request<()>, Response<R>, BoxError> for RetryOnAnother {
    type Future = std::future::Ready<()>;

    fn retry(
        &mut self,
        request: &mut Request<()>,
        result: &mut Result<Response<R>, BoxError>,
    ) -> Option<Self::Future> {
        let error = result.as_ref().err()?.downcast_ref::<CallError>()?;
        let exclude = PickOptions::default().with_exclude([error.instance().id().clone()]);
        request.extensions_mut().insert(exclude).is_none().then(|| ready(()))
    }

    fn clone_request(&mut self, request: &Request<()>) -> Option<Request<()>> {
        Some(request.clone())
    }
}

#[tokio::test(start_paused = true)]
async fn a_retry_of_tower_can_exclude_the_instance_that_the_error_names() {
    let (_client, view, _registrations) = world(["a", "b"]).await;
    let calls = Arc::new(AtomicU32::new(0));
    let counted = calls.clone();
    let a_refuses = service_fn(move |request: Request<()>| {
        counted.fetch_add(1, Ordering::Relaxed);
        let is_a = request.uri().host() == Some("10.0.0.1");
        ready(if is_a { Err(io::Error::other("no")) } else { Ok(Response::new(())) })
    });
    let mut http = RetryLayer::new(RetryOnAnother).layer(BalanceLayer::new(view).layer(a_refuses));
    for _ in 0..20 {
        http.ready().await.unwrap().call(get("/")).await.unwrap();
    }
    assert!(calls.load(Ordering::Relaxed) > 20, "a was never called");
}

#[tokio::test(start_paused = true)]
async fn a_request_to_a_service_without_instances_fails_at_once() {
    let (_client, view, []) = world([]).await;
    let answer = service_fn(|_: Request<()>| async { Ok::<_, Infallible>(Response::new(())) });
    let error = BalanceLayer::new(view).layer(answer).oneshot(get("/")).await.unwrap_err();
    let error = error.downcast::<service_registry::Error>().unwrap();
    assert_eq!(error.kind(), ErrorKind::NoInstance);
}

#[test]
fn a_refused_connection_is_recognised_at_any_depth_of_the_error_chain() {
    #[derive(Debug, thiserror::Error)]
    #[error("outer")]
    struct Outer(#[source] io::Error);
    let error = |kind: io::ErrorKind| classify_error(&Outer(kind.into()));
    assert_eq!(error(io::ErrorKind::ConnectionRefused), Failure::Refused);
    assert_eq!(error(io::ErrorKind::TimedOut), Failure::TimedOut);
    assert_eq!(error(io::ErrorKind::ConnectionReset), Failure::Other);
}

/// A change of the weight must not be reported, since it would cost a connection.
#[tokio::test(start_paused = true)]
async fn discover_reports_new_moved_and_withdrawn_instances_but_no_change_of_the_weight() {
    use futures_util::StreamExt;

    let (client, view, [a]) = world(["a"]).await;
    let mut changes = pin!(discover(view, |instance| instance.address().to_string()));
    let mut known = BTreeMap::new();
    let mut next = async || {
        match timeout(LIMIT, changes.next()).await.unwrap().unwrap().unwrap() {
            Change::Insert(id, address) => known.insert(id, address),
            Change::Remove(id) => known.remove(&id),
        };
        known.values().cloned().collect::<Vec<_>>()
    };
    assert_eq!(next().await, ["10.0.0.1:80"]);
    a.update(|node| node.with_weight(7)).await.unwrap();
    a.update(|node| node.with_address("10.0.0.9:80".parse().unwrap())).await.unwrap();
    assert_eq!(next().await, ["10.0.0.9:80"]);
    let b =
        Instance::new("user", ([10, 0, 0, 2], 80).into()).unwrap().with_id("b".parse().unwrap());
    let _b = client.register(b).await.unwrap();
    assert_eq!(next().await, ["10.0.0.9:80", "10.0.0.2:80"]);
    a.stop().await.unwrap();
    assert_eq!(next().await, ["10.0.0.2:80"]);
}

#[tokio::test(start_paused = true)]
async fn with_classify_decides_which_statuses_are_failures() {
    let (_client, view, _registrations) = world(["a", "b"]).await;
    let answer = service_fn(|request: Request<()>| async move {
        let status = if request.uri().host() == Some("10.0.0.1") { 500 } else { 200 };
        Ok::<_, Infallible>(Response::builder().status(status).body(()).unwrap())
    });
    let layer = BalanceLayer::new(view).with_classify(|status| match status {
        500 => Outcome::Failure(Failure::Other),
        _ => Outcome::Success,
    });
    let (mut http, mut failed) = (layer.layer(answer), 0);
    for _ in 0..100 {
        let answer = http.ready().await.unwrap().call(get("/")).await.unwrap();
        failed += u32::from(answer.status() == 500);
    }
    assert!(failed <= 5, "{failed} of 100");
}
