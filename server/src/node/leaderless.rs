//! Tells the operator of a node that has been without a leader for long what this node sees, once each time.

use std::time::Duration;

use tokio::time::Instant;

use super::driver::Driver;

/// An election takes a fraction of this.
const PATIENCE: Duration = Duration::from_secs(10);

/// Since when there is no leader.
#[derive(Debug, Default)]
pub(super) struct Leaderless {
    since: Option<Instant>,
    told: bool,
}

impl Leaderless {
    /// Whether it is time to say something.
    fn is_due(&mut self, has_leader: bool, now: Instant) -> bool {
        if has_leader {
            *self = Leaderless::default();
            return false;
        }
        let since = *self.since.get_or_insert(now);
        let due = !self.told && now.duration_since(since) >= PATIENCE;
        self.told |= due;
        due
    }
}

impl Driver {
    pub(super) fn complain_without_leader(&mut self) {
        let core = &self.parts.core;
        if !self.leaderless.is_due(core.leader().is_some(), Instant::now()) {
            return;
        }
        let (index, configuration) = core.configuration().unzip();
        let voters = configuration.map_or(core.voters_told(), |known| known.voters().count());
        let connected: Vec<String> = self
            .links
            .keys()
            .map(|peer| self.parts.members.name_and_address(*peer).0)
            .collect();
        let connected = match connected.is_empty() {
            true => "nobody".to_owned(),
            false => connected.join(", "),
        };
        let seconds = PATIENCE.as_secs();
        tracing::warn!(
            voters,
            configuration_index = index,
            "no leader for {seconds} s: a majority of the voters must be up and reach each other; connected to {connected}"
        );
        let differences =
            configuration.map(|known| self.parts.members.differences(known, &self.parts.own_address));
        for difference in differences.unwrap_or_default() {
            tracing::warn!("{difference}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_without_a_leader_is_told_of_once_and_the_next_again() {
        let mut leaderless = Leaderless::default();
        let start = Instant::now();
        let mut due =
            |has_leader, seconds| leaderless.is_due(has_leader, start + Duration::from_secs(seconds));
        assert!(!due(false, 0));
        assert!(!due(false, 9));
        assert!(due(false, 10));
        assert!(!due(false, 11));
        assert!(!due(true, 12));
        assert!(!due(false, 13));
        assert!(!due(false, 22));
        assert!(due(false, 23));
    }
}
