//! Who may speak as a node at all, before anybody looks at which node it claims to be.
//!
//! Where a node has an admin token, whoever calls it as a peer brings the same one. With TLS, the caller has shown a
//! certificate of the authority, and the node that it says it is must be one that the certificate is made out to: under
//! its name, or under a host at which this node knows it. Without either, names and store numbers are all there is,
//! and they stop mistakes, not attackers.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use rustls::client::verify_server_name;
use rustls::pki_types::ServerName;
use rustls::server::ParsedCertificate;
use tonic::transport::CertificateDer;
use tonic::{Request, Status};

use super::members::Members;
use crate::token::BadToken;

/// So many complaints are remembered, so that each is said once and strangers cannot fill the log with one.
const COMPLAINTS_MAX: usize = 64;

/// The guard of the calls that only nodes make.
pub(super) struct Access {
    members: Arc<Members>,
    complaints: Mutex<VecDeque<String>>,
}

/// Somebody who may be a node.
pub(super) struct Caller {
    /// Where it calls from, for the log.
    from: String,
    /// What it has shown, with TLS.
    certificates: Option<Arc<Vec<CertificateDer<'static>>>>,
}

impl Access {
    pub(super) fn new(members: Arc<Members>) -> Access {
        Access {
            members,
            complaints: Mutex::default(),
        }
    }

    /// Checks what a call brings along, before anything is read from its stream.
    pub(super) fn admit<T>(&self, request: &Request<T>) -> Result<Caller, Status> {
        let address = request.remote_addr();
        let from = address.map_or_else(|| "an unknown address".to_owned(), |from| from.ip().to_string());
        let own = &self.members.own_name;
        if let Some(token) = &self.members.token
            && let Err(bad) = token.check(request.metadata())
        {
            let what = match bad {
                BadToken::Missing => "without the token of this cluster",
                BadToken::Wrong => "with another token",
            };
            return Err(self.refuse(
                &format!("{from} calls as a node {what}; give --admin-token-file with the same content to every node"),
                Status::unauthenticated(format!(
                    "{own} takes calls of other nodes with its admin token only, and this one came {what}; give \
                     --admin-token-file with the same content to every node"
                )),
            ));
        }
        let certificates = request.peer_certs().filter(|shown| !shown.is_empty());
        if self.members.tls.is_some() && certificates.is_none() {
            return Err(self.refuse(
                &format!("{from} calls as a node without a certificate; start every node with --tls-cert"),
                Status::unauthenticated(
                    "nodes show each other their certificates; start this one with --tls-cert",
                ),
            ));
        }
        Ok(Caller { from, certificates })
    }

    /// Whether the certificate of a caller is made out to the node that it says it is. Nothing is known of a node that this
    /// one has not met, which gets nothing anyway.
    pub(super) fn check_claim(&self, caller: &Caller, name: &str) -> Result<(), Status> {
        let (Some(_), Some(shown)) = (&self.members.tls, &caller.certificates) else {
            return Ok(());
        };
        let Some(hosts) = self.members.hosts_of(name) else {
            return Ok(());
        };
        let mut valid = [name].into_iter().chain(hosts.names.iter().map(String::as_str));
        if shown
            .first()
            .is_some_and(|shown| valid.any(|subject| is_made_out_to(shown, subject)))
        {
            return Ok(());
        }
        if !hosts.found {
            // Passes as soon as this node has dialled it: the right host may be that of an address where nobody has answered.
            return Err(Status::unavailable(format!(
                "{} has not found {name} at any address yet; try again",
                self.members.own_name
            )));
        }
        let hosts = hosts.names.join(" or ");
        let text = format!(
            "says it is {name}, but its certificate is valid neither for {name} nor for {hosts}; give {name} a \
             certificate for its name or its host"
        );
        let status = Status::permission_denied(format!("{}: the caller {text}", self.members.own_name));
        Err(self.refuse(&format!("{} {text}", caller.from), status))
    }

    /// Says in the log who is refused, unless that was said a short while ago.
    fn refuse(&self, why: &str, status: Status) -> Status {
        let mut said = self
            .complaints
            .lock()
            .expect("nobody panics while holding the complaints");
        if !said.iter().any(|earlier| earlier == why) {
            tracing::error!("refused a caller: {why}");
            if said.len() >= COMPLAINTS_MAX {
                said.pop_front();
            }
            said.push_back(why.to_owned());
        }
        status
    }
}

/// Whether a certificate, whose signature has been checked by then, is valid for a DNS name or an IP address.
fn is_made_out_to(certificate: &CertificateDer<'_>, subject: &str) -> bool {
    let parsed = ParsedCertificate::try_from(certificate);
    let subject = ServerName::try_from(subject);
    matches!((parsed, subject), (Ok(parsed), Ok(subject)) if verify_server_name(&parsed, &subject).is_ok())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_certificate_is_made_out_to_names_and_addresses() {
        let names = ["node1", "db.example", "127.0.0.1", "::1"].map(str::to_owned);
        let params = rcgen::CertificateParams::new(names).unwrap();
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        for subject in ["node1", "NODE1", "db.example", "127.0.0.1", "::1"] {
            assert!(is_made_out_to(certificate.der(), subject), "{subject}");
        }
        for subject in ["node2", "node", "example", "127.0.0.2", "", "no name at all"] {
            assert!(!is_made_out_to(certificate.der(), subject), "{subject}");
        }
        assert!(!is_made_out_to(&CertificateDer::from(vec![1, 2, 3]), "node1"));
    }
}
