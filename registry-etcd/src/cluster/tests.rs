use super::*;
use crate::dial;
use std::collections::BTreeSet;
use std::net::TcpListener;

/// Returns an endpoint where no server listens.
fn unused_endpoint() -> Endpoint {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let authority = listener.local_addr().unwrap().to_string();
    Endpoint { url: format!("http://{authority}"), authority }
}

fn cluster(endpoints: Vec<Endpoint>) -> Cluster {
    let (target, options) = ("etcd://unused".parse().unwrap(), EtcdOptions::default());
    Cluster::new(endpoints.into(), dial::dial(&target, &options).unwrap(), &options)
}

#[tokio::test]
async fn unsent_request_is_tried_once_on_each_member() {
    let endpoints: Vec<_> = (0..3).map(|_| unused_endpoint()).collect();
    let all: BTreeSet<_> = endpoints.iter().map(|one| one.authority.clone()).collect();
    let cluster = cluster(endpoints);
    let tried = Mutex::new(Vec::new());
    let outcome = cluster.call(|connection| {
        tried.lock().unwrap().push(connection.endpoint().to_owned());
        async move { Ok(connection.client().kv_client().get("key", None).await?) }
    });
    let error = outcome.await.unwrap_err();
    assert!(error.is_unsent() && error.is_member_failure(), "{error:?}");
    let tried = tried.into_inner().unwrap();
    assert_eq!(tried.len(), 3);
    assert_eq!(tried.into_iter().collect::<BTreeSet<_>>(), all);
}

#[tokio::test]
async fn request_that_may_have_been_received_is_sent_once() {
    let cluster = cluster(vec![unused_endpoint(), unused_endpoint()]);
    let tried = Mutex::new(Vec::new());
    for _ in 0..2 {
        let outcome = cluster.call(|connection| {
            tried.lock().unwrap().push(connection.endpoint().to_owned());
            async { Err::<(), _>(EtcdError::StreamEnded) }
        });
        outcome.await.unwrap_err();
    }
    let tried = tried.into_inner().unwrap();
    assert_eq!(tried.len(), 2);
    assert_ne!(tried[0], tried[1], "the retry goes to the next member");
}
