//! HTTP requests to etcd, above all to its JSON gateway.

use std::time::Duration;

use registry_testkit::lag::timeout;

use super::super::ServerError;
use super::super::wire::Wire;

/// The timeout of a call. Changes of users and roles hash passwords and go through Raft.
const CALL_WITHIN: Duration = Duration::from_secs(5);

/// Makes a call of the gateway. Returns the body of the response, or an error with the failed request.
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

/// Sends an HTTP request. Returns the body of the response, or an error with the failed request.
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

/// Returns the release that a server reports.
pub(super) async fn release(wire: &Wire, address: &str) -> Result<String, ServerError> {
    let not_ready = |reason| ServerError::NotReady { server: "etcd", reason };
    let answer = ask(wire, address, "GET /version HTTP/1.0\r\n\r\n").await.map_err(not_ready)?;
    let release = field(&answer, "etcdserver");
    release
        .map(str::to_owned)
        .ok_or_else(|| not_ready(format!("the version response has no release: {answer}")))
}

/// Returns the value of the first field `name` in a response: a number or text without escapes. The gateway omits
/// fields that are zero.
pub(super) fn field<'a>(answer: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = answer.split_once(&format!("\"{name}\":"))?;
    let value = rest.trim_start().trim_start_matches('"');
    Some(value.split(['"', ',', '}']).next().unwrap_or(value))
}

#[cfg(test)]
mod tests {
    use super::field;

    #[test]
    fn field_is_found_at_any_depth() {
        let answer = r#"{"header":{"member_id":"17","raft_term":"2"},"dbSize":5, "leader":"9"}"#;
        assert_eq!(field(answer, "member_id"), Some("17"));
        assert_eq!(field(answer, "dbSize"), Some("5"));
        assert_eq!(field(answer, "leader"), Some("9"));
        assert_eq!(field(answer, "raftTerm"), None);
    }
}
