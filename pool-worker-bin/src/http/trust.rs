//! Whose certificates are believed: the machine's authorities, and those of `http.ca`.
//!
//! The machine's store is read at the first request that needs it: most workers send none, and
//! reading it takes as long as starting the process. A machine that has no store gets Mozilla's.

use std::sync::{Arc, OnceLock};

use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

/// A certificate of the configuration that is none.
#[derive(Debug, thiserror::Error)]
#[error("failed to read the certificates of `http.ca`: {0}")]
pub(crate) struct BadAuthority(String);

/// What `https` wants, once something wants it.
#[derive(Debug)]
pub(super) struct Trust {
    own: Vec<CertificateDer<'static>>,
    config: OnceLock<Arc<ClientConfig>>,
}

impl Trust {
    /// Besides the machine's, the authorities of this text, in PEM.
    pub(super) fn new(own: &str) -> Result<Self, BadAuthority> {
        let own = CertificateDer::pem_slice_iter(own.as_bytes()).collect::<Result<Vec<_>, _>>();
        let own = own.map_err(|e| BadAuthority(e.to_string()))?;
        let mut roots = RootCertStore::empty();
        // What the machine has and cannot be used is nobody's fault; what somebody has named is.
        own.iter()
            .try_for_each(|own| roots.add(own.clone()))
            .map_err(|e| BadAuthority(e.to_string()))?;
        Ok(Self { own, config: OnceLock::new() })
    }

    pub(super) fn config(&self) -> Arc<ClientConfig> {
        Arc::clone(self.config.get_or_init(|| Arc::new(self.build())))
    }

    fn build(&self) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        // What cannot be read of it is not trusted; that is said when it is missed.
        let (found, _) =
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if found == 0 {
            roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        }
        roots.add_parsable_certificates(self.own.iter().cloned());
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("the provider has suites for them");
        let mut config = config.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config
    }
}
