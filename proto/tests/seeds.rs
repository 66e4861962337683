//! What the fuzz targets of this crate begin with.

#[path = "../../fuzz/properties/frame.rs"]
mod frame;
#[path = "../../fuzz/properties/head.rs"]
mod head;
#[path = "../../fuzz/properties/replay.rs"]
mod replay;

use replay::replay;

#[test]
fn bytes_that_the_fuzz_target_of_frames_begins_with_are_read_and_written_alike() {
    replay("frame", frame::check);
}

#[test]
fn bytes_that_the_fuzz_target_of_heads_begins_with_are_read_and_written_alike() {
    replay("head", head::check);
}
