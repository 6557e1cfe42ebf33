//! Servers that are no Redis, and a Redis with arbitrary replies.

use crate::support::{claim, connect, instance, within};
use futures_util::StreamExt;
use registry_core::{CallOptions, Cursor, ErrorKind, Lease, Registry, Revision};
use registry_redis::{RedisOptions, RedisRegistry};
use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// Starts a server that handles each connection with `serve`. Returns its URL.
async fn peer<F>(serve: impl Fn(TcpStream) -> F + Send + 'static) -> String
where
    F: Future<Output = std::io::Result<()>> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("redis://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream));
        }
    });
    url
}

/// Starts a server that sends `bytes` at the first request, repeatedly if `repeats` is set.
async fn sender(bytes: &'static [u8], repeats: bool) -> String {
    peer(move |mut stream| async move {
        stream.read_u8().await?;
        stream.write_all(bytes).await?;
        if repeats {
            loop {
                stream.write_all(bytes).await?;
            }
        }
        stream.read_to_end(&mut Vec::new()).await.map(drop)
    })
    .await
}

/// Starts a Redis whose scripts return the result of `reply`, which receives the words of the command.
async fn scripted(reply: impl Fn(&[Vec<u8>]) -> Vec<u8> + Send + Sync + 'static) -> String {
    let reply = Arc::new(reply);
    peer(move |stream| {
        let reply = reply.clone();
        async move {
            let mut stream = BufReader::new(stream);
            loop {
                let words = command(&mut stream).await?;
                let is_script = words[0].starts_with(b"EVAL") || words[0] == b"XREAD";
                let answer = match &words[0][..] {
                    b"INFO" => {
                        bulk(b"run_id:0123456789\r\nrole:master\r\nredis_mode:standalone\r\n")
                    }
                    _ if is_script => reply(&words),
                    _ => b"+OK\r\n".to_vec(),
                };
                stream.write_all(&answer).await?;
            }
        }
    })
    .await
}

async fn command(stream: &mut BufReader<TcpStream>) -> std::io::Result<Vec<Vec<u8>>> {
    async fn number(stream: &mut BufReader<TcpStream>) -> std::io::Result<usize> {
        let mut line = String::new();
        stream.read_line(&mut line).await?;
        let number = line.trim_start_matches(['*', '$']).trim_end().parse();
        number.map_err(|_| std::io::ErrorKind::InvalidData.into())
    }
    let mut words = Vec::new();
    for _ in 0..number(stream).await? {
        let mut word = vec![0; number(stream).await? + 2];
        stream.read_exact(&mut word).await?;
        word.truncate(word.len() - 2);
        words.push(word);
    }
    Ok(words)
}

fn bulk(text: &[u8]) -> Vec<u8> {
    [format!("${}\r\n", text.len()).as_bytes(), text, b"\r\n"].concat()
}

fn array(elements: &[Vec<u8>]) -> Vec<u8> {
    [format!("*{}\r\n", elements.len()).into_bytes(), elements.concat()].concat()
}

fn texts(texts: &[&str]) -> Vec<u8> {
    array(&texts.iter().map(|text| bulk(text.as_bytes())).collect::<Vec<_>>())
}

/// Returns whether a call is the check of the layout, which has one key.
fn is_layout(words: &[Vec<u8>]) -> bool {
    words.get(2).is_some_and(|keys| keys == b"1")
}

async fn refusal(url: &str) -> (ErrorKind, String) {
    let error = connect(url, RedisOptions::default()).await.unwrap_err();
    let (_, address) = url.split_once("://").unwrap();
    assert!(error.to_string().contains(address), "the error names no server: {error}");
    (error.kind(), error.to_string())
}

/// Regression: the error of a server that is no Redis named no server, and said that redis could not be reached.
#[tokio::test]
async fn error_of_a_server_that_is_no_redis_shows_its_address_and_data() {
    let http = sender(b"HTTP/1.1 400 Bad Request\r\n\r\n", false).await;
    let (kind, text) = refusal(&http).await;
    assert_eq!(kind, ErrorKind::Unavailable);
    assert!(text.contains("got=`HTTP/1.1 400"), "{text}");
    let (kind, text) = refusal(&sender(b"\x15\x03\x03\0\x02\x02\x46", false).await).await;
    assert_eq!(kind, ErrorKind::Unavailable);
    assert!(text.contains("rediss://"), "{text}");
    #[cfg(feature = "tls")]
    {
        let plain = sender(b"-ERR Protocol error\r\n", false).await;
        let (kind, text) = refusal(&plain.replace("redis://", "rediss://")).await;
        assert_eq!(kind, ErrorKind::Unavailable);
        assert!(text.contains("connect to it with redis://"), "{text}");
    }
    let closes = peer(|mut stream| async move { stream.read_u8().await.map(drop) }).await;
    let (kind, text) = refusal(&closes).await;
    assert_eq!(kind, ErrorKind::Unavailable);
    assert!(text.contains("without a reply"), "{text}");
}

/// Regression: the parser allocated as many elements as an array header says, and buffered replies of any length.
#[tokio::test]
async fn endless_reply_is_refused_and_takes_little_memory() {
    let before = resident();
    for (bytes, repeats) in [
        (b"*9223372036854775807\r\n".as_slice(), false),
        (b"*2000000000\r\n", false),
        (b"$9223372036854775807\r\n", false),
        (b"*100000\r\n", true),
        (b"+xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx", true),
    ] {
        let (kind, text) = refusal(&sender(bytes, repeats).await).await;
        assert_eq!(kind, ErrorKind::Internal, "{}: {text}", bytes.escape_ascii());
        assert!(text.contains("128 MiB"), "{text}");
    }
    let grown = resident().saturating_sub(before);
    assert!(grown < 300 << 20, "{} MiB more", grown >> 20);
}

/// Returns the memory of this process in bytes.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    peak.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

const CALLS: usize = 8;

/// Makes a call of a registry, chosen by `number`.
async fn call(registry: &RedisRegistry, number: usize, lease: &Lease) -> registry_core::Result<()> {
    let (options, one) = (&CallOptions::DEFAULT, lease.instance());
    let cursor: Cursor = "1:redis:registry:user.rpc:7:00000000000000aa".parse().unwrap();
    match number {
        0 => registry.register(one, &claim(), options).await.map(drop),
        1 => registry.holder(one, options).await.map(drop),
        2 => registry.keep_alive(lease, options).await.map(drop),
        3 => registry.deregister(lease, options).await,
        4 => registry.load(one.service(), options).await.map(drop),
        5 => {
            let mut watch = registry.watch(one.service(), &cursor, options).await?;
            let next = tokio::time::timeout(Duration::from_millis(2), watch.next()).await;
            next.ok().flatten().transpose().map(drop)
        }
        6 => registry.watch_record(lease, options).await.map(drop),
        _ => registry.services(options).await.map(drop),
    }
}

fn lease() -> Lease {
    let (claim, one) = (claim(), instance("user.rpc", "1"));
    Lease::new(claim.lease(), claim.ttl(), one, Revision::new(7))
}

/// Returns a random reply of words that mean something to the scripts.
fn random_reply(random: &mut fastrand::Rng, depth: u32) -> Vec<u8> {
    const WORDS: [&str; 20] = [
        "OK",
        "DUE",
        "HELD",
        "VACANT",
        "SUPERSEDED",
        "INVALID",
        "COMPACTED",
        "ttl",
        "",
        "0",
        "1",
        "7",
        "8-0",
        "18446744073709551615",
        "-9223372036854775808",
        "00000000000000aa",
        "K\u{e9}",
        "user.rpc\u{1f}1",
        "t",
        "P",
    ];
    match random.u32(..10) {
        0 => format!(":{}\r\n", random.i64(..)).into_bytes(),
        1 => b"$-1\r\n".to_vec(),
        2 => b"-NOSCRIPT No matching script.\r\n".to_vec(),
        3 => b"-MOVED 1 :1\r\n".to_vec(),
        4 | 5 if depth < 4 => {
            let elements = (0..random.usize(..8)).map(|_| random_reply(random, depth + 1));
            array(&elements.collect::<Vec<_>>())
        }
        _ => bulk(WORDS[random.usize(..WORDS.len())].as_bytes()),
    }
}

#[tokio::test]
async fn no_reply_of_a_script_makes_a_call_panic() {
    let panics = Arc::new(AtomicUsize::new(0));
    let (counted, hook) = (panics.clone(), std::panic::take_hook());
    std::panic::set_hook(Box::new(move |info| {
        counted.fetch_add(1, Ordering::Relaxed);
        hook(info);
    }));
    let random = Mutex::new(fastrand::Rng::with_seed(21));
    let url = scripted(move |words| {
        if is_layout(words) {
            return texts(&["1", "16"]);
        }
        let mut random = random.lock().unwrap();
        // Most of the time as long as the real replies.
        let status = bulk(["OK", "HELD", "LOST", "DUE"][random.usize(..4)].as_bytes());
        let rest = (0..random.usize(..8)).map(|_| random_reply(&mut random, 1));
        array(&std::iter::once(status).chain(rest.collect::<Vec<_>>()).collect::<Vec<_>>())
    })
    .await;
    let registry = connect(&url, RedisOptions::default()).await.unwrap();
    let lease = lease();
    for round in 0..300 {
        for number in 0..CALLS {
            let _ = within(call(&registry, number, &lease)).await;
            assert_eq!(panics.load(Ordering::Relaxed), 0, "call {number} of round {round}");
        }
    }
}

/// Regression: calls to a server with arbitrary replies never returned, or used unbounded memory.
#[tokio::test]
async fn every_call_ends() {
    let (digest, lineage) = (bulk(b"00000000000000aa"), bulk(b"bb"));
    let member = array(&[bulk(b"user.rpc\x1f1")]);
    let page = |status: &str, more: &str, members: &[u8]| {
        let more = bulk(more.as_bytes());
        let [status, at] = [status, "7"].map(|text| bulk(text.as_bytes()));
        array(&[status, at, digest.clone(), lineage.clone(), more, members.to_vec(), array(&[])])
    };
    let names = vec!["a"; 1000];
    let no_entries = array(&[
        bulk(b"OK"),
        bulk(b"0"),
        bulk(b"18446744073709551615"),
        lineage.clone(),
        array(&[]),
    ]);
    let endless = [
        (4, page("OK", "1", &member)),
        (4, page("OK", "1", &array(&[]))),
        (4, page("DUE", "0", &array(&[]))),
        (7, array(&[bulk(b"OK"), texts(&names)])),
        (7, array(&[bulk(b"DUE"), array(&[])])),
        (5, no_entries),
    ];
    for (number, reply) in endless {
        let shown = reply.escape_ascii().to_string();
        let url = scripted(
            move |words| if is_layout(words) { texts(&["1", "16"]) } else { reply.clone() },
        )
        .await;
        let registry = connect(&url, RedisOptions::default()).await.unwrap();
        let outcome = within(call(&registry, number, &lease())).await;
        let kind = outcome.expect_err(&shown).kind();
        assert!([ErrorKind::Internal, ErrorKind::Unavailable].contains(&kind), "{kind}: {shown}");
    }
}
