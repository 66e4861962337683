//! Files on a plain host.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;

use restpipe_identity::{
    CertificateAuthority, Credentials, CredentialsError, Install, IssuedLeaf, NodeFiles, Overwrite,
    Stamp, StoreError, Usage, install, load_ca, save_ca, write_node,
};

use crate::support::{ca, issue, now};

fn write(
    dir: &Path,
    leaf: &IssuedLeaf,
    ca: &CertificateAuthority,
    overwrite: Overwrite,
) -> Result<(), StoreError> {
    let key = leaf.key_pem.expose().as_bytes();
    write_node(dir, leaf.cert_pem.as_bytes(), key, ca.cert_pem().as_bytes(), overwrite)
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("there").permissions().mode() & 0o777
}

fn listed(dir: &Path) -> Vec<String> {
    let name = |entry: fs::DirEntry| entry.file_name().into_string().expect("text");
    let mut names: Vec<_> = fs::read_dir(dir)
        .expect("a directory")
        .map(|entry| name(entry.expect("an entry")))
        .collect();
    names.sort();
    names
}

#[test]
fn a_written_node_directory_is_read_back_and_leaves_no_drafts() {
    let (home, ca) = (tempfile::tempdir().expect("a directory"), ca());
    let dir = home.path().join("etc/restpipe");
    let leaf = issue(&ca, "a.example", Usage::Client);
    write(&dir, &leaf, &ca, Overwrite::Refuse).expect("written");
    assert_eq!(listed(&dir), ["ca.crt", "tls.crt", "tls.key"]);
    assert_eq!((mode(&dir.join("tls.key")), mode(&dir.join("tls.crt")) & 0o600), (0o600, 0o600));
    let taken = Credentials::load(&dir, Usage::Client, now()).expect("taken");
    assert_eq!(taken.name().as_str(), "a.example");
    let files = NodeFiles::read(&dir).expect("read");
    assert_eq!(files.content_hash(), taken.content_hash());
}

#[test]
fn files_belong_to_the_owner_of_the_directory_who_must_read_them() {
    let (dir, ca) = (tempfile::tempdir().expect("a directory"), ca());
    // Only root can give it away; for others it is their own already, and the rule is the same.
    let _ = chown(dir.path(), Some(65_532), Some(65_532));
    write(dir.path(), &issue(&ca, "a", Usage::Client), &ca, Overwrite::Refuse).expect("written");
    let owner = |path: &Path| fs::metadata(path).expect("there").uid();
    for file in ["tls.crt", "tls.key", "ca.crt"] {
        assert_eq!(owner(&dir.path().join(file)), owner(dir.path()), "{file}");
    }
}

#[test]
fn files_that_are_there_stay_unless_asked() {
    let (dir, ca) = (tempfile::tempdir().expect("a directory"), ca());
    let first = issue(&ca, "first", Usage::Client);
    write(dir.path(), &first, &ca, Overwrite::Refuse).expect("written");
    let (stamp, hash) = (Stamp::of(dir.path()), loaded_hash(dir.path()));
    let second = issue(&ca, "second", Usage::Client);
    let error = write(dir.path(), &second, &ca, Overwrite::Refuse).expect_err("refused");
    assert!(matches!(error, StoreError::Exists(_)), "{error}");
    assert_eq!((Stamp::of(dir.path()), loaded_hash(dir.path())), (stamp.clone(), hash.clone()));
    write(dir.path(), &second, &ca, Overwrite::Replace).expect("replaced");
    assert_ne!(Stamp::of(dir.path()), stamp);
    assert_ne!(loaded_hash(dir.path()), hash);
    assert_eq!(mode(&dir.path().join("tls.key")), 0o600);
}

fn loaded_hash(dir: &Path) -> String {
    Credentials::load(dir, Usage::Client, now()).expect("taken").content_hash().to_owned()
}

#[test]
fn at_no_step_of_a_replacement_does_a_reader_take_a_mixed_identity() {
    let (old_ca, new_ca) = (ca(), ca());
    let (old, new) = (issue(&old_ca, "a", Usage::Client), issue(&new_ca, "a", Usage::Client));
    let dir = tempfile::tempdir().expect("a directory");
    write(dir.path(), &old, &old_ca, Overwrite::Refuse).expect("written");
    let load = || Credentials::load(dir.path(), Usage::Client, now());
    let put = |name, text: &str| fs::write(dir.path().join(name), text).expect("written");
    put("ca.crt", new_ca.cert_pem());
    assert!(matches!(load(), Err(CredentialsError::Chain(_))));
    put("tls.key", new.key_pem.expose());
    assert!(matches!(load(), Err(CredentialsError::KeyMismatch(_))));
    put("tls.crt", &new.cert_pem);
    assert!(load().is_ok());
}

#[test]
fn a_failed_write_changes_nothing_and_leaves_nothing() {
    let (dir, ca) = (tempfile::tempdir().expect("a directory"), ca());
    let leaf = issue(&ca, "a", Usage::Client);
    // A directory in the certificate's place: the last rename must fail.
    fs::create_dir_all(dir.path().join("tls.crt/full")).expect("a directory");
    let error = write(dir.path(), &leaf, &ca, Overwrite::Replace).expect_err("no place");
    assert!(error.to_string().contains("tls.crt"), "{error}");
    assert!(listed(dir.path()).iter().all(|name| !name.ends_with(".new")));
}

#[test]
fn a_ca_directory_is_for_its_owner_only_and_read_back() {
    let (home, ca) = (tempfile::tempdir().expect("a directory"), ca());
    let dir = home.path().join("ca");
    save_ca(&dir, &ca, Overwrite::Refuse).expect("saved");
    assert_eq!((mode(&dir), mode(&dir.join("ca.key"))), (0o700, 0o600));
    let back = load_ca(&dir).expect("loaded");
    assert_eq!(back.info(), ca.info());
    assert!(matches!(save_ca(&dir, &ca, Overwrite::Refuse), Err(StoreError::Exists(_))));
}

struct Given {
    home: tempfile::TempDir,
}

impl Given {
    fn new(leaf: &IssuedLeaf, ca: &CertificateAuthority) -> Self {
        let home = tempfile::tempdir().expect("a directory");
        let put =
            |name: &str, text: &str| fs::write(home.path().join(name), text).expect("written");
        put("my.key", leaf.key_pem.expose());
        put("my.crt", &leaf.cert_pem);
        put("my-ca.crt", ca.cert_pem());
        Self { home }
    }

    fn install(&self, with_ca: bool, overwrite: Overwrite) -> Result<Credentials, StoreError> {
        let [key, cert, ca, node_dir] =
            ["my.key", "my.crt", "my-ca.crt", "node"].map(|name| self.home.path().join(name));
        let ca = with_ca.then_some(&*ca);
        let what = Install { key: &key, cert: &cert, ca, node_dir: &node_dir, overwrite };
        install(what, now())
    }
}

#[test]
fn installing_checks_first_and_finds_the_role_itself() {
    let ca = ca();
    for usage in [Usage::Client, Usage::Server] {
        let given = Given::new(&issue(&ca, "a.example", usage), &ca);
        let taken = given.install(true, Overwrite::Refuse).expect("installed");
        assert_eq!((taken.usage(), taken.name().as_str()), (usage, "a.example"));
        assert!(Credentials::load(&given.home.path().join("node"), usage, now()).is_ok());
    }
}

#[test]
fn installing_without_a_ca_keeps_the_nodes_own_or_says_that_one_is_needed() {
    let ca = ca();
    let given = Given::new(&issue(&ca, "a", Usage::Client), &ca);
    let error = given.install(false, Overwrite::Refuse).expect_err("no CA");
    assert!(matches!(error, StoreError::NoCa(_)), "{error}");
    given.install(true, Overwrite::Refuse).expect("installed");
    let renewed = issue(&ca, "a", Usage::Client);
    fs::write(given.home.path().join("my.key"), renewed.key_pem.expose()).expect("written");
    fs::write(given.home.path().join("my.crt"), &renewed.cert_pem).expect("written");
    assert!(matches!(given.install(false, Overwrite::Refuse), Err(StoreError::Exists(_))));
    given.install(false, Overwrite::Replace).expect("renewed");
}

#[test]
fn an_identity_that_fails_its_checks_is_not_installed() {
    let (ours, foreign) = (ca(), ca());
    let given = Given::new(&issue(&foreign, "a", Usage::Client), &ours);
    let error = given.install(true, Overwrite::Replace).expect_err("foreign");
    assert!(matches!(error, StoreError::Credentials(CredentialsError::Chain(_))), "{error}");
    assert!(!given.home.path().join("node").exists());
}
