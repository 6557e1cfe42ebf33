//! Tests of the limits on memory and time that a client can make the server spend.

use super::check::check;
use super::encode::*;
use super::repair::{MAX_BLOCK, Repair};
use super::{Connection, LIMIT};
use std::io;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::time::{Instant, sleep, timeout};

fn invalid() -> Vec<u8> {
    literal(INDEXING, &Name::Index(1), b"h1:1,h2:2", true)
}

/// Another header with a value of this length.
fn other(length: usize) -> Vec<u8> {
    literal(FORMS[1], &Name::Index(58), &vec![b'x'; length], false)
}

#[test]
fn a_block_over_the_limit_passes_unchanged_and_the_next_is_repaired() {
    let long = other(16_000);
    let mut frames = vec![frame(HEADERS, 0, 1, &block(&[&invalid()]))];
    frames.extend((0..5).map(|_| frame(CONTINUATION, 0, 1, &long)));
    frames.push(frame(CONTINUATION, END_HEADERS, 1, &[]));
    frames.push(headers(&block(&[&invalid()])));
    let one_frame = [block(&[&invalid()]), long.repeat(5)].concat();
    let single = vec![headers(&one_frame), headers(&block(&[&invalid()]))];
    for frames in [frames, single] {
        for lengths in [&[][..], &[1000]] {
            let comparison = check(&connection(&frames), lengths);
            assert_eq!((comparison.refused, comparison.repaired), (1, 1));
        }
    }
}

#[test]
fn a_block_of_exactly_the_maximum_length_is_repaired() {
    let around = 9 + block(&[&invalid(), &other(60_000)]).len() - 60_000;
    for (length, repaired) in [(MAX_BLOCK - around, 1), (MAX_BLOCK - around + 1, 0)] {
        let sent = connection(&[headers(&block(&[&invalid(), &other(length)]))]);
        assert_eq!(check(&sent, &[4096]).repaired, repaired);
    }
}

/// Sends a block that never ends.
async fn flood(mut client: DuplexStream) -> io::Result<()> {
    client.write_all(&connection(&[frame(HEADERS, 0, 1, &[])])).await?;
    loop {
        client.write_all(&frame(CONTINUATION, 0, 1, &[0; 100])).await?;
    }
}

/// A client that never ends a header block must not fill the server's memory.
#[tokio::test]
async fn at_most_one_block_and_one_read_are_buffered() {
    const READ: usize = 8192;
    let (client, server) = duplex(READ);
    let mut server = Connection::new(server);
    let client = tokio::spawn(flood(client));
    let (mut space, mut read) = (vec![0; READ], 0);
    while read < 4 * MAX_BLOCK {
        read += server.read(&mut space).await.unwrap();
        assert!(server.held.len() <= MAX_BLOCK + READ, "{}", server.held.len());
    }
    drop(server);
    assert!(client.await.unwrap().is_err());
}

#[test]
fn data_frames_are_not_buffered() {
    let data = frame(DATA, 0, 1, &vec![7; 16_384]);
    let mut sent = connection(&[data[..1000].to_vec()]);
    let mut repair = Repair::new();
    assert_eq!(repair.repair(&mut sent).rest, 0);
    for piece in data[1000..].to_vec().chunks_mut(777) {
        assert_eq!(repair.repair(piece).rest, 0);
    }
}

/// Returns both ends of a connection: the server's and the client's.
fn pair() -> (Connection<DuplexStream>, DuplexStream) {
    let (client, server) = duplex(1 << 20);
    (Connection::new(server), client)
}

#[tokio::test(start_paused = true)]
async fn an_incomplete_preface_or_header_block_times_out() {
    let whole = connection(&[headers(&block(&[&invalid()]))]);
    let request = PREFACE.len() + 9;
    for length in [1, 23, request + 1, request + 9, whole.len() - 1] {
        let (mut server, mut client) = pair();
        client.write_all(&whole[..length]).await.unwrap();
        let start = Instant::now();
        let mut read = Vec::new();
        let error = server.read_to_end(&mut read).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut, "{length}");
        assert_eq!(start.elapsed().as_secs(), LIMIT.as_secs(), "{length}");
        assert_eq!(read, whole[..length.min(request)].to_vec());
    }
}

#[tokio::test(start_paused = true)]
async fn a_preface_sent_byte_by_byte_times_out() {
    let (mut server, mut client) = pair();
    let dripping = tokio::spawn(async move {
        for byte in PREFACE {
            client.write_all(&[*byte]).await.unwrap();
            sleep(LIMIT / 10).await;
        }
        client
    });
    let error = server.read_to_end(&mut Vec::new()).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    dripping.abort();
}

#[tokio::test(start_paused = true)]
async fn an_idle_client_never_times_out() {
    let idle = connection(&[headers(&block(&[&invalid()])), frame(DATA, 0, 1, &[1; 9])]);
    for length in [0, PREFACE.len(), PREFACE.len() + 9, idle.len() - 9, idle.len() - 1, idle.len()]
    {
        let (mut server, mut client) = pair();
        client.write_all(&idle[..length]).await.unwrap();
        let read = timeout(LIMIT * 100, server.read_to_end(&mut Vec::new())).await;
        assert!(read.is_err(), "{length}: {read:?}");
        drop(client);
    }
}

/// Reads of a message stream seldom end at the end of a frame, so the deadline must restart with each completed frame.
#[tokio::test(start_paused = true)]
async fn the_deadline_restarts_when_a_frame_completes() {
    let (mut server, mut client) = pair();
    let data = frame(DATA, 0, 1, &[7; 100]);
    let sent = connection(&vec![data.clone(); 100]);
    let (begin, rest) = sent.split_at(PREFACE.len() + 9 + 4); // each read ends within a frame header
    client.write_all(begin).await.unwrap();
    let rest = rest.to_vec();
    let writing = tokio::spawn(async move {
        for piece in rest.chunks(data.len()) {
            sleep(LIMIT / 2).await;
            client.write_all(piece).await.unwrap();
        }
    });
    let mut read = Vec::new();
    server.read_to_end(&mut read).await.unwrap();
    assert_eq!(read, sent);
    writing.await.unwrap();
}
