//! From an empty cluster to one with `manifests/install.yaml`, as somebody without Helm goes. The
//! API server is the test's own: nothing else is installed in it, and no operator runs.

mod after;
mod before;
mod exports;
mod manifest;

use restpipe_cluster_tests::{Checked, Cluster, OwnApi};

/// `restpipe-operator check -o json ARGS…`.
fn check(cluster: &Cluster, args: &[&str]) -> Checked {
    Checked::of(cluster.operator(&[&["check", "-o", "json"], args].concat()))
}

#[test]
fn an_empty_cluster_is_checked_gets_the_manifest_and_is_checked_again() {
    let api = OwnApi::start("install");
    before::nothing_is_there_and_that_is_said(&api);
    before::an_admin_may_install_and_somebody_without_rights_may_not(&api);
    before::who_may_not_look_is_told_so(&api);
    before::namespaces_to_be_watched_have_to_be_there(&api);
    manifest::it_is_taken_and_a_second_time_changes_nothing(&api);
    after::what_does_not_run_is_told_apart_from_what_is_not_there(&api);
    exports::without_an_operator_an_export_ends_and_says_so(&api);
    exports::what_cannot_be_exported_is_refused_at_once(&api);
    manifest::it_goes_as_its_header_says(&api);
}
