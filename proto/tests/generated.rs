//! The committed code of `restpipe.proto` is what the schema gives today.
//! `UPDATE=1 cargo test -p restpipe-proto` writes it anew.

use std::path::Path;

#[test]
fn generated_code_is_current() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let out = tempfile::tempdir().expect("a temporary directory");
    let schema = protox::compile(["restpipe.proto"], [root]).expect("the schema compiles");
    prost_build::Config::new()
        .out_dir(out.path())
        .bytes(["."])
        .compile_fds(schema)
        .expect("code is generated");
    let fresh = std::fs::read_to_string(out.path().join("restpipe.v2.rs")).expect("generated file");

    let committed = root.join("src/gen/restpipe.v2.rs");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&committed, &fresh).expect("the file can be written");
    }
    let stale = std::fs::read_to_string(&committed).unwrap_or_default() != fresh;
    assert!(
        !stale,
        "src/gen/restpipe.v2.rs is not what restpipe.proto gives: run UPDATE=1 cargo test -p restpipe-proto"
    );
}
