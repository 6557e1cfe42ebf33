use super::*;
use tokio::net::TcpListener;
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::{Request, Status};

/// A codec of empty messages.
struct Empty;

impl Codec for Empty {
    type Encode = ();
    type Decode = ();
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Empty {
    type Item = ();
    type Error = Status;

    fn encode(&mut self, (): (), _: &mut EncodeBuf<'_>) -> Result<(), Status> {
        Ok(())
    }
}

impl Decoder for Empty {
    type Item = ();
    type Error = Status;

    fn decode(&mut self, _: &mut DecodeBuf<'_>) -> Result<Option<()>, Status> {
        Ok(Some(()))
    }
}

#[tokio::test]
async fn an_unanswered_call_fails_with_deadline_exceeded() {
    // The system accepts the connection, but no server reads from it.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = silent.local_addr().unwrap();
    let yaml = format!("{{Endpoints: ['{address}'], Timeout: 50}}");
    let channel = ClientConfig::from_yaml(&yaml).unwrap().connect().await.unwrap();
    let path = "/user.User/Find".parse().unwrap();
    let mut grpc = Grpc::new(channel);
    let call = grpc.unary(Request::new(()), path, Empty);
    let outcome =
        registry_testkit::lag::timeout(Duration::from_secs(4), call).await.expect("the call ends");
    let status = outcome.unwrap_err();
    assert_eq!(status.code(), tonic::Code::DeadlineExceeded, "{status:?}");
}
