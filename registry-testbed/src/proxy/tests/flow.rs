//! Faults that slow connections down without ending them.

use super::*;

#[tokio::test]
async fn healthy_proxy_forwards_everything_and_counts_no_hits() {
    let echo = Echo::start().await;
    let mut client = echo.connect().await;
    talk(&mut client, &pattern(3_000_000)).await;
    echo.proxy.heal();
    talk(&mut client, b"a heal without a fault cuts nothing").await;
    assert_eq!(echo.proxy.hits(), Hits::default());
}

#[tokio::test]
async fn delay_applies_each_way_and_keeps_the_order() {
    let echo = Echo::start().await;
    let mut client = echo.connect_through().await;
    let (each, jitter) = (Duration::from_millis(40), Duration::from_millis(40));
    echo.proxy.inject(Fault::Delay { each, jitter });
    for mut client in [echo.connect().await, client] {
        let start = Instant::now();
        talk(&mut client, b"small").await;
        assert!(start.elapsed() >= each * 2, "{:?}", start.elapsed());
        talk(&mut client, &pattern(499_995)).await;
    }
    let hits = echo.proxy.hits();
    assert_eq!(hits.delayed_bytes, 2_000_000, "500,000 bytes each way on two connections");
    assert!(hits.delayed_chunks >= 4, "{hits:?}");

    client = echo.connect().await;
    echo.proxy.inject(Fault::Delay { each: Duration::from_secs(3600), jitter });
    client.write_all(b"first").await.unwrap();
    echo.until(|hits| hits.delayed_bytes == 2_000_005).await;
    echo.proxy.heal();
    client.write_all(b" second").await.unwrap();
    let mut replies = [0; 12];
    within(client.read_exact(&mut replies)).await.unwrap();
    assert_eq!(&replies, b"first second");
}

#[tokio::test]
async fn replies_are_delayed_from_the_first_request_with_a_text() {
    let echo = Echo::start().await;
    let mut client = echo.connect_through().await;
    let each = Duration::from_millis(40);
    echo.proxy.inject_from("slow", Fault::DelayReplies { each });
    talk(&mut client, b"quick").await;
    assert_eq!(echo.proxy.hits(), Hits::default());
    let start = Instant::now();
    talk(&mut client, b"a slow one").await;
    assert!(start.elapsed() >= each, "{:?}", start.elapsed());
    talk(&mut client, b"and the next").await;
    assert_eq!(echo.proxy.hits().delayed_bytes, 22, "only replies are delayed");
    echo.proxy.heal();
    talk(&mut client, b"slow no more").await;
    assert_eq!(echo.proxy.hits().delayed_bytes, 22);
    assert_eq!(echo.proxy.hits().cut, 0, "cut without a lost reply");
}

#[tokio::test]
async fn throttle_slows_down_without_a_loss() {
    let echo = Echo::start().await;
    let mut client = echo.connect_through().await;
    echo.proxy.inject(Fault::Throttle { bytes_per_second: 100_000 });
    let start = Instant::now();
    talk(&mut client, &pattern(20_000)).await;
    // The first fiftieth of a second's bytes must have arrived before a reply begins.
    assert!(start.elapsed() >= Duration::from_millis(220), "{:?}", start.elapsed());
    assert_eq!(echo.proxy.hits().throttled_bytes, 40_000);

    echo.proxy.inject(Fault::Throttle { bytes_per_second: 100 });
    let heal = async {
        echo.until(|hits| hits.throttled_bytes > 40_000).await;
        echo.proxy.heal();
    };
    join(talk(&mut client, &pattern(1_000_000)), heal).await;
}

#[tokio::test]
async fn blackhole_holds_up_everything_and_loses_nothing() {
    let echo = Echo::start().await;
    let mut standing = echo.connect_through().await;
    let mut closing = echo.connect_through().await;
    echo.proxy.inject(Fault::Blackhole);
    let mut new = echo.connect().await;
    let mut byte = [0];
    for client in [&mut standing, &mut new] {
        client.write_all(b"late").await.unwrap();
        assert!(timeout(SILENCE, client.read(&mut byte)).await.is_err(), "data arrived");
    }
    closing.shutdown().await.unwrap();
    assert!(timeout(SILENCE, closing.read(&mut byte)).await.is_err(), "the end arrived");
    echo.until(|hits| hits.frozen_connections == 3 && hits.held_directions == 1).await;

    echo.proxy.heal();
    for client in [&mut standing, &mut new] {
        let mut late = [0; 4];
        within(client.read_exact(&mut late)).await.unwrap();
        assert_eq!(&late, b"late");
        talk(client, b"and on").await;
    }
    assert_eq!(rest(&mut closing).await.0, b"");
}

#[tokio::test]
async fn repeated_blackholes_under_load_lose_nothing() {
    let echo = Echo::start().await;
    let mut client = echo.connect_through().await;
    let storm = async {
        for n in 1..=10 {
            echo.proxy.inject(Fault::Blackhole);
            echo.until(|hits| hits.frozen_connections == n).await;
            echo.proxy.inject(Fault::Throttle { bytes_per_second: 1_000_000 });
            let throttled = echo.proxy.hits().throttled_bytes;
            echo.until(|hits| hits.throttled_bytes > throttled).await;
        }
        echo.proxy.heal();
    };
    join(talk(&mut client, &pattern(5_000_000)), storm).await;
}

#[tokio::test]
async fn blackhole_holds_up_chunks_in_flight() {
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = Proxy::start(server.local_addr().unwrap()).await.unwrap();
    let hour = Duration::from_secs(3600);
    let slow = Fault::Throttle { bytes_per_second: 1000 };
    for fault in [slow, Fault::Delay { each: hour, jitter: hour }] {
        proxy.inject(fault);
        let mut client = TcpStream::connect(proxy.address()).await.unwrap();
        let (mut accepted, _) = within(server.accept()).await.unwrap();
        let (sent, mut came) = (pattern(1000), [0; 1000]);
        let before = proxy.hits();
        accepted.write_all(&sent).await.unwrap();
        within(async {
            while proxy.hits() == before {
                yield_now().await;
            }
        })
        .await;
        proxy.inject(Fault::Blackhole);
        assert!(timeout(SILENCE, client.read_exact(&mut came)).await.is_err(), "all of it arrived");
        proxy.heal();
        assert!(within(client.read_u8()).await.is_ok());
    }
}

#[tokio::test]
async fn end_of_a_stream_is_delayed_and_held_up() {
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = Proxy::start(server.local_addr().unwrap()).await.unwrap();
    proxy.inject(Fault::Delay { each: Duration::from_secs(3600), jitter: Duration::ZERO });
    let mut client = TcpStream::connect(proxy.address()).await.unwrap();
    drop(within(server.accept()).await.unwrap());
    assert!(timeout(SILENCE, client.read_u8()).await.is_err(), "the end is not delayed");
    proxy.inject(Fault::Blackhole);
    assert!(timeout(SILENCE, client.read_u8()).await.is_err(), "the end is not held up");
    proxy.heal();
    assert_eq!(rest(&mut client).await.0, b"");
}

#[tokio::test]
async fn slice_delivers_all_bytes_in_pieces() {
    let echo = Echo::start().await;
    let mut client = echo.connect_through().await;
    echo.proxy.inject(Fault::Slice { bytes: 3 });
    let (sent, mut came, mut buffer) = (pattern(100), Vec::new(), [0; 100]);
    let start = Instant::now();
    client.write_all(&sent).await.unwrap();
    while came.len() < sent.len() {
        let n = within(client.read(&mut buffer)).await.unwrap();
        // On a busy machine a read may return several pieces.
        assert!((1..sent.len()).contains(&n), "not sliced: {n}");
        came.extend_from_slice(&buffer[..n]);
    }
    assert_eq!(came, sent);
    assert!(start.elapsed() >= Duration::from_millis(32), "{:?}", start.elapsed());
    assert!(echo.proxy.hits().sliced_chunks >= 1);
    echo.proxy.inject(Fault::Slice { bytes: 0 });
    talk(&mut client, &pattern(300)).await;
}
