//! Faults that end or refuse connections, or lose replies.

use super::*;

#[tokio::test]
async fn proxy_forwards_loses_replies_and_cuts_at_the_heal() {
    let echo = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = Proxy::start(echo.local_addr().unwrap()).await.unwrap();
    let mut client = TcpStream::connect(proxy.address()).await.unwrap();
    let (mut server, _) = within(echo.accept()).await.unwrap();
    let mut byte = [0];

    client.write_all(b"a").await.unwrap();
    within(server.read_exact(&mut byte)).await.unwrap();
    server.write_all(b"b").await.unwrap();
    within(client.read_exact(&mut byte)).await.unwrap();
    assert_eq!(&byte, b"b");

    proxy.lose_replies_from("c");
    server.write_all(b"c").await.unwrap();
    within(client.read_exact(&mut byte)).await.unwrap();
    assert!(!proxy.loses_replies(), "triggered by a reply");
    client.write_all(b"c").await.unwrap();
    within(server.read_exact(&mut byte)).await.unwrap();
    assert_eq!(&byte, b"c", "the request must arrive");
    assert!(proxy.loses_replies());
    server.write_all(b"d").await.unwrap();
    proxy.heal();
    assert_eq!(within(client.read(&mut byte)).await.unwrap_or(0), 0, "the lost reply arrived");
    assert_eq!(proxy.hits().cut, 1);
    assert!(within(TcpStream::connect(proxy.address())).await.is_ok());
}

#[tokio::test]
async fn replies_stay_lost_during_another_fault() {
    let echo = Echo::start().await;
    let mut client = echo.connect_through().await;
    echo.proxy.lose_replies();
    client.write_all(b"lost").await.unwrap();
    echo.until(|hits| hits.lost_bytes == 4).await;
    echo.proxy.inject(Fault::Slice { bytes: 1 });
    client.write_all(b"lost too").await.unwrap();
    echo.until(|hits| hits.lost_bytes == 12).await;
    echo.proxy.heal();
    assert_eq!(rest(&mut client).await.0, b"");
}

#[tokio::test]
async fn stranded_connection_stays_silent_and_new_ones_pass() {
    let echo = Echo::start().await;
    let mut standing = echo.connect_through().await;
    echo.proxy.strand();
    echo.until(|hits| hits.stranded == 1).await;
    standing.write_all(b"is anybody there?").await.unwrap();
    echo.proxy.heal();
    let mut byte = [0];
    assert!(timeout(SILENCE, standing.read(&mut byte)).await.is_err(), "data or an end arrived");
    talk(&mut echo.connect().await, b"here").await;
}

#[tokio::test]
async fn only_marked_connections_are_stranded() {
    let echo = Echo::start().await;
    echo.proxy.mark("feed");
    let (mut marked, mut other) = (echo.connect_through().await, echo.connect_through().await);
    talk(&mut marked, b"I am the feed").await;
    echo.proxy.strand_marked();
    echo.until(|hits| hits.stranded == 1).await;
    marked.write_all(b"is anybody there?").await.unwrap();
    talk(&mut other, b"here").await;
    talk(&mut echo.connect().await, b"a new feed").await;
    assert!(timeout(SILENCE, marked.read(&mut [0])).await.is_err(), "data or an end arrived");
    assert_eq!(echo.proxy.hits().stranded, 1);
}

#[tokio::test]
async fn cut_after_closes_within_a_reply() {
    let echo = Echo::start().await;
    let mut standing = echo.connect_through().await;
    echo.proxy.inject(Fault::CutAfter { bytes: 12 });
    talk(&mut standing, b"12345").await;
    for (mut client, expected) in [(standing, "abcdefg"), (echo.connect().await, "abcdefghijkl")] {
        client.write_all(b"abcdefghijklmnop").await.unwrap();
        let (bytes, end) = rest(&mut client).await;
        assert_eq!((bytes, kind(end)), (expected.into(), None));
    }
    assert_eq!(echo.proxy.hits().half_replies, 2);

    echo.proxy.inject(Fault::CutAfter { bytes: 0 });
    let mut client = echo.connect().await;
    client.write_all(b"a").await.unwrap();
    assert_eq!(rest(&mut client).await.0, b"");
    assert_eq!(echo.proxy.hits().half_replies, 3);
    echo.proxy.heal();
    echo.connect_through().await;
}

#[tokio::test]
async fn cut_requests_after_closes_within_a_request() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = Proxy::start(listener.local_addr().unwrap()).await.unwrap();
    for (bytes, expected) in [(12, "abcdefghijkl"), (0, "")] {
        let mut client = TcpStream::connect(proxy.address()).await.unwrap();
        let (mut server, _) = within(listener.accept()).await.unwrap();
        proxy.inject(Fault::CutRequestsAfter { bytes });
        server.write_all(b"replies pass").await.unwrap();
        within(client.read_exact(&mut [0; 12])).await.unwrap();
        client.write_all(b"abcdefghijklmnop").await.unwrap();
        let (arrived, end) = rest(&mut server).await;
        assert_eq!((arrived, kind(end)), (expected.into(), None));
        assert_eq!(rest(&mut client).await.0, b"");
        proxy.heal();
    }
    assert_eq!(proxy.hits().half_requests, 2);
    assert_eq!(proxy.hits().half_replies, 0);
}

#[tokio::test]
async fn cut_sends_fin_even_with_unread_requests() {
    let echo = Echo::start().await;
    let mut standing = echo.connect_through().await;
    echo.proxy.inject(Fault::Blackhole);
    standing.write_all(b"unread").await.unwrap();
    let mut unseen = echo.connect().await;
    echo.proxy.cut();
    for client in [&mut standing, &mut unseen] {
        let (bytes, end) = rest(client).await;
        assert_eq!((bytes, kind(end)), (vec![], None));
    }
    assert_eq!(echo.proxy.hits().cut, 2);
    echo.proxy.heal();
    echo.connect_through().await;
}

#[tokio::test]
async fn reset_resets_both_sides() {
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = Proxy::start(server.local_addr().unwrap()).await.unwrap();
    let mut client = TcpStream::connect(proxy.address()).await.unwrap();
    let (mut accepted, _) = within(server.accept()).await.unwrap();
    client.write_all(b"old").await.unwrap();
    within(accepted.read_exact(&mut [0; 3])).await.unwrap();
    proxy.reset();
    for side in [&mut client, &mut accepted] {
        assert_eq!(kind(rest(side).await.1), Some(ErrorKind::ConnectionReset));
    }
    assert_eq!(proxy.hits().reset, 1);

    let mut client = TcpStream::connect(proxy.address()).await.unwrap();
    let (mut accepted, _) = within(server.accept()).await.unwrap();
    client.write_all(b"new").await.unwrap();
    within(accepted.read_exact(&mut [0; 3])).await.unwrap();
}

#[tokio::test]
async fn unaccepted_connection_is_cut_and_reset() {
    let echo = Echo::start().await;
    let mut unseen = echo.connect().await;
    echo.proxy.reset();
    assert_eq!(kind(rest(&mut unseen).await.1), Some(ErrorKind::ConnectionReset));
    let mut unseen = echo.connect().await;
    echo.proxy.cut();
    assert_eq!(kind(rest(&mut unseen).await.1), None);
    let hits = echo.proxy.hits();
    assert_eq!((hits.reset, hits.cut), (1, 1));
    echo.connect_through().await;
}

#[tokio::test]
async fn closed_listener_refuses_and_keeps_its_port() {
    let echo = Echo::start().await;
    let address = echo.proxy.address();
    let mut standing = echo.connect_through().await;
    for n in 1..=20 {
        echo.proxy.inject(Fault::Refuse);
        echo.proxy.inject(Fault::Refuse);
        let refused = within(TcpStream::connect(address)).await;
        assert_eq!(kind(refused), Some(ErrorKind::ConnectionRefused));
        assert_eq!(echo.proxy.hits().closed_listeners, n);
        let taken = TcpSocket::new_v4().unwrap().bind(address);
        assert_eq!(kind(taken), Some(ErrorKind::AddrInUse));
        talk(&mut standing, b"connections that stand go on").await;
        match n % 2 {
            0 => echo.proxy.heal(),
            _ => echo.proxy.inject(Fault::Pass),
        }
        echo.connect_through().await;
    }
    echo.proxy.cut();
    assert_eq!(rest(&mut standing).await.0, b"");
}

#[tokio::test]
async fn accept_then_reset_resets_only_new_connections() {
    let echo = Echo::start().await;
    let mut standing = echo.connect_through().await;
    echo.proxy.inject(Fault::AcceptThenReset);
    let rejected = within(async {
        let mut client = TcpStream::connect(echo.proxy.address()).await?;
        client.read_u8().await
    });
    assert_eq!(kind(rejected.await), Some(ErrorKind::ConnectionReset));
    assert_eq!(echo.proxy.hits().rejected, 1);
    talk(&mut standing, b"connections that stand go on").await;
    echo.proxy.heal();
    echo.connect_through().await;
}

#[tokio::test]
async fn dropping_the_proxy_closes_its_connections() {
    let Echo { proxy, _server } = Echo::start().await;
    let mut client = TcpStream::connect(proxy.address()).await.unwrap();
    talk(&mut client, b"hello").await;
    let address = proxy.address();
    drop(proxy);
    assert_eq!(rest(&mut client).await.0, b"");
    within(async { while TcpStream::connect(address).await.is_ok() {} }).await;
}
