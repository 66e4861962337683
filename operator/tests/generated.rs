//! The chart carries the custom resource definitions as files; `UPDATE=1` writes them anew.

use std::path::Path;

#[test]
fn the_chart_carries_the_definitions_of_this_code() {
    let files = Path::new(env!("CARGO_MANIFEST_DIR")).join("../charts/restpipe/files");
    for crd in restpipe_api::crds() {
        let path = files.join(format!("{}.yaml", crd.spec.names.plural));
        let yaml = serde_saphyr::to_string(&crd).expect("a definition can be written");
        let made =
            format!("# Made by `make manifests` from operator/api: change it there.\n{yaml}");
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(&path, &made).expect("the chart's files can be written");
        }
        let there = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            there == made,
            "{} is not what operator/api says: run `make manifests`",
            path.display()
        );
    }
}
