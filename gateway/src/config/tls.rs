//! `server.tls`: the certificate and its key, read with the configuration and read again with it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::read::ConfigError;

#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TlsSection {
    /// File with the certificate and those between it and the root, in PEM. Read again with this file, and when it changes.
    pub cert: Option<PathBuf>,
    /// File with its private key, in PEM.
    pub key: Option<PathBuf>,
}

/// `None`: plain HTTP.
pub(super) fn tls(raw: &TlsSection) -> Result<Option<Arc<ServerConfig>>, ConfigError> {
    match (&raw.cert, &raw.key) {
        (None, None) => Ok(None),
        (Some(cert), Some(key)) => acceptor(cert, key).map(Some),
        (Some(_), None) => Err(ConfigError::value("server.tls.key", "is needed beside `cert`")),
        (None, Some(_)) => Err(ConfigError::value("server.tls.cert", "is needed beside `key`")),
    }
}

fn acceptor(cert: &Path, key: &Path) -> Result<Arc<ServerConfig>, ConfigError> {
    let at = |name: &str, path: &Path, reason: &dyn std::fmt::Display| {
        ConfigError::value(format!("server.tls.{name}"), format!("{}: {reason}", path.display()))
    };
    let chain = CertificateDer::pem_file_iter(cert).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let chain = chain.map_err(|error| at("cert", cert, &error))?;
    if chain.is_empty() {
        return Err(at("cert", cert, &"there is no certificate in it"));
    }
    let secret = PrivateKeyDer::from_pem_file(key).map_err(|error| at("key", key, &error))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| at("cert", cert, &error))?;
    // Also says so if the key is another certificate's.
    let mut config = builder
        .with_no_client_auth()
        .with_single_cert(chain, secret)
        .map_err(|error| at("key", key, &error))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn refused(cert: Option<PathBuf>, key: Option<PathBuf>) -> String {
        tls(&TlsSection { cert, key }).unwrap_err().to_string()
    }

    #[test]
    fn a_pair_that_belongs_together_is_taken_and_all_else_named() {
        let dir = tempfile::tempdir().unwrap();
        let made = |name: &str| {
            let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
            let (cert, key) =
                (dir.path().join(format!("{name}.pem")), dir.path().join(format!("{name}.key")));
            fs::write(&cert, made.cert.pem()).unwrap();
            fs::write(&key, made.key_pair.serialize_pem()).unwrap();
            (Some(cert), Some(key))
        };
        let (cert, key) = made("a");
        let (_, other) = made("b");
        let empty = dir.path().join("empty");
        fs::write(&empty, "").unwrap();
        let pair = TlsSection { cert: cert.clone(), key: key.clone() };
        assert_eq!(tls(&pair).unwrap().unwrap().alpn_protocols, [b"h2".to_vec(), b"http/1.1".to_vec()]);
        assert!(tls(&TlsSection::default()).unwrap().is_none());
        assert!(refused(cert.clone(), None).starts_with("server.tls.key: "));
        assert!(refused(None, key.clone()).starts_with("server.tls.cert: "));
        assert!(refused(cert.clone(), other).starts_with("server.tls.key: "), "another's key");
        assert!(refused(Some(empty.clone()), key.clone()).starts_with("server.tls.cert: "));
        assert!(refused(cert.clone(), Some(empty)).starts_with("server.tls.key: "));
        assert!(refused(Some(dir.path().join("none")), key).starts_with("server.tls.cert: "));
    }
}
