//! Certificates that are not of the operator: good ones, and all kinds of bad ones.

use restpipe_cluster_tests::{Namespace, node_binary, run, sh};
use tempfile::TempDir;

/// A directory with CAs and identities of a plain host.
pub(crate) struct Pki(TempDir);

impl Pki {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().expect("a directory"))
    }

    /// A file in it.
    pub(crate) fn path(&self, name: &str) -> String {
        self.0.path().join(name).display().to_string()
    }

    /// A CA of `restpipe identity ca`, in a directory of that name.
    pub(crate) fn ca(&self, name: &str) {
        run(&node_binary(), &["identity", "ca", "--dir", &self.path(name)], &[]).ok();
    }

    /// A node directory, of that CA.
    pub(crate) fn leaf(&self, kind: &str, name: &str, ca: &str) {
        let args = ["identity", kind, name, "--ca", &self.path(ca), "--out", &self.path(name)];
        run(&node_binary(), &args, &[]).ok();
    }

    /// A shell's lines in it.
    pub(crate) fn sh(&self, script: &str) {
        sh(&format!("cd {}\n{script}", self.0.path().display()), &[]).ok();
    }

    /// A CA by openssl, valid from and until (`YYMMDDHHMMSSZ`), as NAME.crt and NAME.key.
    pub(crate) fn dated_ca(&self, name: &str, from: &str, until: &str) {
        self.sh(&format!(
            r#"
openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out {name}.key 2>/dev/null
openssl req -new -key {name}.key -subj /CN={name} -out {name}.csr
: >{name}.index; echo 01 >{name}.serial
cat >{name}.cnf <<CNF
[ca]
default_ca = own
[own]
database = {name}.index
serial = {name}.serial
new_certs_dir = .
default_md = sha256
policy = any
x509_extensions = root
[any]
commonName = supplied
[root]
basicConstraints = critical, CA:true
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
CNF
openssl ca -batch -config {name}.cnf -selfsign -keyfile {name}.key -in {name}.csr -out {name}.crt \
    -notext -startdate {from} -enddate {until} 2>/dev/null
"#
        ));
    }

    /// A server's leaf by openssl, of a CA of [`Self::dated_ca`], as FILE.crt and FILE.key.
    pub(crate) fn dated_leaf(&self, file: &str, name: &str, ca: &str, from: &str, until: &str) {
        self.sh(&format!(
            r#"
openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out {file}.key 2>/dev/null
openssl req -new -key {file}.key -subj /CN={file} -out {file}.csr
cat >{file}.ext <<EXT
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth
subjectAltName = DNS:{name}
authorityKeyIdentifier = keyid
EXT
openssl ca -batch -config {ca}.cnf -cert {ca}.crt -keyfile {ca}.key -in {file}.csr -out {file}.crt \
    -notext -extfile {file}.ext -startdate {from} -enddate {until} 2>/dev/null
"#
        ));
    }

    /// Puts files into a Secret, which is made or replaced; `files` are of the form `KEY=FILE`.
    pub(crate) fn secret(&self, space: &Namespace<'_>, name: &str, files: &[(&str, &str)]) {
        let mut args = vec!["create", "secret", "generic", name];
        let from: Vec<String> = files
            .iter()
            .map(|(key, file)| format!("--from-file={key}={}", self.path(file)))
            .collect();
        args.extend(from.iter().map(String::as_str));
        space.kubectl(&["delete", "secret", name, "--ignore-not-found"]);
        space.kubectl(&args);
    }
}
