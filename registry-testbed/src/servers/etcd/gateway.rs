//! HTTP requests to etcd, above all to its JSON gateway.

use std::time::Duration;

use registry_testkit::lag::timeout;

use super::super::ServerError;
use super::super::wire::Wire;

/// How long a call may take. Changes of users and roles hash passwords and go through Raft.
const CALL_WITHIN: Duration = Duration::from_secs(5);

/// Makes one call, and gives its answer or says what came instead.
pub(super) async fn call(
    wire: &Wire,
    address: &str,
    path: &str,
    body: &str,
) -> Result<String, String> {
    let length = body.len();
    let request = format!("POST {path} HTTP/1.0\r\nContent-Length: {length}\r\n\r\n{body}");
    ask(wire, address, &request).await
}

/// Sends an HTTP request, and gives the body of its answer or says what came instead.
pub(super) async fn ask(wire: &Wire, address: &str, request: &str) -> Result<String, String> {
    let what = request.lines().next().unwrap_or_default();
    let reply = timeout(CALL_WITHIN, wire.exchange(address, request))
        .await
        .map_err(|_| format!("{address} did not answer {what} within {CALL_WITHIN:?}"))?
        .map_err(|error| format!("{address}: {error}"))?;
    let (head, answer) = reply.split_once("\r\n\r\n").unwrap_or((&reply, ""));
    if head.lines().next().is_some_and(|line| line.contains(" 200 ")) {
        return Ok(answer.to_owned());
    }
    Err(format!("{address} answered {what} with {reply:?}"))
}

/// What a server says of its release.
pub(super) async fn release(wire: &Wire, address: &str) -> Result<String, ServerError> {
    let not_ready = |reason| ServerError::NotReady { server: "etcd", reason };
    let answer = ask(wire, address, "GET /version HTTP/1.0\r\n\r\n").await.map_err(not_ready)?;
    let release = field(&answer, "etcdserver");
    release.map(str::to_owned).ok_or_else(|| not_ready(format!("it has no release: {answer}")))
}

/// The value of a field of an answer, wherever it stands: a number or a plain text. The gateway
/// leaves out what is zero.
pub(super) fn field<'a>(answer: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = answer.split_once(&format!("\"{name}\":"))?;
    let value = rest.trim_start().trim_start_matches('"');
    Some(value.split(['"', ',', '}']).next().unwrap_or(value))
}

#[cfg(test)]
mod tests {
    use super::field;

    #[test]
    fn finds_a_field() {
        let answer = r#"{"header":{"member_id":"17","raft_term":"2"},"dbSize":5, "leader":"9"}"#;
        assert_eq!(field(answer, "member_id"), Some("17"));
        assert_eq!(field(answer, "dbSize"), Some("5"));
        assert_eq!(field(answer, "leader"), Some("9"));
        assert_eq!(field(answer, "raftTerm"), None);
    }
}
