//! TLS: the certificates of a node and of those it trusts, from the flags to what the transport takes.
//!
//! With TLS on, nodes always show each other their certificates and check them against the given authority; whom they are
//! made out to is compared with who the caller says it is. Clients check the node's; whether they must show one themselves
//! is a flag.

use std::fs;
use std::path::{Path, PathBuf};

use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity, ServerTlsConfig};

/// The flags of a node.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct TlsArgs {
    /// This node's certificate (PEM), for the names or addresses by which others reach it. When this node calls another, it
    /// must be valid for its --node-id or for the host under which that one knows it. Turns TLS on, for clients and between
    /// nodes.
    #[arg(long, value_name = "FILE", requires_all = ["tls_key", "tls_ca"])]
    pub tls_cert: Option<PathBuf>,

    /// Its private key (PEM).
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,

    /// The authority (PEM) that signed the certificates of the nodes, and of clients that show one.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_ca: Option<PathBuf>,

    /// Take only clients with a certificate of that authority.
    #[arg(long, requires = "tls_cert")]
    pub tls_client_auth: bool,
}

/// What the flags stand for.
#[derive(Clone)]
pub(crate) struct Tls {
    pub(crate) server: ServerTlsConfig,
    pub(crate) client: ClientTlsConfig,
}

impl TlsArgs {
    /// Reads the files. `None` without TLS; the reason if they cannot be read.
    pub(crate) fn load(&self) -> Result<Option<Tls>, String> {
        let (Some(cert), Some(key), Some(ca)) = (&self.tls_cert, &self.tls_key, &self.tls_ca) else {
            return Ok(None);
        };
        let identity = Identity::from_pem(read(cert, "CERTIFICATE")?, read(key, "PRIVATE KEY")?);
        let authority = Certificate::from_pem(read(ca, "CERTIFICATE")?);
        Ok(Some(Tls {
            server: ServerTlsConfig::new()
                .identity(identity.clone())
                .client_ca_root(authority.clone())
                .client_auth_optional(!self.tls_client_auth),
            client: ClientTlsConfig::new()
                .ca_certificate(authority)
                .identity(identity),
        }))
    }
}

/// What a client needs: the authority of the nodes, and a certificate of its own if they demand one.
pub(crate) fn client(
    ca: Option<&Path>,
    cert: Option<&Path>,
    key: Option<&Path>,
) -> Result<Option<ClientTlsConfig>, String> {
    let Some(ca) = ca else { return Ok(None) };
    let mut config = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(read(ca, "CERTIFICATE")?));
    if let (Some(cert), Some(key)) = (cert, key) {
        config = config.identity(Identity::from_pem(
            read(cert, "CERTIFICATE")?,
            read(key, "PRIVATE KEY")?,
        ));
    }
    Ok(Some(config))
}

/// Where to connect to, with TLS or without.
pub(crate) fn endpoint(
    address: &str,
    tls: Option<&ClientTlsConfig>,
) -> Result<Endpoint, tonic::transport::Error> {
    match tls {
        None => Endpoint::from_shared(format!("http://{address}")),
        Some(tls) => Endpoint::from_shared(format!("https://{address}"))?.tls_config(tls.clone()),
    }
}

fn read(file: &Path, what: &str) -> Result<Vec<u8>, String> {
    let text = fs::read(file).map_err(|error| format!("cannot read {}: {error}", file.display()))?;
    match String::from_utf8_lossy(&text).contains(&format!("{what}-----")) {
        true => Ok(text),
        false => Err(format!("{} holds no {what} in PEM format", file.display())),
    }
}
