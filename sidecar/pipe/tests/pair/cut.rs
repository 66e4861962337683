//! The outcome contract, with the pipe cut at every byte.

use restpipe_pipe::{Outcome, PipeConfig};

use crate::harness::{A, D, Pair};

#[derive(Clone, Copy, Debug)]
struct Case {
    noun: &'static str,
    inline: usize,
    more: Option<usize>,
    answer: usize,
}

const CASES: [Case; 4] = [
    Case { noun: "echo", inline: 20, more: None, answer: 20 },
    Case { noun: "echo", inline: 20, more: Some(150), answer: 170 },
    Case { noun: "stream/150", inline: 0, more: None, answer: 250 },
    Case { noun: "early", inline: 3, more: Some(150), answer: 5 },
];

/// Runs one call over a link that breaks after `cut` bytes from `cut_side`.
/// Returns the bytes that went each way.
fn run(case: Case, cut: Option<(usize, usize)>) -> [usize; 2] {
    let mut pair = Pair::new(&PipeConfig::default());
    if let Some((side, after)) = cut {
        pair.links[side].cut_after = Some(after);
    }
    pair.run();
    let stream = pair.call(D, case.noun, case.inline, case.more);
    pair.run();
    // Whoever did not notice a break at once does so by its heartbeat.
    if cut.is_some() {
        pair.advance(std::time::Duration::from_secs(11));
    }
    check(&pair, case, stream, cut);
    pair.links.each_ref().map(|link| link.carried)
}

fn check(pair: &Pair, case: Case, stream: u64, cut: Option<(usize, usize)>) {
    let outcomes = pair.outcomes(D, stream);
    assert_eq!(outcomes.len(), 1, "{case:?} cut {cut:?}: {outcomes:?}");
    let starts = pair.sides[A].app.starts.get(&stream).copied().unwrap_or(0);
    match outcomes[0] {
        Outcome::NotSent | Outcome::Refused => assert_eq!(starts, 0, "{case:?} cut {cut:?}"),
        Outcome::Executed => {
            assert_eq!(starts, 1, "{case:?} cut {cut:?}");
            assert_eq!(pair.sides[D].app.calls[&stream].answer(), case.answer);
        }
        Outcome::Unknown => assert!(starts <= 1, "{case:?} cut {cut:?}"),
    }
    if pair.sides.iter().all(|side| side.ended.is_some()) {
        pair.assert_whole();
    }
}

#[test]
fn a_pipe_cut_at_every_byte_offset_of_one_call_gives_the_promised_outcome() {
    for case in CASES {
        let carried = run(case, None);
        for side in [D, A] {
            for after in 0..=carried[side] {
                run(case, Some((side, after)));
            }
        }
    }
}
