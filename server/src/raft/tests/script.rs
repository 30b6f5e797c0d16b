//! Protocol situations as text: each file in `scripts/` is named after what it shows, says what happens step by step and
//! what must be true afterwards. The files are run against the same cores, network and disks as the tests beside this one.
//!
//! One command on a line; `#` begins a comment. Nothing happens that the script does not say: messages stay on the wire
//! until they are delivered, disk requests stay unanswered until they are synced, clocks stand still.
//!
//! * `nodes 3` begins (`nodes 3 narrow`: one entry in each append); `disk 2 term 3 log 1:a 2:b` exchanges a disk and
//!   restarts its node; `begin 1` makes leader 1 write the first configuration; `start 4` starts a node that waits to be
//!   taken in.
//! * Time: `tick 1 x20`, `tick all x20`, `forget 2 3` (they no longer hold to their leader), `campaign 1` (until it asks
//!   for votes), `win 1 by 2 3` (it is elected by these; nothing but votes moves), `elect 1` and `run 10` (everything
//!   moves), `settle`.
//! * Messages: `deliver 1->2`, `drop *->2`, `copy 1->2` (one more of each), `reverse 1->2`; a kind (`append`, `ack`,
//!   `heartbeat`, `heard`, `vote?`, `vote`, `timeout-now`, `read?`, `read`) and `x1` narrow the choice. It is a mistake if
//!   there is nothing to choose from.
//! * Disks: `sync 1`, `sync 1 x1`, `crash 3` (loses what was not synced), `damage 3 keep 2`, `compact 1 keep 0`; snapshots
//!   on their way: `deliver-snapshot 1->3`, `lose-snapshot 1->3`.
//! * Links: `cut 1 2`, `join 1 2`, `isolate 1`, `rejoin 1`, `connect` (everybody with whom he knows).
//! * Clients: `propose 1 x`, `read 1 r`, `transfer 1 2`, `add-learner 1 4`, `promote 1 4`, `remove 1 2`; with
//!   `refused Reason` in front they must be refused for that reason.
//! * `expect …`: see `script/expect.rs`. `show state` and `show wire` print; the lines with `|` below them are what they
//!   must print. `WHITEWATER_BLESS=1 cargo test -p server script` writes them anew.

mod commands;
mod expect;
mod show;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::cluster::{Cluster, id};
use crate::raft::NodeId;

/// What went wrong on a line.
type Outcome<T = ()> = Result<T, String>;

/// A script that runs.
struct Script {
    cluster: Cluster,
    /// Names of reads; a token is the place in this list.
    reads: Vec<String>,
    numbers: BTreeMap<NodeId, u64>,
}

/// Numbers that a script may use for its nodes.
const NODES_MAX: u64 = 9;

impl Script {
    fn new() -> Script {
        Script {
            cluster: Cluster::new(0, 0),
            reads: Vec::new(),
            numbers: (1..=NODES_MAX).map(|number| (id(number), number)).collect(),
        }
    }

    fn number(&self, node: NodeId) -> u64 {
        self.numbers[&node]
    }

    /// Nodes in the order of their numbers.
    fn nodes(&self) -> Vec<u64> {
        let mut numbers: Vec<u64> = self.cluster.nodes.keys().map(|node| self.number(*node)).collect();
        numbers.sort_unstable();
        numbers
    }

    /// Runs one line and returns what it prints.
    fn line(&mut self, line: &str) -> Outcome<String> {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["expect", what @ ..] => self.expect(what).map(|()| String::new()),
            ["show", what @ ..] => self.show(what),
            ["refused", reason, command @ ..] => match self.command(command) {
                Err(error) if error.contains(&format!("refused: {reason}")) => Ok(String::new()),
                Err(error) => Err(format!("should be refused with {reason}, but: {error}")),
                Ok(()) => Err(format!("should be refused with {reason}, but is not")),
            },
            command => self.command(command).map(|()| String::new()),
        }
    }
}

/// Says where a script stood when a core panicked.
struct Place<'a>(&'a Path, usize);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the script stood at {}:{}", self.0.display(), self.1);
        }
    }
}

/// Runs a script. Returns its text with what it printed this time, or where it went wrong and how.
fn run(path: &Path, text: &str, bless: bool) -> Outcome<String> {
    let mut script = Script::new();
    let mut place = Place(path, 0);
    let mut printed = String::new();
    let mut lines = text.lines().zip(1..).peekable();
    while let Some((line, number)) = lines.next() {
        place.1 = number;
        let at = |error: String| format!("{}:{number}: {error}", path.display());
        let command = line.split('#').next().unwrap_or_default().trim();
        if command.starts_with('|') {
            return Err(at("output of no command".to_owned()));
        }
        printed.push_str(line);
        printed.push('\n');
        if command.is_empty() {
            continue;
        }
        let shown = script.line(command).map_err(at)?;
        let mut stored = String::new();
        while let Some((line, _)) = lines.next_if(|(line, _)| line.starts_with('|')) {
            stored.push_str(line.trim_start_matches('|').trim());
            stored.push('\n');
        }
        if !bless && stored != shown {
            return Err(at(format!("prints\n{shown}and should print\n{stored}")));
        }
        for line in shown.lines() {
            printed.push_str(&format!("| {line}\n"));
        }
    }
    Ok(printed)
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/raft/tests/scripts")
}

fn check(name: &str) {
    let path = folder().join(format!("{name}.txt"));
    let text = fs::read_to_string(&path).unwrap();
    let bless = std::env::var_os("WHITEWATER_BLESS").is_some();
    let printed = run(&path, &text, bless).unwrap_or_else(|error| panic!("{error}"));
    if bless {
        fs::write(&path, printed).unwrap();
    }
}

macro_rules! scripts {
    ($($name:ident),* $(,)?) => {
        const NAMES: &[&str] = &[$(stringify!($name)),*];
        $(#[test] fn $name() { check(stringify!($name)); })*
    };
}

scripts! {
    a_candidate_follows_whoever_was_elected_in_its_term,
    a_damaged_follower_is_refilled_before_it_is_trusted,
    a_follower_far_behind_gets_a_snapshot,
    a_heartbeat_commits_no_more_than_its_receiver_holds,
    a_joint_change_outlives_a_crash_in_its_middle,
    a_late_shorter_append_takes_nothing_away,
    a_late_sync_of_an_overwritten_entry_makes_nothing_durable,
    a_leader_does_not_count_itself_before_its_disk_is_done,
    a_leader_may_commit_before_its_own_disk_is_done,
    a_leader_that_hears_no_majority_gives_up,
    a_learner_does_not_count,
    a_lost_window_is_sent_again,
    a_new_leader_counts_its_first_entry_only_when_it_is_durable,
    a_partitioned_leader_rejoins_and_forgets_what_nobody_committed,
    a_partitioned_node_that_asks_first_disturbs_nobody,
    a_read_needs_a_round_that_began_after_it,
    a_read_of_a_deposed_leader_fails_and_the_next_one_reads_its_own_term,
    a_removed_leader_counts_itself_no_more_and_leaves,
    a_split_vote_ends_with_the_next_term,
    a_vote_lost_before_its_fsync_was_never_given,
    an_ack_for_an_overwritten_entry_counts_for_nothing,
    duplicates_and_reordered_appends_change_nothing,
    figure_7_a_log_with_more_is_not_led_by_one_with_less,
    figure_8_an_entry_of_an_earlier_term_is_not_committed_by_counting,
    figure_8_an_entry_of_the_own_term_commits_those_before_it,
    the_logs_of_figure_7_converge,
    the_office_is_handed_over_under_load,
}

#[test]
fn every_script_is_run() {
    let mut found: Vec<String> = fs::read_dir(folder())
        .unwrap()
        .map(|item| {
            item.unwrap()
                .path()
                .file_stem()
                .unwrap()
                .to_string_lossy()
                .into_owned()
        })
        .collect();
    found.sort();
    let mut names = NAMES.to_vec();
    names.sort_unstable();
    assert_eq!(found, names);
}

#[test]
fn mistakes_are_reported_with_their_line() {
    for (text, error) in [
        ("nodes 3\n\nexpect leader 1", "x:3: no node leads"),
        ("nodes 3\njump 1", "x:2: what is `jump 1`?"),
        ("nodes 3\ndeliver 1->2", "x:2: nothing like this is on the wire"),
        ("nodes 3\nsync 1", "x:2: node 1 waits for no disk"),
        ("nodes 3\ntick 7", "x:2: there is no node 7"),
        ("nodes 3\npropose 2 a", "x:2: refused: NotLeader(None)"),
        ("# nothing\n| 1 follower", "x:2: output of no command"),
        (
            "nodes 1\nshow state",
            "x:2: prints\n1 follower term 0 log commit 0\nand should print\n",
        ),
        ("nodes 1\nexpect log 1 = 1:a", "x:2: it is `` and should be `1:a`"),
        (
            "nodes 1\nelect 1\nrefused NotLeader propose 1 a",
            "x:3: should be refused with NotLeader, but is not",
        ),
    ] {
        assert_eq!(run(Path::new("x"), text, false), Err(error.to_owned()));
    }
}
