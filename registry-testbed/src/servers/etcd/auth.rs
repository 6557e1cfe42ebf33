//! Users, passwords and tokens.

use super::super::ServerError;
use super::super::wire::Wire;
use super::gateway::call;

/// How etcd makes the tokens that it gives for a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EtcdTokens {
    /// It remembers them (the default). One that nobody uses is forgotten after 2 s, not 5 minutes.
    Simple,
    /// It signs them (JWT). They expire after 2 s, and are void once users or roles change.
    Jwt,
}

impl EtcdTokens {
    /// Arguments for [`ServerOptions`](super::super::ServerOptions).
    pub fn arguments(self) -> Vec<String> {
        /// What it signs with: any text will do.
        const KEY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/servers/etcd/auth.rs");
        let tokens = match self {
            Self::Simple => "--auth-token-ttl=2".to_owned(),
            Self::Jwt => format!("--auth-token=jwt,priv-key={KEY},sign-method=HS256,ttl=2s"),
        };
        // As cheap as it goes: a password costs 0.1 s of CPU otherwise.
        vec![tokens, "--bcrypt-cost=4".to_owned()]
    }
}

/// Of both users.
pub(super) const PASSWORD: &str = "s3cret";

/// Makes the users and their roles, turns authentication on, and sees that it is.
pub(super) async fn enable(wire: &Wire, address: &str, prefix: &str) -> Result<(), ServerError> {
    let user = |name| format!(r#"{{"name":"{name}","password":"{PASSWORD}"}}"#);
    let role = |name| format!(r#"{{"name":"{name}"}}"#);
    let grant = |name| format!(r#"{{"user":"{name}","role":"{name}"}}"#);
    let (key, end) = (base64(prefix.as_bytes()), base64(&after(prefix)));
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
    // Where clients show certificates, the one without a name in it is a user without rights.
    let refusals = ["user name is empty", "permission denied"];
    match anonymous {
        Err(answer) if refusals.iter().any(|refusal| answer.contains(refusal)) => Ok(()),
        other => {
            let reason = format!("authentication is on, and who has no name gets {other:?}");
            Err(ServerError::NotReady { server: "etcd", reason })
        }
    }
}

/// The first key after all those that begin with `prefix`.
fn after(prefix: &str) -> Vec<u8> {
    let mut end = prefix.as_bytes().to_vec();
    match end.last_mut() {
        // No text has the byte 255.
        Some(last) => *last += 1,
        // To etcd this is the end of all keys.
        None => end.push(0),
    }
    end
}

/// How the gateway writes bytes.
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
    fn bytes_are_written_as_the_gateway_reads_them() {
        let pairs =
            [("", ""), ("k", "aw=="), ("ke", "a2U="), ("key", "a2V5"), ("~~?~", "fn4/fg==")];
        for (bytes, text) in pairs {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
    }

    #[test]
    fn a_prefix_ends_before_what_comes_after_it() {
        assert_eq!(after("prod/"), b"prod0");
        assert_eq!(after(""), [0]);
    }
}
