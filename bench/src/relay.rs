//! A relay between the function and OpenAI that can disappear without a sign, or refuse connections.

use std::{io, net::SocketAddr};

use socket2::{SockRef, Socket};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
};

/// A running relay. Dropping it stops it and ends its connections.
pub struct Relay {
    address: SocketAddr,
    upstream: SocketAddr,
    accepting: Option<JoinHandle<()>>,
    /// Counts the silences. Each silences the connections that are open then, and ends those silenced before.
    silences: watch::Sender<u64>,
    /// The number of connections that still relay.
    relaying: watch::Sender<usize>,
}

impl Relay {
    /// Relays from a free port of 127.0.0.1 to the host of `url`.
    pub async fn start(url: &str) -> io::Result<Self> {
        let host = url.split('/').nth(2).unwrap_or_default();
        let upstream = host.parse().map_err(io::Error::other)?;
        let mut relay = Self {
            address: ([127, 0, 0, 1], 0).into(),
            upstream,
            accepting: None,
            silences: watch::Sender::new(0),
            relaying: watch::Sender::new(0),
        };
        relay.accept().await?;
        Ok(relay)
    }

    /// `url` with the relay as its host.
    pub fn instead_of(&self, url: &str) -> String {
        url.replace(&self.upstream.to_string(), &self.address.to_string())
    }

    /// Accepts connections again after [`Self::refuse`].
    pub async fn accept(&mut self) -> io::Result<()> {
        if self.accepting.is_some() {
            return Ok(());
        }
        let listener = TcpListener::bind(self.address).await?;
        self.address = listener.local_addr()?;
        let (upstream, silences, relaying) = (self.upstream, self.silences.clone(), self.relaying.clone());
        self.accepting = Some(tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(relay(client, upstream, silences.subscribe(), relaying.clone()));
            }
        }));
        Ok(())
    }

    /// Refuses new connections.
    pub async fn refuse(&mut self) {
        if let Some(accepting) = self.accepting.take() {
            accepting.abort();
            let _ = accepting.await;
        }
    }

    /// Makes the open connections silent, as if the other end had lost its network: nothing that the client sends is
    /// acknowledged, and nothing closes. New connections work.
    pub async fn silence(&self) {
        self.silences.send_modify(|silences| *silences = silences.wrapping_add(1));
        let _ = self.relaying.subscribe().wait_for(|relaying| *relaying == 0).await;
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        if let Some(accepting) = &self.accepting {
            accepting.abort();
        }
    }
}

async fn relay(
    mut client: TcpStream,
    upstream: SocketAddr,
    mut silences: watch::Receiver<u64>,
    relaying: watch::Sender<usize>,
) {
    relaying.send_modify(|relaying| *relaying = relaying.saturating_add(1));
    let silent = match TcpStream::connect(upstream).await {
        Ok(mut upstream) => {
            let _ = (client.set_nodelay(true), upstream.set_nodelay(true));
            tokio::select! {
                _ = copy_bidirectional(&mut client, &mut upstream) => false,
                silenced = silences.changed() => silenced.is_ok() && drop_all_packets(&SockRef::from(&client)).is_ok(),
            }
        }
        Err(_) => false,
    };
    relaying.send_modify(|relaying| *relaying = relaying.saturating_sub(1));
    if silent {
        let _ = silences.changed().await;
    }
}

/// Drops what arrives at a socket before the kernel acknowledges it.
#[cfg(target_os = "linux")]
fn drop_all_packets(socket: &Socket) -> io::Result<()> {
    /// `BPF_RET | BPF_K`: accept that many bytes of each packet.
    const RETURN: u16 = 0x06;
    socket.attach_filter(&[socket2::SockFilter::new(RETURN, 0, 0, 0)])
}

#[cfg(not(target_os = "linux"))]
fn drop_all_packets(_: &Socket) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        time::timeout,
    };

    use super::*;

    /// Sends a byte and reads it back from a server that returns what it gets.
    async fn echoes(connection: &mut TcpStream) -> bool {
        let mut byte = [0];
        connection.write_all(b"x").await.is_ok()
            && timeout(Duration::from_millis(500), connection.read_exact(&mut byte))
                .await
                .is_ok_and(|read| read.is_ok())
    }

    #[tokio::test]
    #[cfg(target_os = "linux")]
    async fn open_connections_become_silent_and_new_ones_work_or_are_refused() {
        let echo = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://{}/v1", echo.local_addr().unwrap());
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = echo.accept().await {
                tokio::spawn(async move {
                    let (mut read, mut write) = stream.split();
                    let _ = tokio::io::copy(&mut read, &mut write).await;
                });
            }
        });
        let mut relay = Relay::start(&url).await.unwrap();
        assert_eq!(relay.instead_of(&url), format!("https://{}/v1", relay.address));

        let mut first = TcpStream::connect(relay.address).await.unwrap();
        SockRef::from(&first).set_tcp_user_timeout(Some(Duration::from_millis(300))).unwrap();
        assert!(echoes(&mut first).await);
        relay.silence().await;
        assert!(!echoes(&mut first).await);
        let error = timeout(Duration::from_secs(3), first.read_u8()).await.unwrap().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut, "the kernel saw no acknowledgement");

        let mut second = TcpStream::connect(relay.address).await.unwrap();
        assert!(echoes(&mut second).await);
        relay.refuse().await;
        assert!(TcpStream::connect(relay.address).await.is_err());
        assert!(echoes(&mut second).await);
        relay.accept().await.unwrap();
        assert!(echoes(&mut TcpStream::connect(relay.address).await.unwrap()).await);
    }
}
