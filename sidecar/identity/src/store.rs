//! Writing and reading identities on a plain host. Nothing is printed here.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::ca::CertificateAuthority;
use crate::credentials::{Credentials, CredentialsError};
use crate::files::{CA_CERT, FilesError, TLS_CERT, TLS_KEY, read_file};
use crate::issue::IssueError;
use crate::leaf::Usage;
use crate::pem::{self, MAX_CHAIN, Part};

/// The CA's private key, beside its `ca.crt`.
pub const CA_KEY: &str = "ca.key";

/// Owner only: keys.
const PRIVATE: u32 = 0o600;

/// Certificates are no secret.
const PUBLIC: u32 = 0o644;

/// What to do about files that are there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overwrite {
    /// Leave them and fail.
    Refuse,
    /// Put the new ones in their place.
    Replace,
}

/// Why nothing was written or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// A file is there and may not be replaced.
    #[error("{} is there already: ask for it to be replaced, or choose another directory", .0.display())]
    Exists(PathBuf),
    /// No bundle was given and the directory has none.
    #[error("no CA was given and {} is not there: give the CA's certificate too", .0.display())]
    NoCa(PathBuf),
    /// The identity fails its checks.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// A file cannot be read.
    #[error(transparent)]
    Files(#[from] FilesError),
    /// The CA fails its checks.
    #[error(transparent)]
    Ca(#[from] IssueError),
    /// The disk says no.
    #[error("cannot write {}: {source}", .path.display())]
    Write {
        /// What was being written.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// The original's `set_identity`: which files to install where.
#[derive(Debug, Clone, Copy)]
pub struct Install<'a> {
    /// The key's file.
    pub key: &'a Path,
    /// The certificate's file.
    pub cert: &'a Path,
    /// The CA bundle's file. Without it the node's own `ca.crt` stays.
    pub ca: Option<&'a Path>,
    /// The node directory.
    pub node_dir: &'a Path,
    /// About files that are there.
    pub overwrite: Overwrite,
}

/// Checks an identity as the node would at `now`, then writes it to the node directory.
///
/// The role is the certificate's own.
pub fn install(what: Install<'_>, now: SystemTime) -> Result<Credentials, StoreError> {
    let Install { key, cert, ca, node_dir, overwrite } = what;
    let cert = read_file(cert, Part::Certificate)?;
    let key = read_file(key, Part::Key)?;
    let kept = node_dir.join(CA_CERT);
    let bundle = match ca {
        Some(ca) => read_file(ca, Part::Bundle)?,
        None if kept.try_exists().unwrap_or(true) => read_file(&kept, Part::Bundle)?,
        None => return Err(StoreError::NoCa(kept)),
    };
    let chain =
        pem::certificates(&cert, Part::Certificate, MAX_CHAIN).map_err(CredentialsError::from)?;
    let usage = Usage::of(&chain[0]).map_err(CredentialsError::from)?;
    let checked = Credentials::from_pem(&cert, &key, &bundle, usage, now)?;
    let mut files = vec![(TLS_KEY, PRIVATE, &key[..]), (TLS_CERT, PUBLIC, &cert[..])];
    if ca.is_some() {
        files.insert(0, (CA_CERT, PUBLIC, &bundle));
    }
    write_all(node_dir, &files, overwrite)?;
    Ok(checked)
}

/// Writes `ca.crt`, `tls.key` and `tls.crt` to `dir`, which is made if need be.
///
/// All three are on disk before the first takes its place, and each takes it in one step. Between
/// the steps a reader finds a leaf that the new roots do not trust or a key that does not match,
/// and keeps what it has until the last file, the certificate, is in place.
pub fn write_node(
    dir: &Path,
    cert: &[u8],
    key: &[u8],
    ca: &[u8],
    overwrite: Overwrite,
) -> Result<(), StoreError> {
    let files = [(CA_CERT, PUBLIC, ca), (TLS_KEY, PRIVATE, key), (TLS_CERT, PUBLIC, cert)];
    write_all(dir, &files, overwrite)
}

/// Writes `ca.key` and `ca.crt` to `dir`, which is made for the owner only if need be.
pub fn save_ca(
    dir: &Path,
    ca: &CertificateAuthority,
    overwrite: Overwrite,
) -> Result<(), StoreError> {
    let key = ca.key_pem();
    let files =
        [(CA_KEY, PRIVATE, key.expose().as_bytes()), (CA_CERT, PUBLIC, ca.cert_pem().as_bytes())];
    write_all(dir, &files, overwrite)
}

/// Reads what [`save_ca`] wrote.
pub fn load_ca(dir: &Path) -> Result<CertificateAuthority, StoreError> {
    let cert = read_file(&dir.join(CA_CERT), Part::Bundle)?;
    let key = read_file(&dir.join(CA_KEY), Part::Key)?;
    Ok(CertificateAuthority::from_pem(&cert, &key)?)
}

/// Names, modes and contents, in the order in which they take their places.
fn write_all(
    dir: &Path,
    files: &[(&str, u32, &[u8])],
    overwrite: Overwrite,
) -> Result<(), StoreError> {
    if overwrite == Overwrite::Refuse {
        for (name, ..) in files {
            let path = dir.join(name);
            // A dangling link counts as there: replacing it is a decision too.
            if path.symlink_metadata().is_ok() {
                return Err(StoreError::Exists(path));
            }
        }
    }
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| StoreError::Write { path, source }
    };
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(failed(dir))?;
    let mut waiting = Vec::with_capacity(files.len());
    for (name, mode, bytes) in files {
        let place = dir.join(name);
        let draft = Draft::write(dir, name, *mode, bytes).map_err(failed(&place))?;
        waiting.push((draft, place));
    }
    for (draft, place) in waiting {
        draft.rename(&place).map_err(failed(&place))?;
    }
    // The renames themselves must survive a power cut.
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(failed(dir))
}

/// A file written in full under a name that no reader looks for; removed unless renamed.
struct Draft(Option<PathBuf>);

impl Draft {
    fn write(dir: &Path, name: &str, mode: u32, bytes: &[u8]) -> io::Result<Self> {
        let path = dir.join(format!(".{name}.{}.new", std::process::id()));
        // Left by a killed process of the same number; `create_new` must not follow a link.
        if let Err(error) = fs::remove_file(&path)
            && error.kind() != io::ErrorKind::NotFound
        {
            return Err(error);
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&path)?;
        let draft = Self(Some(path));
        give_to_owner_of(dir, &file)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        Ok(draft)
    }

    fn rename(mut self, place: &Path) -> io::Result<()> {
        if let Some(path) = &self.0 {
            fs::rename(path, place)?;
            self.0 = None;
        }
        Ok(())
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            // Nothing to be done about a failure, and a draft is harmless.
            let _ = fs::remove_file(path);
        }
    }
}

/// Root installs, but the node runs as the directory's owner and must be able to read its key.
fn give_to_owner_of(dir: &Path, file: &File) -> io::Result<()> {
    let (dir, now) = (fs::metadata(dir)?, file.metadata()?);
    if dir.uid() == now.uid() {
        return Ok(());
    }
    match fchown(file, Some(dir.uid()), Some(dir.gid())) {
        // Only root may give files away; others write for themselves.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        done => done,
    }
}
