//! Random schedules: whatever happens, nothing is left behind.

use std::time::Duration;

use restpipe_pipe::pb::GoAwayReason;
use restpipe_pipe::session::Command;
use restpipe_pipe::{Outcome, PipeConfig};

use crate::harness::{A, D, Pair};

/// xorshift64*: enough to shuffle schedules, and the same everywhere.
struct Dice(u64);

impl Dice {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % sides
    }

    fn side(&mut self) -> usize {
        if self.roll(2) == 0 { D } else { A }
    }
}

const NOUNS: [&str; 9] =
    ["echo", "echo", "early", "hang", "lost", "refuse", "deaf", "stream/50", "stream/400000"];

fn act(pair: &mut Pair, dice: &mut Dice, calls: &mut Vec<(usize, u64)>) {
    let side = dice.side();
    match dice.roll(20) {
        0..=9 => {
            let noun = NOUNS[dice.roll(NOUNS.len() as u64) as usize];
            let inline = [0, 10, 5_000, 16_384][dice.roll(4) as usize];
            let more = [None, None, Some(0), Some(3_000), Some(700_000)][dice.roll(5) as usize];
            let within = Duration::from_millis([1, 30, 500, 20_000][dice.roll(4) as usize]);
            calls.push((side, pair.call_within(side, noun, inline, more, within)));
        }
        10..=12 if !calls.is_empty() => {
            let (side, call) = calls[dice.roll(calls.len() as u64) as usize];
            if pair.sides[side].app.calls[&call].is_open() {
                pair.drop_call(side, call);
            }
        }
        13 => pair.sides[side].app.thirst = [0, 100, 20_000, usize::MAX][dice.roll(4) as usize],
        14 => pair.links[side].capacity = [None, Some(1), Some(60_000)][dice.roll(3) as usize],
        15 => pair.sides[side].app.stubborn = dice.roll(2) == 0,
        16 => {
            let max_streams = [1, 4, 256][dice.roll(3) as usize];
            pair.command(side, Command::Limit { max_streams });
        }
        _ => pair.advance(Duration::from_micros(dice.roll(20_000))),
    }
}

/// How a schedule ends.
fn finish(pair: &mut Pair, dice: &mut Dice) {
    for side in [D, A] {
        pair.sides[side].app.thirst = usize::MAX;
        pair.sides[side].app.stubborn = false;
        pair.links[side].capacity = None;
    }
    match dice.roll(6) {
        0 => pair.links[dice.side()].cut_after = Some(0),
        1 => pair.links[dice.side()].swallows = true,
        2 | 3 => {
            let reason =
                if dice.roll(2) == 0 { GoAwayReason::Draining } else { GoAwayReason::Replaced };
            for side in [D, A].into_iter().take(1 + dice.roll(2) as usize) {
                let (detail, retry_after) = (String::new(), Duration::ZERO);
                pair.command(side, Command::GoAway { reason, detail, retry_after });
            }
        }
        _ => {}
    }
    pair.advance(Duration::from_secs(700));
}

fn play(seed: u64) -> Pair {
    let mut dice = Dice::new(seed);
    let mut pair = Pair::new(&PipeConfig::default());
    pair.links[D].delay = Duration::from_micros(dice.roll(5_000));
    pair.links[A].delay = Duration::from_micros(dice.roll(5_000));
    let mut calls = Vec::new();
    for _ in 0..120 {
        act(&mut pair, &mut dice, &mut calls);
    }
    finish(&mut pair, &mut dice);
    for (side, call) in calls {
        judge(&pair, seed, side, call);
    }
    pair
}

fn judge(pair: &Pair, seed: u64, side: usize, call: u64) {
    let log = &pair.sides[side].app.calls[&call];
    let starts = pair.sides[1 - side].app.starts.get(&call).copied().unwrap_or(0);
    assert!(starts <= 1, "seed {seed}: {side} {call} ran {starts} times");
    if log.dropped {
        return;
    }
    assert_eq!(log.outcomes.len(), 1, "seed {seed}: {side} {call}: {log:?}");
    match log.outcomes[0] {
        Outcome::Executed => assert_eq!(starts, 1, "seed {seed}: {side} {call}"),
        // "refuse" is a handler that says so itself.
        Outcome::NotSent => assert_eq!(starts, 0, "seed {seed}: {side} {call}: {log:?}"),
        Outcome::Refused if log.words.contains("app-refused") => {}
        Outcome::Refused => assert_eq!(starts, 0, "seed {seed}: {side} {call}: {log:?}"),
        Outcome::Unknown => {}
    }
}

#[test]
fn after_any_schedule_all_budgets_are_whole_and_nothing_is_kept() {
    for seed in 0..150 {
        let pair = play(seed);
        for (me, side) in pair.sides.iter().enumerate() {
            assert_eq!(
                side.budget.left(),
                crate::harness::PROCESS_BUDGET,
                "seed {seed}, side {me}"
            );
            assert!(side.session.is_idle(), "seed {seed}, side {me}: {:#?}", side.session);
            assert_eq!(side.app.running(), 0, "seed {seed}, side {me}");
        }
    }
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    for seed in 0..12 {
        assert!(play(seed).trace == play(seed).trace, "seed {seed}");
    }
}
