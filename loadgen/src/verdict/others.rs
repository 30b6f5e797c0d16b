//! Whether somebody else was at work on the machine.
//!
//! Promises to object only where every server of the run was seen: else the others might be the servers.

use reports::record::{LoadVerdict, ProcessRole, ProcessUse, Resources};

/// Part of the machine's cores that processes may use that are neither the generator nor its servers.
pub const OTHERS_SHARE_MAX: f64 = 0.25;
/// Less than this, in nanoseconds, shows no average worth the name.
const SPAN_MIN: u64 = 1_000_000_000;

/// The verdict, once it is known what everybody on the machine used.
pub(crate) fn with_others(verdict: LoadVerdict, resources: &Resources) -> LoadVerdict {
    let Some(others) = others(resources) else {
        return verdict;
    };
    match verdict {
        LoadVerdict::Valid => LoadVerdict::Noisy(format!("{others}: measure on a quieter machine")),
        // The store may have been slow for want of a core.
        LoadVerdict::Overloaded(reason) => LoadVerdict::Overloaded(format!("{reason}; {others}")),
        verdict => verdict,
    }
}

fn others(resources: &Resources) -> Option<String> {
    let machine = &resources.machine;
    let cores = machine.cores?;
    let unseen = |process: &ProcessUse| process.role == ProcessRole::Server && process.cores_used.is_none();
    let seen = !resources.processes.iter().any(unseen);
    if !seen || resources.span < SPAN_MIN {
        return None;
    }
    // Steal is in none of these: the kernel counts it as busy, and nobody here had it.
    let busy = (machine.busy_share? - machine.steal_share.unwrap_or(0.0)) * f64::from(cores);
    let ours: f64 = resources
        .processes
        .iter()
        .filter_map(|process| process.cores_used)
        .sum();
    let others = busy - ours;
    (others > f64::from(cores) * OTHERS_SHARE_MAX).then(|| {
        format!(
            "processes that are neither the generator nor its servers used {others:.2} of this machine's {cores} core(s) \
             (limit {:.0} %)",
            OTHERS_SHARE_MAX * 100.0
        )
    })
}

#[cfg(test)]
mod tests {
    use reports::record::MachineUse;

    use super::*;

    fn resources(busy: f64, server: Option<f64>) -> Resources {
        let process = |role, cores_used| ProcessUse {
            role,
            cores_used,
            ..ProcessUse::default()
        };
        Resources {
            span: 5 * SPAN_MIN,
            machine: MachineUse {
                cores: Some(2),
                busy_share: Some(busy),
                steal_share: Some(0.05),
                ..MachineUse::default()
            },
            processes: vec![
                process(ProcessRole::Client, Some(0.1)),
                process(ProcessRole::Server, server),
            ],
            ..Resources::default()
        }
    }

    #[test]
    fn a_busy_machine_is_told_where_the_servers_were_seen() {
        let judged = |busy, server| with_others(LoadVerdict::Valid, &resources(busy, server));
        assert!(matches!(
            judged(1.0, Some(0.2)),
            LoadVerdict::Noisy(reason) if reason.contains("used 1.60 of this machine's 2 core(s)")
        ));
        // 2·0.4 - 0.3 = 0.5, a quarter of two cores.
        assert_eq!(judged(0.449, Some(0.2)), LoadVerdict::Valid);
        assert!(matches!(judged(0.451, Some(0.2)), LoadVerdict::Noisy(_)));
        assert_eq!(judged(1.0, None), LoadVerdict::Valid, "they may be the server");
        assert_eq!(
            judged(1.0, Some(1.7)),
            LoadVerdict::Valid,
            "the server's own work"
        );
    }

    #[test]
    fn a_target_without_a_process_of_its_own_hides_nobody() {
        let mut alone = resources(1.0, None);
        alone.processes.truncate(1);
        assert!(matches!(
            with_others(LoadVerdict::Valid, &alone),
            LoadVerdict::Noisy(reason) if reason.contains("used 1.80")
        ));
    }

    #[test]
    fn what_is_worse_stays() {
        let busy = resources(1.0, Some(0.2));
        let bound = LoadVerdict::GeneratorBound("late".into());
        assert_eq!(with_others(bound.clone(), &busy), bound);
        assert!(matches!(
            with_others(LoadVerdict::Overloaded("full".into()), &busy),
            LoadVerdict::Overloaded(reason) if reason.starts_with("full; processes")
        ));
    }
}
