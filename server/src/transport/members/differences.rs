//! Where the command line and the log disagree about who belongs to the cluster.

use super::Members;
use crate::raft::Configuration;

impl Members {
    /// What an operator of a node that finds no leader should know: flags that the configuration in the log contradicts,
    /// one sentence each. They need not be wrong: between nodes there may be proxies.
    pub(crate) fn differences(&self, configuration: &Configuration, own_address: &str) -> Vec<String> {
        let mut found = Vec::new();
        if let Some(own) = configuration.members.get(&self.own_id)
            && &*own.address != own_address
        {
            found.push(format!(
                "this node is reached at {own_address}, the log of the cluster says {}: who goes by the log does not find it",
                own.address
            ));
        }
        let members = || configuration.members.values();
        let known = self.lock();
        for slot in known.slots.iter().filter(|slot| !slot.configured) {
            if members().any(|member| *member.address == *slot.address) {
                continue;
            }
            let named = slot.name.as_deref();
            found.push(match members().find(|member| Some(&*member.name) == named) {
                Some(member) => format!(
                    "--peers says that {} is at {}, the log of the cluster says {}",
                    member.name, slot.address, member.address
                ),
                None => format!(
                    "--peers says {}, where no member is according to the log of the cluster",
                    slot.address
                ),
            });
        }
        found
    }
}
