//! TLS to others. The verifier is the machine's: its own certificates, or those that
//! `SSL_CERT_FILE` names.

use std::sync::{Arc, OnceLock};

use rustls_platform_verifier::BuilderVerifierExt;
use tokio_rustls::{
    TlsConnector,
    rustls::{self, ClientConfig, crypto::aws_lc_rs},
};

/// For HTTP/1.1. Made when it is first needed, as it reads the machine's certificates.
pub fn connector() -> Result<TlsConnector, rustls::Error> {
    static CONNECTOR: OnceLock<TlsConnector> = OnceLock::new();
    if let Some(tls) = CONNECTOR.get() {
        return Ok(tls.clone());
    }
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_platform_verifier()?
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(CONNECTOR.get_or_init(|| Arc::new(config).into()).clone())
}
