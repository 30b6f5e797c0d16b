//! A connection to whatever is measured: nodes that run already, or a local cluster that lives as long as the command.

use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use super::CommandError;
use super::args::TargetArgs;
use crate::client::Client;
use crate::sampling::Watched;
use crate::target::{Endpoints, LocalCluster, LocalOptions};

/// How long a node may take to say that it is there.
const GREETING_TIMEOUT: Duration = Duration::from_secs(2);

/// A client, and the cluster that was started for it.
pub(super) struct Session {
    pub(super) client: Client,
    pub(super) endpoints: Endpoints,
    cluster: Option<LocalCluster>,
}

impl Session {
    /// Starts what has to be started, connects, and makes sure that somebody is there.
    pub(super) async fn open(args: &TargetArgs, timeout: Duration) -> Result<Session, CommandError> {
        let endpoints = args.endpoints().map_err(CommandError::usage)?;
        let mut session = Session::to(&endpoints, args, timeout).await?;
        if session.cluster.is_none() && !session.endpoints.addresses().is_empty() {
            let greeted = session.greet(args.allow_unreachable).await;
            if let Err(error) = greeted {
                session.close().await?;
                return Err(error);
            }
        }
        session.say();
        Ok(session)
    }

    /// The same for endpoints that somebody has read already, without a greeting.
    async fn to(
        endpoints: &Endpoints,
        args: &TargetArgs,
        timeout: Duration,
    ) -> Result<Session, CommandError> {
        let target = endpoints.target();
        let options = args.client_options(timeout);
        let (addresses, cluster) = if endpoints.wants_local_cluster() {
            let cluster = LocalCluster::start(Arc::clone(target), &LocalOptions::default())
                .await
                .map_err(CommandError::environment)?;
            (cluster.endpoints(), Some(cluster))
        } else {
            (endpoints.addresses().to_vec(), None)
        };
        let client = Client::of(Arc::clone(target), &addresses, options).map_err(CommandError::usage)?;
        if cluster.is_some() {
            // Teaches who leads; a cluster of our own has answered already.
            let _ = client.presence_of_all(GREETING_TIMEOUT).await;
        }
        Ok(Session {
            client,
            endpoints: endpoints.clone(),
            cluster,
        })
    }

    fn say(&mut self) {
        if let Some(cluster) = &self.cluster {
            // Somebody who closed standard error does not want to know.
            let _ = writeln!(io::stderr(), "started {}", cluster.description());
        }
    }

    /// What the record says of where this went.
    pub(super) fn description(&self) -> String {
        match &self.cluster {
            Some(cluster) => format!(
                "{}://: {}",
                self.endpoints.target().scheme(),
                cluster.description()
            ),
            None => self.endpoints.to_string(),
        }
    }

    /// Whom to watch: the generator and every server.
    pub(super) fn watched(&self) -> Vec<Watched> {
        let mut watched = vec![Watched::this_process()];
        let names = self.client.endpoints();
        match &self.cluster {
            Some(cluster) => watched.extend(cluster.nodes().iter().map(|node| Watched {
                pid: Some(node.pid),
                ..Watched::server(&node.name, &node.address)
            })),
            None => watched.extend(names.iter().map(|(address, id)| {
                let name = id.as_ref().map_or_else(|| address.clone(), |id| id.to_string());
                Watched::server(name, address)
            })),
        }
        watched
    }

    /// Stops what was started.
    pub(super) async fn close(self) -> Result<(), CommandError> {
        drop(self.client);
        match self.cluster {
            Some(cluster) => cluster.stop().await.map_err(CommandError::environment),
            None => Ok(()),
        }
    }

    /// Asks every node whether it is there, before the clock starts.
    async fn greet(&self, allow_unreachable: bool) -> Result<(), CommandError> {
        let client = &self.client;
        let answers = client.presence_of_all(GREETING_TIMEOUT).await;
        let some_answer = answers.iter().any(Result::is_ok);
        for ((endpoint, _), answer) in client.endpoints().iter().zip(&answers) {
            let Err(reason) = answer else { continue };
            if !(allow_unreachable && some_answer) {
                let otherwise = if some_answer {
                    ", or pass --allow-unreachable to begin without it"
                } else {
                    ""
                };
                return Err(CommandError::environment(format!(
                    "endpoint {endpoint} does not answer ({reason}); start the node or correct --endpoints{otherwise}"
                )));
            }
            let _ = writeln!(
                io::stderr(),
                "warning: endpoint {endpoint} does not answer ({reason}); beginning without it"
            );
        }
        Ok(())
    }
}
