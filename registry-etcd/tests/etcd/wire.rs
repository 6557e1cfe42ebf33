//! The bytes on the wire, recorded by an HTTP/2 relay.

use crate::support::{Fixture, name, within};
use h2::{RecvStream, SendStream, client, server};
use http::{HeaderMap, Request};
use prost::Message;
use prost::bytes::Bytes;
use registry_core::{CallOptions, Registry};
use registry_etcd::EtcdRegistry;
use std::sync::{Arc, Mutex};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

const LOAD: &str = "/etcdserverpb.KV/Range";
const WATCH: &str = "/etcdserverpb.Watch/Watch";

/// Go's range begins at `user.rpc/`. The side keys, which Go does not know, sort directly before it.
const START: &[u8] = b"user.rpc.~meta/";
const END: &[u8] = b"user.rpc0";

#[tokio::test]
async fn watch_request_is_that_of_go_zero() {
    let etcd = Fixture::start_as("?layout=go-zero").await;
    etcd.put("user.rpc/7", "192.168.1.5:8081").await;
    let relay = Relay::start(etcd.server.endpoint().trim_start_matches("http://")).await;
    let url = format!("etcd://{}?layout=go-zero", relay.address).parse().unwrap();
    let registry = within(EtcdRegistry::connect(&url)).await.unwrap();

    let listed = within(registry.load(&name("user.rpc"), &CallOptions::DEFAULT)).await.unwrap();
    let _watch = within(registry.watch(&name("user.rpc"), listed.cursor(), &CallOptions::DEFAULT))
        .await
        .unwrap();

    let asked = relay.asked();
    let loads = asked.iter().filter(|call| call.path == LOAD).map(Call::message::<RangeRequest>);
    let ranges: Vec<_> = loads.map(|range| (range.key, range.range_end)).collect();
    assert!(ranges.contains(&(START.to_vec(), END.to_vec())), "{ranges:?}");

    let watches: Vec<_> = asked.iter().filter(|call| call.path == WATCH).collect();
    let [watch] = watches[..] else { panic!("expected one stream, got {}", watches.len()) };
    // With this header, a member without a leader ends the stream instead of staying silent.
    assert_eq!(watch.headers["hasleader"], "true");
    let created = watch.message::<WatchRequest>().create.unwrap();
    assert_eq!((&*created.key, &*created.range_end), (START, END));
    let revision = listed.cursor().revision().get().cast_signed();
    assert_eq!(revision, etcd.revision().await);
    assert_eq!(created.start_revision, revision + 1);
}

/// A subset of etcd's messages, with the field numbers of its `rpc.proto`.
#[derive(Message)]
struct RangeRequest {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    range_end: Vec<u8>,
}

#[derive(Message)]
struct WatchRequest {
    #[prost(message, optional, tag = "1")]
    create: Option<WatchCreateRequest>,
}

#[derive(Message)]
struct WatchCreateRequest {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    range_end: Vec<u8>,
    #[prost(int64, tag = "3")]
    start_revision: i64,
}

/// A relay to a server that records requests. Dropping it ends all of its tasks.
struct Relay {
    address: String,
    asked: Arc<Mutex<Vec<Call>>>,
    _connections: JoinSet<()>,
}

/// The request of a call so far.
#[derive(Clone)]
struct Call {
    path: String,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Relay {
    async fn start(server: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (asked, server) = (Arc::new(Mutex::new(Vec::new())), server.to_owned());
        let (log, mut connections) = (asked.clone(), JoinSet::new());
        connections.spawn(async move {
            let mut open = JoinSet::new();
            loop {
                let (inbound, _) = listener.accept().await.unwrap();
                let outbound = TcpStream::connect(&server).await.unwrap();
                open.spawn(relay(inbound, outbound, log.clone()));
            }
        });
        Self { address, asked, _connections: connections }
    }

    fn asked(&self) -> Vec<Call> {
        self.asked.lock().unwrap().clone()
    }
}

impl Call {
    /// Decodes the first message, after gRPC's compression flag and length.
    fn message<T: Message + Default>(&self) -> T {
        let (head, rest) = self.body.split_at(5);
        assert_eq!(head[0], 0, "the message is not compressed");
        let len = u32::from_be_bytes(head[1..].try_into().unwrap());
        T::decode(&rest[..usize::try_from(len).unwrap()]).unwrap()
    }
}

async fn relay(inbound: TcpStream, outbound: TcpStream, log: Arc<Mutex<Vec<Call>>>) {
    let mut inbound = server::handshake(inbound).await.unwrap();
    let (outbound, connection) = client::handshake(outbound).await.unwrap();
    let mut running = JoinSet::new();
    running.spawn(async move { drop(connection.await) });
    while let Some(Ok((request, mut respond))) = inbound.accept().await {
        let (parts, body) = request.into_parts();
        let (path, headers) = (parts.uri.path().to_owned(), parts.headers.clone());
        let number = {
            let mut log = log.lock().unwrap();
            log.push(Call { path, headers, body: Vec::new() });
            log.len() - 1
        };
        let (log, outbound) = (log.clone(), outbound.clone());
        running.spawn(async move {
            let mut outbound = outbound.ready().await.unwrap();
            let request = Request::from_parts(parts, ());
            let (response, to_server) = outbound.send_request(request, false).unwrap();
            let there = pass(body, to_server, |chunk| {
                log.lock().unwrap()[number].body.extend_from_slice(chunk);
            });
            let back = async {
                let (parts, body) = response.await.unwrap().into_parts();
                let to_client = respond.send_response(http::Response::from_parts(parts, ()), false);
                pass(body, to_client.unwrap(), |_| ()).await;
            };
            tokio::join!(there, back);
        });
    }
}

/// Passes data on until one side closes.
async fn pass(mut from: RecvStream, mut to: SendStream<Bytes>, mut see: impl FnMut(&[u8])) {
    while let Some(Ok(chunk)) = from.data().await {
        see(&chunk);
        let _ = from.flow_control().release_capacity(chunk.len());
        if to.send_data(chunk, false).is_err() {
            return;
        }
    }
    let _ = match from.trailers().await {
        Ok(Some(trailers)) => to.send_trailers(trailers),
        _ => to.send_data(Bytes::new(), true),
    };
}
