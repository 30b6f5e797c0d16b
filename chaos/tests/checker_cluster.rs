//! What nodes say of themselves: two leaders, going back, diverging, coming together.

#![allow(clippy::unwrap_used)]

use chaos::checker::{converges, one_leader_per_term, outcome, same_state, verdict};
use reports::record::{Check, CheckStatus, NodeSample, Outcome, Role};

const SECOND: u64 = 1_000_000_000;

/// `time node role term commit applied digest incarnation`, one sample a line; `-` for none.
fn samples(text: &str) -> Vec<NodeSample> {
    let sample = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [time, node, role, term, commit, applied, digest, incarnation] = words[..] else {
            panic!("not a sample: {line}")
        };
        let text = |word: &str| (word != "-").then(|| word.to_owned());
        NodeSample {
            time: time.parse::<u64>().unwrap() * SECOND,
            node: node.into(),
            role: serde_json::from_value(role.into()).unwrap(),
            term: term.parse().unwrap(),
            leader: None,
            commit: commit.parse().unwrap(),
            applied: applied.parse().unwrap(),
            digest: text(digest),
            incarnation: text(incarnation),
        }
    };
    text.trim().lines().map(|line| sample(line.trim())).collect()
}

#[track_caller]
fn finds(check: &Check, status: CheckStatus, words: &str) {
    assert_eq!(check.status, status, "{}", check.detail);
    assert!(check.detail.contains(words), "{}", check.detail);
}

#[test]
fn one_leader_after_the_other_is_fine() {
    let check = one_leader_per_term(&samples(
        "1 n1 leader    2 5 5 aa x
         1 n2 follower  2 5 5 aa y
         2 n1 down      0 0 0 -  -
         3 n2 leader    3 7 7 bb y
         4 n1 follower  1 0 0 00 z
         5 n1 follower  3 7 7 bb z",
    ));
    finds(&check, CheckStatus::Pass, "2 terms");
}

#[test]
fn two_leaders_in_a_term_are_caught_however_far_apart() {
    let check = one_leader_per_term(&samples(
        "1 n1 leader   2 5 5 aa x
         2 n3 leader   3 5 5 aa z
         9 n2 leader   2 5 5 aa y",
    ));
    finds(
        &check,
        CheckStatus::Violation,
        "two leaders in term 2: n1 at 1.0 s and n2 at 9.0 s",
    );
}

#[test]
fn a_process_that_goes_back_is_caught() {
    let back = |second: &str| one_leader_per_term(&samples(&format!("1 n1 leader 4 9 8 aa x\n{second}")));
    finds(
        &back("2 n1 follower 3 9 8 aa x"),
        CheckStatus::Violation,
        "the term of n1 went back from 4",
    );
    finds(
        &back("2 n1 follower 4 8 8 aa x"),
        CheckStatus::Violation,
        "the commit index of n1 went back",
    );
    finds(
        &back("2 n1 follower 4 9 7 aa x"),
        CheckStatus::Violation,
        "the applied index of n1 went back",
    );
    finds(&back("2 n1 follower 4 0 0 00 y"), CheckStatus::Pass, "");
}

#[test]
fn without_a_leader_nothing_was_seen() {
    finds(
        &one_leader_per_term(&[]),
        CheckStatus::Inconclusive,
        "no node was seen leading",
    );
    finds(
        &one_leader_per_term(&samples("1 n1 follower 4 9 8 aa x")),
        CheckStatus::Inconclusive,
        "",
    );
}

#[test]
fn nodes_that_differ_at_the_same_index_are_caught() {
    let same = same_state(&samples(
        "1 n1 leader   2 5 5 aa x
         2 n2 follower 2 5 4 bb y
         3 n2 follower 2 5 5 aa y",
    ));
    finds(&same, CheckStatus::Pass, "1 looks at equal indexes");
    let differ = same_state(&samples(
        "1 n1 leader   2 5 5 aa x
         2 n1 leader   2 6 6 cc x
         3 n2 follower 2 5 5 bb y",
    ));
    finds(
        &differ,
        CheckStatus::Violation,
        "n1 and n2 differ after applying up to index 5",
    );
    finds(
        &same_state(&samples("1 n1 leader 2 5 5 aa x")),
        CheckStatus::Inconclusive,
        "no two nodes",
    );
}

fn three() -> Vec<String> {
    ["n1", "n2", "n3"].map(String::from).to_vec()
}

#[test]
fn convergence_needs_every_node_up_with_the_same_state_in_time() {
    let text = "9  n1 leader   2 9 9 aa x
                9  n2 follower 2 9 9 aa y
                9  n3 follower 2 9 9 aa z
                11 n1 leader   2 9 9 aa x
                11 n2 follower 2 9 9 aa y
                11 n3 down     0 0 0 -  -
                14 n3 follower 2 9 7 cc w
                15 n3 follower 2 9 9 aa w
                16 n1 leader   2 9 9 aa x";
    let within = |seconds| converges(&samples(text), &three(), 10 * SECOND, seconds * SECOND);
    finds(&within(10), CheckStatus::Pass, "5.0 s after the load");
    finds(&within(4), CheckStatus::Liveness, "n3 has applied 7 (cc)");
    finds(&within(2), CheckStatus::Liveness, "n3 is down");
    let cut = samples(text)
        .into_iter()
        .filter(|sample| sample.time < 15 * SECOND)
        .collect::<Vec<_>>();
    let undecided = converges(&cut, &three(), 10 * SECOND, 10 * SECOND);
    finds(
        &undecided,
        CheckStatus::Inconclusive,
        "the looks ended before the time was up",
    );
    let missing = converges(
        &samples(text),
        &["n1".into(), "n4".into()],
        10 * SECOND,
        5 * SECOND,
    );
    finds(&missing, CheckStatus::Liveness, "n4 was not looked at");
}

#[test]
fn the_most_severe_check_wins() {
    let check = |name: &str, status| Check {
        name: name.into(),
        status,
        detail: "why".into(),
        witness: None,
    };
    let pass = check("a", CheckStatus::Pass);
    let undecided = check("b", CheckStatus::Inconclusive);
    let liveness = check("c", CheckStatus::Liveness);
    let violation = check("d", CheckStatus::Violation);
    assert_eq!(outcome(&[]), Outcome::Inconclusive);
    assert_eq!(outcome(std::slice::from_ref(&pass)), Outcome::Pass);
    assert_eq!(outcome(&[undecided.clone(), pass.clone()]), Outcome::Inconclusive);
    assert_eq!(outcome(&[liveness.clone(), undecided.clone()]), Outcome::Liveness);
    let verdict = verdict(vec![pass, undecided, violation, liveness]);
    assert_eq!(
        (verdict.outcome, verdict.reason.as_str()),
        (Outcome::Violation, "d: why")
    );
    assert_eq!(verdict.checks.len(), 4);
    assert_eq!(Role::Down, samples("1 n1 down 0 0 0 - -")[0].role);
}
