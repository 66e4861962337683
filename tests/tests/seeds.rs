//! What the fuzz targets of the node begin with.

#[path = "../../fuzz/properties/hello.rs"]
mod hello;
#[path = "../../fuzz/properties/path.rs"]
mod path;
#[path = "../../fuzz/properties/pem_reload.rs"]
mod pem_reload;
#[path = "../../fuzz/properties/replay.rs"]
mod replay;

use replay::replay;

#[test]
fn first_bytes_that_the_fuzz_target_begins_with_are_an_end_or_taken() {
    replay("hello", hello::check);
}

#[test]
fn paths_that_the_fuzz_target_begins_with_are_what_its_model_says() {
    replay("path", |bytes| path::check(std::str::from_utf8(bytes).expect("a text")));
}

#[test]
fn files_that_the_fuzz_target_begins_with_are_taken_or_refused_with_a_reason() {
    replay("pem_reload", pem_reload::check);
}
