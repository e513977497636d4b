//! One connection through a proxy: two sockets, two pumps.

use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::timeout;

use super::filter::{Answers, Commands, Expected};
use super::pump::{End, Pump, Stock};
use super::rules::{Direction, Rules};

/// How long a server may take to finish with a client that is gone.
const DRAIN: Duration = Duration::from_secs(5);

/// Connects to the server and serves the client until either is gone or the rules say so. What is left is the
/// connection to the server, if there was one.
pub(super) async fn serve(
    mut client: TcpStream,
    target: SocketAddr,
    number: u64,
    rules: &watch::Sender<Rules>,
) -> Option<TcpStream> {
    let mut server = TcpStream::connect(target).await.ok()?;
    let _ = client.set_nodelay(true);
    let _ = server.set_nodelay(true);
    let expected = Expected::default();
    pump(&mut client, &mut server, number, rules, &expected).await;
    if expected.last() {
        rules.send_modify(Rules::handle_last_reply);
    }
    Some(server)
}

/// Lets the server see an orderly end after all that was sent. Closed with unread replies, the socket would be reset.
pub(super) async fn drain(mut server: TcpStream) {
    let _ = server.shutdown().await;
    let mut unread = [0; 4096];
    let _ = timeout(DRAIN, async { while let Ok(1..) = server.read(&mut unread).await {} }).await;
}

async fn pump(
    client: &mut TcpStream,
    server: &mut TcpStream,
    number: u64,
    rules: &watch::Sender<Rules>,
    expected: &Expected,
) {
    let (client_read, client_write) = client.split();
    let (server_read, server_write) = server.split();
    let to_server = Pump {
        read: client_read,
        write: server_write,
        filter: Commands::new(rules, expected, number),
        direction: Direction::ToServer,
        number,
        rules,
        changes: rules.subscribe(),
        stock: Stock::default(),
    };
    let to_client = Pump {
        read: server_read,
        write: client_write,
        filter: Answers::new(expected),
        direction: Direction::ToClient,
        number,
        rules,
        changes: rules.subscribe(),
        stock: Stock::default(),
    };
    let (mut to_server, mut to_client) = (pin!(to_server.run()), pin!(to_client.run()));
    let end = tokio::select! {
        end = &mut to_server => end,
        _ = &mut to_client => End::Cut,
    };
    // The client will send nothing more, and may still read.
    if end == End::Closed {
        let _ = timeout(DRAIN, to_client).await;
    }
}
