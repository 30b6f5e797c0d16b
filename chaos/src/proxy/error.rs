//! What can go wrong with a fault proxy, sorted by what the reader can do about it.

use std::io;

/// Why a proxy call did not do what was asked.
///
/// When one of these comes back from a call that changes something, the change must be taken as *not* in force.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProxyError {
    /// There is no proxy of that name.
    #[error("there is no proxy named `{proxy}`")]
    ProxyNotFound {
        /// The name that was asked for.
        proxy: String,
    },
    /// The name is taken.
    #[error("a proxy named `{proxy}` already exists; delete it first or choose another name")]
    ProxyExists {
        /// The name that is taken.
        proxy: String,
    },
    /// There is no toxic of that name on the proxy.
    #[error("proxy `{proxy}` has no toxic named `{toxic}`")]
    ToxicNotFound {
        /// The proxy that was asked.
        proxy: String,
        /// The toxic it does not have.
        toxic: String,
    },
    /// The proxy has a toxic of that name already.
    #[error("proxy `{proxy}` already has a toxic named `{toxic}`; update or remove it first")]
    ToxicExists {
        /// The proxy that was asked.
        proxy: String,
        /// The name that is taken.
        toxic: String,
    },
    /// No toxic of that type exists.
    #[error(
        "unknown toxic type `{given}`; known are latency, bandwidth, slow_close, timeout, reset_peer, slicer \
         and limit_data"
    )]
    UnknownToxicType {
        /// What was given as a type.
        given: String,
    },
    /// A stream is either `upstream` or `downstream`.
    #[error("unknown stream `{given}`; it can be either upstream or downstream")]
    UnknownStream {
        /// What was given as a stream.
        given: String,
    },
    /// A value that cannot be used, found before anything was changed.
    #[error("{what}")]
    Invalid {
        /// Which value, why, and what would do.
        what: String,
    },
    /// The address could not be listened on.
    #[error("proxy `{proxy}` cannot listen on {listen}; choose a free local address (port 0 finds one)")]
    Listen {
        /// The proxy that could not start.
        proxy: String,
        /// Where it should have listened.
        listen: String,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// The remote server could not be talked to.
    #[error(
        "no answer from the toxiproxy server at {server} ({why}); start one there (`toxiproxy-server -port …`), \
         correct the address, or leave it out to use the embedded proxy"
    )]
    Unreachable {
        /// The address that was tried.
        server: String,
        /// What the client library said.
        why: String,
    },
    /// An HTTP proxy of the environment stands between us and the server.
    #[error(
        "{variable} is set and would swallow calls to the toxiproxy server at {ip}; add {ip} to NO_PROXY \
         (a host name or `*` there does not count, the calls go to the address) or unset {variable}"
    )]
    EnvironmentProxy {
        /// The variable that names the HTTP proxy.
        variable: String,
        /// The address that NO_PROXY has to cover.
        ip: String,
    },
    /// The remote server refused the call.
    #[error("toxiproxy at {server} refused to {action}: HTTP status {status}, {body}")]
    Refused {
        /// The server that refused.
        server: String,
        /// What was asked.
        action: String,
        /// Its HTTP status.
        status: u16,
        /// What it said.
        body: String,
    },
    /// The remote server answered, but reading back showed something else than was asked for.
    #[error(
        "toxiproxy at {server} was told to {action}, but reading back shows {found}; the change is not in force"
    )]
    NotInForce {
        /// The server that was told.
        server: String,
        /// What was asked.
        action: String,
        /// What is there instead.
        found: String,
    },
    /// Something answered that does not speak Toxiproxy's language.
    #[error(
        "the answer of {server} when told to {action} makes no sense ({what}); check that it is a toxiproxy server"
    )]
    Garbled {
        /// The server that answered.
        server: String,
        /// What was asked.
        action: String,
        /// What was wrong with the answer.
        what: String,
    },
    /// The client library panicked; the panic was caught.
    #[error(
        "the toxiproxy client failed while trying to {action}: {why}; check that {server} is still running"
    )]
    ClientPanicked {
        /// The server that was talked to.
        server: String,
        /// What was asked.
        action: String,
        /// The panic's message.
        why: String,
    },
    /// The proxy was shut down before or during the call.
    #[error("the fault proxy has been shut down")]
    ShutDown,
}
