//! One situation a test.

use super::super::*;
use super::peer::*;

fn status(result: &Result<Answer, CallError>) -> (u32, &str) {
    match result {
        Err(CallError::Status(status)) => (status.code, &status.message),
        other => panic!("no status: {other:?}"),
    }
}

#[test]
fn a_call_and_its_answer() {
    let mut core = established(&[]);
    let mut seen = Seen::default();
    core.submit(METHOD, Some(Duration::from_secs(2)), |out| out.extend(b"ask"), 7);
    seen.take_all(&mut core);
    let request = &seen.requests[&1];
    assert_eq!((&*request.body, request.ended), (&framed(b"ask")[..], true));
    let fields: Vec<(&str, &str)> = request.fields.iter().map(|(n, v)| (&**n, &**v)).collect();
    assert_eq!(fields[2], (":path", "/test.Service/Call"));
    assert_eq!(fields[3], (":authority", "peer:1"));
    assert_eq!(fields.last(), Some(&("grpc-timeout", "2000000u")));
    assert_eq!(seen.settings_acks, 1);
    assert_eq!(
        bodies(receive(&mut core, &answer(1, b"yes"))),
        [(7, b"yes".to_vec())]
    );
    assert_eq!((core.is_idle(), close(&mut core)), (true, vec![]));
}

#[test]
fn timeouts_are_told_in_the_finest_unit_that_fits() {
    for (timeout, text) in [
        (Duration::ZERO, "0u"),
        (Duration::from_secs(2), "2000000u"),
        (Duration::from_micros(1500), "1500u"),
        (Duration::from_micros(99_999_999), "99999999u"),
        (Duration::from_micros(100_000_000), "100000m"),
        (Duration::from_secs(200_000), "200000S"),
        (Duration::MAX, "99999999H"),
    ] {
        assert_eq!(timeout_text(timeout), text);
    }
}

#[test]
fn calls_of_a_peer_that_is_never_reached_are_not_sent() {
    let mut core = Core::new("peer:1", 1);
    for owner in 0..=STREAMS_DEFAULT as u64 {
        submit(&mut core, owner, b"a");
    }
    assert!(core.is_full(), "the last one waits");
    let ends = close(&mut core);
    assert!(
        ends.iter()
            .map(|(owner, _)| *owner)
            .eq(0..=STREAMS_DEFAULT as u64)
    );
    assert!(ends.iter().all(|(_, result)| is_not_sent(result)));
    assert!(core.is_spent());
}

#[test]
fn what_lies_in_the_buffer_was_not_sent_and_its_first_byte_makes_the_difference() {
    for more in [0, 1] {
        let mut core = established(&[]);
        Seen::default().take_all(&mut core);
        submit(&mut core, 1, b"a");
        let length = core.outgoing().len();
        submit(&mut core, 2, b"b");
        core.handed_over(length + more);
        let ends = close(&mut core);
        assert!(is_lost(&ends[0].1), "{ends:?}");
        assert!(
            if more == 0 {
                is_not_sent(&ends[1].1)
            } else {
                is_lost(&ends[1].1)
            },
            "{ends:?}"
        );
    }
}

#[test]
fn cancelling_takes_back_what_has_not_left_unless_others_build_upon_it() {
    let mut core = established(&[]);
    let mut seen = Seen::default();
    seen.take_all(&mut core);
    let [teacher, a, b, c] = [0, 1, 2, 3].map(|owner| submit(&mut core, owner, &[owner as u8; 100]));
    assert_eq!(
        core.cancel(teacher),
        Cancelled::MaybeSent,
        "its headers are needed"
    );
    assert_eq!(core.cancel(b), Cancelled::NotSent);
    seen.take(&mut core, 1);
    // The teacher has begun to leave; of `a` nothing has.
    assert_eq!(core.cancel(a), Cancelled::NotSent);
    assert_eq!(core.cancel(a), Cancelled::AlreadyDone);
    seen.take_all(&mut core);
    assert_eq!(seen.requests.keys().copied().collect::<Vec<_>>(), [1, 7]);
    assert_eq!(seen.requests[&1].reset, Some(code::CANCEL));
    assert_eq!(seen.requests[&7].body, framed(&[3; 100]));
    // Answers that cross the cancellation are passed over.
    assert_eq!(receive(&mut core, &answer(1, b"late")), []);
    assert_eq!(
        bodies(receive(&mut core, &answer(7, b"three"))),
        [(3, b"three".to_vec())]
    );
    assert_eq!(core.cancel(c), Cancelled::AlreadyDone);
    // What was taken back has not used the window up.
    assert_eq!(core.window, WINDOW_DEFAULT - 2 * 105);
}

#[test]
fn a_call_is_taken_back_in_all_its_pieces() {
    let mut core = established(&[(setting::INITIAL_WINDOW_SIZE, 10)]);
    let mut seen = Seen::default();
    submit(&mut core, 0, b"");
    seen.take_all(&mut core);
    let a = submit(&mut core, 1, &[1; 100]);
    submit(&mut core, 2, b"two");
    // A second piece of the first call now stands behind the other call.
    receive(&mut core, &window_update(3, 20));
    assert_eq!(core.cancel(a), Cancelled::NotSent);
    seen.take_all(&mut core);
    assert_eq!(seen.requests.keys().copied().collect::<Vec<_>>(), [1, 5]);
    assert_eq!(seen.requests[&5].body, framed(b"two"));
    assert_eq!(core.window, WINDOW_DEFAULT - 5 - 8);
}

#[test]
fn the_peers_limit_of_streams_is_kept() {
    let mut core = established(&[(setting::MAX_CONCURRENT_STREAMS, 1)]);
    let mut seen = Seen::default();
    let keys = [1, 2, 3, 4].map(|owner| submit(&mut core, owner, b"x"));
    seen.take_all(&mut core);
    assert_eq!(seen.requests.len(), 1);
    assert_eq!(core.cancel(keys[1]), Cancelled::NotSent);
    assert_eq!(bodies(receive(&mut core, &answer(1, b""))), [(1, vec![])]);
    seen.take_all(&mut core);
    assert_eq!(seen.requests.len(), 2);
    let third = keys[2];
    assert_eq!(
        bodies(receive(&mut core, &answer(third, b"3"))),
        [(3, b"3".to_vec())]
    );
    seen.take_all(&mut core);
    let ends = close(&mut core);
    assert!(ends.len() == 1 && ends[0].0 == 4 && is_lost(&ends[0].1));
}

#[test]
fn requests_wait_for_windows_and_use_the_largest_frames_allowed() {
    let mut core = established(&[
        (setting::INITIAL_WINDOW_SIZE, 0),
        (setting::MAX_FRAME_SIZE, 20_000),
    ]);
    let mut seen = Seen::default();
    submit(&mut core, 1, &[9; 50_000]);
    seen.take_all(&mut core);
    assert!(seen.requests[&1].body.is_empty());
    receive(&mut core, &window_update(1, 1));
    seen.take_all(&mut core);
    assert_eq!(seen.requests[&1].body.len(), 1);
    // Lowered below what is used, then raised: the stream's window was negative in between.
    receive(
        &mut core,
        &settings_frame(&[(setting::INITIAL_WINDOW_SIZE, 49_000)]),
    );
    seen.take_all(&mut core);
    assert_eq!((seen.requests[&1].body.len(), seen.data_max), (49_001, 20_000));
    receive(&mut core, &settings_frame(&[(setting::INITIAL_WINDOW_SIZE, 10)]));
    receive(&mut core, &window_update(1, 48_990));
    seen.take_all(&mut core);
    assert!(!seen.requests[&1].ended);
    receive(&mut core, &window_update(1, 60_000));
    seen.take_all(&mut core);
    assert!(seen.requests[&1].ended);
    assert_eq!(seen.requests[&1].body, framed(&[9; 50_000]));
    // The connection's window is what is left of 65,535.
    submit(&mut core, 2, &[8; 50_000]);
    receive(&mut core, &window_update(3, 60_000));
    seen.take_all(&mut core);
    assert_eq!(seen.requests[&3].body.len(), 65_535 - 50_005);
    receive(&mut core, &window_update(0, 100_000));
    seen.take_all(&mut core);
    assert_eq!(seen.requests[&3].body, framed(&[8; 50_000]));
}

#[test]
fn resets_tell_whether_the_peer_did_anything() {
    let mut core = established(&[]);
    for owner in [1, 2, 3] {
        submit(&mut core, owner, b"x");
    }
    Seen::default().take_all(&mut core);
    let ends = receive(&mut core, &reset(1, code::REFUSED_STREAM));
    assert!(is_not_sent(&ends[0].1));
    let ends = receive(&mut core, &reset(3, code::CANCEL));
    assert!(is_lost(&ends[0].1));
    assert!(ends[0].1.as_ref().unwrap_err().to_string().contains("CANCEL"));
    let ends = receive(&mut core, &[leading(5), reset(5, code::REFUSED_STREAM)].concat());
    assert!(is_lost(&ends[0].1), "it had begun to answer");
    // A reset after the end, as servers send that do not want the rest of a request.
    assert_eq!(receive(&mut core, &reset(5, 0)), []);
}

#[test]
fn goaway_divides_calls_into_done_not_sent_and_lost() {
    let mut core = established(&[(setting::MAX_CONCURRENT_STREAMS, 3)]);
    for owner in [1, 2, 3, 4] {
        submit(&mut core, owner, b"x");
    }
    Seen::default().take_all(&mut core);
    let ends = receive(&mut core, &goaway(0x7fff_ffff, 0, b""));
    assert!(
        ends.len() == 1 && ends[0].0 == 4 && is_not_sent(&ends[0].1),
        "it waited"
    );
    assert!(core.is_spent());
    let ends = receive(&mut core, &goaway(3, 11, b"too_many\n"));
    assert!(
        ends.len() == 1 && ends[0].0 == 3 && is_not_sent(&ends[0].1),
        "{ends:?}"
    );
    assert_eq!(
        bodies(receive(&mut core, &answer(1, b"one"))),
        [(1, b"one".to_vec())]
    );
    let ends = close(&mut core);
    assert!(
        ends.len() == 1 && ends[0].0 == 2 && is_lost(&ends[0].1),
        "{ends:?}"
    );
    let said = ends[0].1.as_ref().unwrap_err().to_string();
    assert_eq!(
        said,
        r"gone, after it had complained of ENHANCE_YOUR_CALM (too_many\n)"
    );
}

#[test]
fn stream_ids_run_out_in_good_order() {
    let mut core = established(&[]);
    core.first = STREAM_LAST - 2;
    submit(&mut core, 1, b"x");
    submit(&mut core, 2, b"x");
    assert!(core.is_spent());
    let answers = [answer(STREAM_LAST, b"b"), answer(STREAM_LAST - 2, b"a")].concat();
    let ends = bodies(receive(&mut core, &answers));
    assert_eq!(ends, [(2, b"b".to_vec()), (1, b"a".to_vec())]);
    assert_eq!(receive(&mut core, &answer(1, b"late")), []);
    assert!(core.is_spent());
}

#[test]
fn errors_come_with_what_was_said_at_their_end_and_are_never_taken_for_answers() {
    let mut core = established(&[]);
    for owner in [1, 2, 3] {
        submit(&mut core, owner, b"x");
    }
    let begin = [(":status", "200"), ("content-type", "application/grpc+proto")];
    let end = [
        ("grpc-status", "9"),
        ("grpc-message", "not%20now"),
        ("leader", "n2"),
    ];
    let ends = receive(
        &mut core,
        &[headers(1, false, &begin), headers(1, true, &end)].concat(),
    );
    assert_eq!(status(&ends[0].1), (9, "not now"));
    let Err(CallError::Status(error)) = &ends[0].1 else {
        panic!("{ends:?}");
    };
    assert_eq!(error.field("leader"), Some("n2"));
    // Trailers alone, and the same trailers again.
    let alone = [&begin[..], &end[..]].concat();
    let ends = receive(
        &mut core,
        &[headers(3, true, &alone), headers(5, true, &alone)].concat(),
    );
    assert_eq!(ends.len(), 2);
    assert!(ends.iter().all(|(_, result)| status(result) == (9, "not now")));
}

#[test]
fn answers_that_are_no_answer_are_refused_without_harm_to_others() {
    let data = |bytes: &[u8], flags| raw(kind::DATA, flags, 1, bytes);
    let ok = [(":status", "200"), ("grpc-status", "0")];
    let cases: [(&str, Vec<Vec<u8>>); 8] = [
        ("data in front", vec![data(&framed(b"x"), 0)]),
        (
            "compressed",
            vec![leading(1), data(&[1, 0, 0, 0, 0], 0), trailers(1)],
        ),
        (
            "exactly one",
            vec![
                leading(1),
                data(&[framed(b"a"), framed(b"b")].concat(), 0),
                trailers(1),
            ],
        ),
        (
            "without a status",
            vec![leading(1), data(&framed(b"x"), flag::END_STREAM)],
        ),
        (
            "exactly one",
            vec![leading(1), data(&framed(b"xyz")[..6], 0), trailers(1)],
        ),
        ("no message", vec![headers(1, true, &ok)]),
        ("without a status", vec![leading(1), leading(1)]),
        ("empty", vec![raw(kind::HEADERS, flag::END_HEADERS, 1, &[0xbe])]),
    ];
    for (part, frames) in cases {
        let mut core = established(&[]);
        submit(&mut core, 1, b"x");
        submit(&mut core, 2, b"y");
        let ends = receive(&mut core, &frames.concat());
        let [(1, Err(error))] = &ends[..] else {
            panic!("{part}: {ends:?}");
        };
        assert!(error.to_string().contains(part), "{part}: {error}");
        assert!(is_protocol(&ends[0].1), "{part}");
        let fine = bodies(receive(&mut core, &answer(3, b"fine")));
        assert_eq!(fine, [(2, b"fine".to_vec())]);
    }
}

#[test]
fn an_answer_that_is_too_large_is_cut_off() {
    let mut core = established(&[]);
    let mut seen = Seen::default();
    submit(&mut core, 1, b"x");
    receive(&mut core, &leading(1));
    let part = raw(kind::DATA, 0, 1, &[0; 16_384]);
    let mut ends = Ends::new();
    for _ in 0..=MESSAGE_MAX / 16_384 {
        ends.extend(receive(&mut core, &part));
    }
    assert!(ends.len() == 1 && is_protocol(&ends[0].1), "{ends:?}");
    seen.take_all(&mut core);
    assert_eq!(seen.requests[&1].reset, Some(code::CANCEL));
}

#[test]
fn an_answer_before_the_request_is_complete_ends_the_request() {
    let mut core = established(&[(setting::INITIAL_WINDOW_SIZE, 10)]);
    let mut seen = Seen::default();
    submit(&mut core, 1, &[1; 100]);
    let refusal = [(":status", "200"), ("grpc-status", "8")];
    let ends = receive(&mut core, &headers(1, true, &refusal));
    assert_eq!(status(&ends[0].1).0, 8);
    seen.take_all(&mut core);
    assert_eq!(seen.requests[&1].reset, Some(code::CANCEL));
    receive(&mut core, &window_update(1, 1000));
    assert!(core.outgoing().is_empty());
}

#[test]
fn padding_priority_continuation_and_information_are_understood() {
    let mut core = established(&[]);
    submit(&mut core, 1, b"x");
    let fields = block(&[(":status", "200"), ("content-type", "application/grpc")]);
    let padded = [&[3, 0, 0, 0, 0, 16], &fields[..5], &[0; 3]].concat();
    let flags = flag::PADDED | flag::PRIORITY;
    let message = [&[2][..], &framed(b"abc"), &[0; 2]].concat();
    let bytes = [
        headers(1, false, &[(":status", "103")]),
        raw(kind::HEADERS, flags, 1, &padded),
        raw(kind::CONTINUATION, 0, 1, &fields[5..9]),
        raw(kind::CONTINUATION, flag::END_HEADERS, 1, &fields[9..]),
        raw(2, 0, 1, &[0; 5]),
        raw(77, 0xff, 1234, b"unknown"),
        raw(kind::DATA, flag::PADDED, 1, &message),
        raw(kind::DATA, 0, 1, &[]),
        trailers(1),
    ];
    assert_eq!(
        bodies(receive(&mut core, &bytes.concat())),
        [(1, b"abc".to_vec())]
    );
}

#[test]
fn pings_are_answered_and_the_window_is_topped_up() {
    let mut core = established(&[]);
    let mut seen = Seen::default();
    submit(&mut core, 1, b"x");
    receive(&mut core, &raw(kind::PING, 0, 0, b"12345678"));
    receive(&mut core, &raw(kind::PING, flag::ACK, 0, b"87654321"));
    receive(&mut core, &leading(1));
    core.taken = WINDOW_REPORT - 256;
    // Padding only: counts for the window, and is no message.
    let padding = [&[255][..], &[0; 255]].concat();
    receive(&mut core, &raw(kind::DATA, flag::PADDED, 1, &padding));
    core.ping();
    seen.take_all(&mut core);
    assert_eq!((&seen.pongs[..], seen.pings), (&[*b"12345678"][..], 1));
    assert_eq!(seen.window_updates[1..], [(0, WINDOW_REPORT)]);
    let rest = [raw(kind::DATA, 0, 1, &framed(b"done")), trailers(1)].concat();
    assert_eq!(bodies(receive(&mut core, &rest)), [(1, b"done".to_vec())]);
}

#[test]
fn streams_that_are_not_ours_are_nobodys() {
    let mut core = established(&[]);
    submit(&mut core, 1, b"x");
    let strange = [
        answer(2, b"even"),
        answer(0, b"none"),
        answer(99, b"idle"),
        reset(2, 0),
        window_update(2, 5),
    ];
    assert_eq!(receive(&mut core, &strange.concat()), []);
    assert_eq!(
        bodies(receive(&mut core, &answer(1, b"ours"))),
        [(1, b"ours".to_vec())]
    );
}

#[test]
fn a_peer_that_breaks_the_protocol_is_found_out() {
    let cases: [(&str, Vec<u8>); 14] = [
        ("larger than we allow", raw(kind::DATA, 0, 1, &[0; 16_385])),
        ("padding", raw(kind::DATA, flag::PADDED, 1, &[9])),
        ("padding", raw(kind::HEADERS, flag::PRIORITY, 1, &[0; 3])),
        ("never began", raw(kind::CONTINUATION, 0, 1, b"x")),
        (
            "interrupted",
            [raw(kind::HEADERS, 0, 1, &[]), raw(kind::PING, 0, 0, &[0; 8])].concat(),
        ),
        (
            "another stream",
            [raw(kind::HEADERS, 0, 1, &[]), raw(kind::CONTINUATION, 0, 3, &[])].concat(),
        ),
        ("pushes", raw(kind::PUSH_PROMISE, 0, 1, &[0; 8])),
        ("ping", raw(kind::PING, 0, 0, &[0; 7])),
        ("settings", raw(kind::SETTINGS, 0, 0, &[0; 5])),
        (
            "frames of 1 bytes",
            settings_frame(&[(setting::MAX_FRAME_SIZE, 1)]),
        ),
        (
            "window",
            settings_frame(&[(setting::INITIAL_WINDOW_SIZE, 1 << 31)]),
        ),
        ("overflow", window_update(0, 0x7fff_ffff)),
        ("farewell", raw(kind::GOAWAY, 0, 0, &[0; 7])),
        ("reset", raw(kind::RST_STREAM, 0, 1, &[0; 3])),
    ];
    for (part, bytes) in cases {
        let mut core = established(&[]);
        submit(&mut core, 1, b"x");
        Seen::default().take_all(&mut core);
        let (ends, received) = try_receive(&mut core, &bytes);
        let broken = received.unwrap_err();
        assert!(broken.contains(part), "{part}: {broken}");
        assert_eq!(ends, []);
        assert!(is_lost(&close(&mut core)[0].1), "{part}");
    }
}

#[test]
fn endless_header_blocks_and_endless_acknowledgements_are_cut_off() {
    let mut core = established(&[]);
    submit(&mut core, 1, b"x");
    receive(&mut core, &raw(kind::HEADERS, 0, 1, &[]));
    let more = raw(kind::CONTINUATION, 0, 1, &[0; 16_000]);
    for _ in 0..HEADERS_MAX / 16_000 {
        receive(&mut core, &more);
    }
    let broken = try_receive(&mut core, &more).1.unwrap_err();
    assert!(broken.contains("headers"), "{broken}");

    let mut core = established(&[]);
    let ping = raw(kind::PING, 0, 0, &[0; 8]);
    receive(&mut core, &ping.repeat(ACKNOWLEDGEMENTS_MAX - 1));
    let broken = try_receive(&mut core, &ping).1.unwrap_err();
    assert!(broken.contains("does not read"), "{broken}");
}

#[test]
fn acknowledgements_that_were_taken_do_not_count_although_the_buffer_never_runs_dry() {
    let mut core = established(&[]);
    let ping = raw(kind::PING, 0, 0, &[0; 8]);
    let mut seen = Seen::default();
    for _ in 0..2 * ACKNOWLEDGEMENTS_MAX {
        receive(&mut core, &ping);
        // One byte always stays behind.
        let most = core.outgoing().len() - 1;
        seen.take(&mut core, most);
    }
    // The last was not taken whole, so one fewer may still come.
    receive(&mut core, &ping.repeat(ACKNOWLEDGEMENTS_MAX - 1));
    let broken = try_receive(&mut core, &ping).1.unwrap_err();
    assert!(broken.contains("does not read"), "{broken}");
}

#[test]
fn a_buffer_that_never_runs_dry_does_not_grow() {
    let mut core = established(&[]);
    receive(&mut core, &window_update(0, 1 << 30));
    let mut seen = Seen::default();
    for owner in 0..10_000 {
        submit(&mut core, owner, &[7; 1000]);
        // One byte always stays behind.
        let most = core.outgoing().len() - 1;
        seen.take(&mut core, most);
        let stream = owner as u32 * 2 + 1;
        assert!(core.out.len() < 2 * HANDED_PORTION);
        if owner > 0 {
            assert_eq!(receive(&mut core, &answer(stream - 2, b"")).len(), 1);
        }
    }
    seen.take_all(&mut core);
    assert_eq!(seen.requests.len(), 10_000);
    assert!(seen.requests.values().all(|request| request.ended));
}

#[test]
fn a_peer_that_speaks_something_else_is_named() {
    let mut core = Core::<u64>::new("peer:1", 1);
    let broken = try_receive(&mut core, b"HTTP/1.1 400 Bad Request").1.unwrap_err();
    assert!(broken.contains("does not speak HTTP/2"), "{broken}");
}
