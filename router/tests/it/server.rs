//! An upstream that writes what it is told, in the pieces it is told, and then does as it is told.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::mpsc,
};

/// What the upstream does after its last piece.
#[derive(Debug, Clone, Copy)]
pub enum Then {
    /// Ends the body properly.
    End,
    /// Closes the connection in the middle of the body.
    Die,
    /// Says nothing more, and waits until the other side closes.
    Stall,
}

pub struct Upstream {
    pub address: SocketAddr,
    /// One message for each connection that the other side closed while the upstream stalled.
    pub closed: mpsc::Receiver<()>,
}

/// Answers every connection's first request with an event stream of these pieces, each one HTTP chunk.
pub async fn upstream(pieces: Vec<Vec<u8>>, then: Then) -> Upstream {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, closed) = mpsc::channel(16);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (pieces, sender) = (pieces.clone(), sender.clone());
            tokio::spawn(async move {
                // An error here is the other side hanging up, which some tests want.
                if answer(stream, &pieces, then).await.is_ok() && matches!(then, Then::Stall) {
                    sender.send(()).await.unwrap();
                }
            });
        }
    });
    Upstream { address, closed }
}

async fn answer(mut stream: TcpStream, pieces: &[Vec<u8>], then: Then) -> std::io::Result<()> {
    read_request(&mut stream).await?;
    stream
        .write_all(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n",
        )
        .await?;
    for piece in pieces {
        let mut chunk = format!("{:x}\r\n", piece.len()).into_bytes();
        chunk.extend_from_slice(piece);
        chunk.extend_from_slice(b"\r\n");
        stream.write_all(&chunk).await?;
        stream.flush().await?;
        // Lets the reader take each piece for itself, mostly; no test depends on it.
        tokio::task::yield_now().await;
    }
    match then {
        Then::End => stream.write_all(b"0\r\n\r\n").await,
        Then::Die => Ok(()),
        Then::Stall => {
            while stream.read(&mut [0; 64]).await? > 0 {}
            Ok(())
        }
    }
}

async fn read_request(stream: &mut TcpStream) -> std::io::Result<()> {
    let mut request = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let read = stream.read(&mut buffer).await?;
        request.extend_from_slice(&buffer[..read]);
        let text = String::from_utf8_lossy(&request).to_lowercase();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            if body.len() >= length.and_then(|length| length.trim().parse().ok()).unwrap_or(0) {
                return Ok(());
            }
        }
        if read == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// Answers every request on every connection with this body, in one write; the number of connections is counted.
pub async fn keeping(body: &'static str, header: &'static str) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&connections);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(async move {
                while read_request(&mut stream).await.is_ok() {
                    let length = body.len();
                    let head = format!("HTTP/1.1 200 OK\r\n{header}content-type: text/event-stream\r\n");
                    let answer =
                        format!("{head}transfer-encoding: chunked\r\n\r\n{length:x}\r\n{body}\r\n0\r\n\r\n");
                    stream.write_all(answer.as_bytes()).await.unwrap();
                    if !header.is_empty() {
                        return;
                    }
                }
            });
        }
    });
    (address, connections)
}
