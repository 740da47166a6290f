//! A gateway whose certificate is of a private authority.

use std::net::SocketAddr;
use std::sync::Arc;

use rcgen::{CertifiedKey, generate_simple_self_signed};
use reprise_replay::gateway::{Gateway, GatewayError, Keys};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::PrivatePkcs8KeyDer;

/// Knows nothing, and says so to each request.
async fn serve(certified: &CertifiedKey) -> SocketAddr {
    let key = PrivatePkcs8KeyDer::from(certified.key_pair.serialize_der());
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certified.cert.der().clone()], key.into())
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let Ok(byte) = stream.read_u8().await else { break };
                head.push(byte);
            }
            // An error here is the other side's.
            let _ = stream.write_all(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n").await;
        }
    });
    address
}

#[tokio::test]
async fn a_private_authority_is_trusted_where_it_is_named() {
    let certified = generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
    let base = format!("https://{}", serve(&certified).await);
    let folder = tempfile::tempdir().unwrap();
    let (file, empty) = (folder.path().join("authority.pem"), folder.path().join("empty.pem"));
    std::fs::write(&file, certified.cert.pem()).unwrap();
    std::fs::write(&empty, "").unwrap();

    let trusting = Gateway::trusting(&base, Keys::default(), Some(&file)).unwrap();
    assert_eq!(trusting.outcomes().await.unwrap_err().status(), Some(404), "it was reached");
    let plain = Gateway::new(&base, Keys::default()).unwrap();
    assert!(matches!(plain.outcomes().await, Err(GatewayError::Transport { .. })));
    let refused = |file| Gateway::trusting(&base, Keys::default(), Some(file)).unwrap_err();
    assert!(matches!(refused(&empty), GatewayError::NoCertificates { .. }));
    assert!(matches!(refused(&folder.path().join("none.pem")), GatewayError::CaFile { .. }));
}
