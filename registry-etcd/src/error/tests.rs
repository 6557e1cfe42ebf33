use super::*;
use std::error::Error as _;

#[test]
fn every_status_maps_to_a_reason() {
    let table = [
        (Code::NotFound, "etcdserver: requested lease not found", Reason::LeaseNotFound),
        (Code::NotFound, "etcdserver: member not found", Reason::Internal),
        (Code::FailedPrecondition, "etcdserver: lease already exists", Reason::LeaseExists),
        (Code::FailedPrecondition, "etcdserver: not leader", Reason::Unavailable),
        (Code::FailedPrecondition, "etcdserver: authentication is not enabled", Reason::Invalid),
        (
            Code::OutOfRange,
            "etcdserver: mvcc: required revision has been compacted",
            Reason::Compacted,
        ),
        (
            Code::OutOfRange,
            "etcdserver: mvcc: required revision is a future revision",
            Reason::Diverged,
        ),
        (
            Code::OutOfRange,
            "Error, decoded message length too large: found 5 bytes, the limit is: 4 bytes",
            Reason::Internal,
        ),
        (Code::OutOfRange, "etcdserver: too large lease TTL", Reason::Invalid),
        (Code::InvalidArgument, "etcdserver: request is too large", Reason::Invalid),
        (Code::InvalidArgument, "etcdserver: user name is empty", Reason::Denied),
        (Code::InvalidArgument, "etcdserver: revision of auth store is old", Reason::Denied),
        (Code::Unauthenticated, "etcdserver: invalid auth token", Reason::Denied),
        (Code::PermissionDenied, "etcdserver: permission denied", Reason::Denied),
        (Code::Unimplemented, "unknown service etcdserverpb.KV", Reason::Invalid),
        (Code::Unavailable, "etcdserver: no leader", Reason::Unavailable),
        (Code::Unavailable, "invalid peer certificate: UnknownIssuer", Reason::Denied),
        (Code::DeadlineExceeded, "context deadline exceeded", Reason::Unavailable),
        (Code::Cancelled, "Timeout expired", Reason::Unavailable),
        (Code::Unknown, "h2 protocol error: broken pipe", Reason::Unavailable),
        (Code::Internal, "h2 protocol error: http2 error", Reason::Unavailable),
        (Code::Internal, "etcdserver: panic", Reason::Internal),
        (Code::ResourceExhausted, "etcdserver: too many requests", Reason::Unavailable),
        (Code::ResourceExhausted, "etcdserver: mvcc: database space exceeded", Reason::Unavailable),
        (Code::DataLoss, "etcdserver: corrupt cluster", Reason::Internal),
    ];
    for (code, text, reason) in table {
        assert_eq!(reason_of_status(&Status::new(code, text)), reason, "{code:?} {text}");
    }
}

#[test]
fn only_member_failures_switch_the_member() {
    let of =
        |code, text: &str| EtcdError::from(etcd_client::Error::GRpcStatus(Status::new(code, text)));
    assert!(of(Code::Unavailable, "etcdserver: no leader").is_member_failure());
    assert!(of(Code::Unknown, "h2 protocol error: broken pipe").is_member_failure());
    assert!(EtcdError::StreamEnded.is_member_failure());
    for text in ["etcdserver: too many requests", "etcdserver: mvcc: database space exceeded"] {
        assert!(!of(Code::ResourceExhausted, text).is_member_failure(), "{text}");
    }
    assert!(!of(Code::Unknown, "etcdserver: too many requests").is_member_failure());
    assert!(!of(Code::OutOfRange, "has been compacted").is_member_failure());
}

#[test]
fn request_is_unsent_if_the_connection_failed() {
    let refused = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
    let status = Status::from_error(Box::new(tonic::ConnectError(Box::new(refused))));
    assert!(EtcdError::from(etcd_client::Error::GRpcStatus(status)).is_unsent());
    let cut = Status::new(Code::Unavailable, "tcp connect error");
    assert!(!EtcdError::from(etcd_client::Error::GRpcStatus(cut)).is_unsent());
}

#[test]
fn invalid_token_differs_from_wrong_password() {
    let of =
        |code, text: &str| EtcdError::from(etcd_client::Error::GRpcStatus(Status::new(code, text)));
    assert!(of(Code::Unauthenticated, "etcdserver: invalid auth token").is_token_rejected());
    let old = "etcdserver: revision of auth store is old";
    assert!(of(Code::InvalidArgument, old).is_token_rejected());
    assert!(EtcdError::Canceled("etcdserver: invalid auth token".into()).is_token_rejected());
    let wrong = "etcdserver: authentication failed, invalid user ID or password";
    assert!(!of(Code::InvalidArgument, wrong).is_token_rejected());
    assert!(!EtcdError::Canceled("etcdserver: permission denied".into()).is_token_rejected());
}

#[test]
fn broken_keep_alive_stream_is_not_a_lost_lease() {
    let reason_of = |text: &str| {
        EtcdError::from(etcd_client::Error::LeaseKeepAliveError(text.to_owned())).reason()
    };
    assert_eq!(reason_of("lease not found"), Reason::LeaseNotFound);
    assert_eq!(reason_of("channel closed"), Reason::Unavailable);
}

#[test]
fn watch_refused_for_credentials_is_denied() {
    let reason_of = |text: &str| EtcdError::Canceled(text.to_owned()).reason();
    let refused = "rpc error: code = PermissionDenied desc = etcdserver: permission denied";
    assert_eq!(reason_of(refused), Reason::Denied);
    assert_eq!(reason_of("etcdserver: invalid auth token"), Reason::Denied);
    assert_eq!(reason_of(""), Reason::Unavailable);
}

#[test]
fn registry_error_has_the_etcd_error_as_source() {
    let error = Error::from(EtcdError::Deadline(Duration::from_secs(5)));
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert_eq!(error.to_string(), "etcd is unavailable or did not answer in time");
    assert_eq!(error.source().unwrap().to_string(), "no answer within 5s");
}
