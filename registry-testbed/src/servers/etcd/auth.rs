//! Users, passwords and tokens of etcd.

use super::super::ServerError;
use super::super::wire::Wire;
use super::gateway::call;

/// The kind of etcd's authentication tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EtcdTokens {
    /// Tokens that etcd stores (its default). An unused token expires after 2 s instead of 5 minutes.
    Simple,
    /// Signed tokens (JWT). They expire after 2 s, and become invalid when users or roles change.
    Jwt,
}

impl EtcdTokens {
    /// Returns the arguments for [`ServerOptions`](super::super::ServerOptions).
    pub fn arguments(self) -> Vec<String> {
        /// The file with the signing key. Any text is valid.
        const KEY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/servers/etcd/auth.rs");
        let tokens = match self {
            Self::Simple => "--auth-token-ttl=2".to_owned(),
            Self::Jwt => format!("--auth-token=jwt,priv-key={KEY},sign-method=HS256,ttl=2s"),
        };
        // The lowest cost. With the default, each password takes 0.1 s of CPU time.
        vec![tokens, "--bcrypt-cost=4".to_owned()]
    }
}

/// The password of both users.
pub(super) const PASSWORD: &str = "s3cret";

/// Creates the users and their roles, enables authentication, and checks that it is enabled.
pub(super) async fn enable(wire: &Wire, address: &str, prefix: &str) -> Result<(), ServerError> {
    let user = |name| format!(r#"{{"name":"{name}","password":"{PASSWORD}"}}"#);
    let role = |name| format!(r#"{{"name":"{name}"}}"#);
    let grant = |name| format!(r#"{{"user":"{name}","role":"{name}"}}"#);
    let (key, end) = (base64(prefix.as_bytes()), base64(&range_end(prefix)));
    let perm = format!(r#"{{"permType":"READWRITE","key":"{key}","range_end":"{end}"}}"#);
    let steps = [
        ("user/add", user("root")),
        ("user/add", user("app")),
        ("role/add", role("root")),
        ("role/add", role("app")),
        ("role/grant", format!(r#"{{"name":"app","perm":{perm}}}"#)),
        ("user/grant", grant("root")),
        ("user/grant", grant("app")),
        ("enable", "{}".to_owned()),
    ];
    for (step, body) in steps {
        let answer = call(wire, address, &format!("/v3/auth/{step}"), &body).await;
        answer.map_err(|reason| ServerError::NotReady { server: "etcd", reason })?;
    }
    let anonymous = call(wire, address, "/v3/kv/range", r#"{"key":"AA=="}"#).await;
    // With client certificates, a certificate without a name is a user without permissions.
    let refusals = ["user name is empty", "permission denied"];
    match anonymous {
        Err(answer) if refusals.iter().any(|refusal| answer.contains(refusal)) => Ok(()),
        other => {
            let reason =
                format!("authentication is enabled, but a client without a user gets {other:?}");
            Err(ServerError::NotReady { server: "etcd", reason })
        }
    }
}

/// Returns the first key after all keys that start with `prefix`.
fn range_end(prefix: &str) -> Vec<u8> {
    let mut end = prefix.as_bytes().to_vec();
    match end.last_mut() {
        // UTF-8 text never contains the byte 255.
        Some(last) => *last += 1,
        // etcd's range end for all keys.
        None => end.push(0),
    }
    end
}

/// Encodes bytes as the gateway does.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digit = |number: u32| char::from(DIGITS[number as usize & 63]);
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let byte = |index| u32::from(chunk.get(index).copied().unwrap_or(0));
        let number = byte(0) << 16 | byte(1) << 8 | byte(2);
        let digits = [18, 12, 6, 0].map(|shift| digit(number >> shift));
        text.extend(&digits[..=chunk.len()]);
        text.extend(std::iter::repeat_n('=', 3 - chunk.len()));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_pads_short_chunks() {
        let pairs =
            [("", ""), ("k", "aw=="), ("ke", "a2U="), ("key", "a2V5"), ("~~?~", "fn4/fg==")];
        for (bytes, text) in pairs {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
    }

    #[test]
    fn range_end_is_the_first_key_after_a_prefix() {
        assert_eq!(range_end("prod/"), b"prod0");
        assert_eq!(range_end(""), [0]);
    }
}
