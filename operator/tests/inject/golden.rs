//! `testdata/inject/<case>`: pod.yaml, and the patch.json that it gets. `UPDATE=1` writes the
//! patches anew.

use std::fs;
use std::path::Path;

use restpipe_operator::inject::inject;
use serde_json::{Value, json};

use crate::{Known, options};

#[test]
fn pods_get_the_patches_that_are_committed() {
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/inject");
    let update = std::env::var_os("UPDATE").is_some();
    let mut stale = Vec::new();
    let mut seen = 0;
    for case in fs::read_dir(&cases).expect("cases") {
        let case = case.expect("a case").path();
        let text = fs::read_to_string(case.join("pod.yaml")).expect("a pod");
        let pod: Value = serde_saphyr::from_str(&text).expect("YAML");
        let injection = inject(&pod, "shop", &Known, &options()).expect("injected");
        let got = json!({ "patch": injection.patch, "warnings": injection.warnings });
        let got = format!("{:#}\n", got);
        let file = case.join("patch.json");
        if update {
            fs::write(&file, &got).expect("written");
        }
        if fs::read_to_string(&file).ok() != Some(got) {
            stale.push(file.display().to_string());
        }
        seen += 1;
    }
    assert!(seen >= 10, "only {seen} cases in {}", cases.display());
    assert!(stale.is_empty(), "UPDATE=1 writes these anew, look at them then: {stale:#?}");
}
