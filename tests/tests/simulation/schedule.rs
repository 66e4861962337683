//! What happens in one run, as its seed decides.

use std::sync::Arc;
use std::time::Duration;

use restpipe::Verb;
use tokio::runtime::Builder;
use tokio::time::{sleep, timeout};

use crate::cable::{ACCEPTOR, DIALER};
use crate::dice::Dice;
use crate::host::BUDGET;
use crate::tamper::{Bug, Tamper};
use crate::world::{Ask, Callers, SIDES, World};

/// Things that happen in one run.
const ACTS: usize = 40;

/// All answers have come after this: the longest deadline, and some more.
const LONGEST: Duration = Duration::from_secs(60);

/// After the last fault a pipe is up within this: a dial that is being given
/// up, the longest pause, and another dial.
const RECOVERY: Duration = Duration::from_secs(11);

/// What a run has shown.
pub(crate) struct Played {
    /// What happened, each line with its time in microseconds.
    pub(crate) trace: Vec<String>,
    pub(crate) faults: Vec<String>,
}

/// Plays one run.
pub(crate) fn play(seed: u64, bug: Bug) -> Played {
    let runtime =
        Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime");
    restpipe_pipe::clock::seed(seed);
    let world = runtime.block_on(async {
        let world = World::new(Tamper::new(bug));
        run(&world, &mut Dice::new(seed)).await;
        world
    });
    drop(runtime);
    let mut faults = std::mem::take(&mut *world.faults.lock().expect("no panic"));
    faults.extend(world.history.check().err().unwrap_or_default());
    let told = |fault: String| format!("seed {seed}: {fault}");
    let mut trace = std::mem::take(&mut *world.trace.lock().expect("no panic"));
    // Whom tokio's `watch` wakes first is its own dice's choice, so what
    // happens in one and the same microsecond is in no order.
    trace.sort();
    Played { trace, faults: faults.into_iter().map(told).collect() }
}

async fn run(world: &Arc<World>, dice: &mut Dice) {
    let mut callers = Callers::default();
    SIDES.iter().for_each(|side| world.start(*side));
    for _ in 0..ACTS {
        act(world, dice, &mut callers);
        SIDES.iter().for_each(|side| world.end_drained(*side));
        sleep(Duration::from_micros(dice.one_of(&[0, 100, 3_000, 40_000, 900_000]))).await;
    }
    heal(world).await;
    if timeout(LONGEST, callers.answered()).await.is_err() {
        world.fault("a request has no answer");
    }
    // Nothing goes wrong any more, so nothing may.
    let asked = calm(world, &mut callers);
    let answered = callers.answered().await;
    if answered != asked {
        world.fault(format_args!("of {asked} requests in calm {answered} were answered"));
    }
    sleep(Duration::from_secs(3)).await;
    for side in SIDES {
        if let Some(left) = world.leftovers(side, BUDGET) {
            world.fault(left);
        }
        world.kill(side);
    }
}

fn act(world: &Arc<World>, dice: &mut Dice, callers: &mut Callers) {
    let side = dice.one_of(&SIDES);
    match dice.roll(24) {
        0..=13 => callers.ask(world, request(dice, side)),
        14 => world.cut(),
        15 | 16 => world.hold(side, true),
        17 | 18 => SIDES.iter().for_each(|side| world.hold(*side, false)),
        19 => world.kill(side),
        20 => world.start(side),
        21 => world.drain(side),
        22 => world.replace(),
        _ => world.set_delay(Duration::from_micros(dice.one_of(&[10, 1_000, 80_000]))),
    }
}

fn request(dice: &mut Dice, side: usize) -> Ask {
    let download = dice.roll(5) == 0;
    let verb = if download { Verb::Get } else { dice.one_of(&Verb::ALL) };
    let with_body = matches!(verb, Verb::Post | Verb::Put | Verb::Patch);
    Ask {
        side,
        verb,
        noun: if download { "download" } else { "work" },
        time: Duration::from_millis(dice.one_of(&[0, 1, 50, 2_000])),
        timeout: Duration::from_millis(dice.one_of(&[100, 3_000, 20_000])),
        wait: Duration::from_secs(dice.one_of(&[0, 1, 20])),
        body: if with_body { dice.one_of(&[0, 10, 5_000, 150_000]) } else { 0 },
    }
}

async fn heal(world: &Arc<World>) {
    world.note("heal");
    world.set_delay(Duration::from_millis(1));
    for side in SIDES {
        world.hold(side, false);
        if world.is_stopping(side) {
            world.kill(side);
            world.start(side);
        }
    }
    let up = async {
        while !world.is_connected() {
            sleep(Duration::from_millis(50)).await;
        }
    };
    if timeout(RECOVERY, up).await.is_err() {
        world.fault("no pipe after the last fault");
    }
}

/// A few requests that nothing is in the way of.
fn calm(world: &Arc<World>, callers: &mut Callers) -> usize {
    world.note("calm");
    let mut asked = 0;
    for side in [DIALER, ACCEPTOR] {
        for (verb, noun, body) in [
            (Verb::Get, "work", 0),
            (Verb::Post, "work", 10),
            (Verb::Post, "work", 150_000),
            (Verb::Get, "download", 0),
        ] {
            let (time, timeout) = (Duration::from_millis(5), Duration::from_secs(20));
            callers.ask(world, Ask { side, verb, noun, time, timeout, wait: timeout, body });
            asked += 1;
        }
    }
    asked
}
