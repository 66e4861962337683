//! `restpipe identity`: certificates on a plain host.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context, bail};
use clap::{Args, Subcommand, ValueEnum};
use restpipe_config::HumanDuration;
use restpipe_identity::{
    CA_LIFETIME, CertificateAuthority, CertificateInfo, Credentials, Install, LONG_LEAF_LIFETIME,
    LeafRequest, MAX_BUNDLE_BYTES, MAX_ROOTS, Overwrite, Part, PeerName, TLS_CERT, Usage,
    certificates, inspect, install, load_ca, rfc3339, save_ca, write_node,
};

use super::{Output, say};

/// What is done about certificates.
#[derive(Debug, Subcommand)]
pub enum IdentityCommand {
    /// Make a certificate authority: ca.crt to give away, ca.key to keep.
    Ca(CaArgs),
    /// Issue a server's certificate: a node directory of its own.
    Server(LeafArgs),
    /// Issue a client's certificate: a node directory of its own.
    Client(LeafArgs),
    /// Check an identity made elsewhere and put it into the node directory.
    Install(InstallArgs),
    /// Show what a certificate, a bundle or a node directory says.
    Show(ShowArgs),
    /// Check a node directory as the node itself would.
    Verify(VerifyArgs),
}

/// Arguments of `restpipe identity ca`.
#[derive(Args, Debug)]
pub struct CaArgs {
    /// Directory for ca.crt and ca.key.
    #[arg(long, value_name = "DIR", default_value = "restpipe-ca")]
    dir: PathBuf,
    /// What the CA calls itself.
    #[arg(long, default_value = "RestPipe CA")]
    name: String,
    /// How long it is valid, for example 90d; a year if not given.
    #[arg(long, value_name = "DURATION")]
    lifetime: Option<HumanDuration>,
    /// Replace a CA that is there.
    #[arg(long)]
    force: bool,
}

/// Arguments of `restpipe identity server` and `client`.
#[derive(Args, Debug)]
pub struct LeafArgs {
    /// The hostname that the certificate is for: the one name that counts.
    hostname: String,
    /// Directory of the CA.
    #[arg(long, value_name = "DIR", default_value = "restpipe-ca")]
    ca: PathBuf,
    /// Node directory to write; the hostname if not given.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// How long it is valid, for example 90d, which it is if not given.
    #[arg(long, value_name = "DURATION")]
    lifetime: Option<HumanDuration>,
    /// Replace an identity that is there.
    #[arg(long)]
    force: bool,
}

/// Arguments of `restpipe identity install`.
#[derive(Args, Debug)]
pub struct InstallArgs {
    /// The private key, PEM.
    key: PathBuf,
    /// The certificate, PEM, with its chain if there is one.
    crt: PathBuf,
    /// The trusted CAs, PEM; those of the node directory stay if not given.
    ca: Option<PathBuf>,
    /// The node directory.
    #[arg(long, value_name = "DIR", env = "RESTPIPE_DIR", default_value = restpipe_config::default::DIR)]
    dir: PathBuf,
}

/// Arguments of `restpipe identity show`.
#[derive(Args, Debug)]
pub struct ShowArgs {
    /// A node directory or a PEM file of certificates.
    #[arg(env = "RESTPIPE_DIR", default_value = restpipe_config::default::DIR)]
    path: PathBuf,
    /// How to write it.
    #[arg(short, long, value_enum, default_value = "table")]
    output: Output,
}

/// Arguments of `restpipe identity verify`.
#[derive(Args, Debug)]
pub struct VerifyArgs {
    /// The node directory.
    #[arg(env = "RESTPIPE_DIR", default_value = restpipe_config::default::DIR)]
    dir: PathBuf,
    /// What it must be good for; what its certificate says if not given.
    #[arg(long = "as", value_enum)]
    role: Option<RoleArg>,
}

/// A role on the command line.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum RoleArg {
    /// A server's.
    Server,
    /// A client's.
    Client,
}

pub(super) fn run(command: IdentityCommand) -> anyhow::Result<()> {
    match command {
        IdentityCommand::Ca(args) => make_ca(&args),
        IdentityCommand::Server(args) => issue(&args, Usage::Server),
        IdentityCommand::Client(args) => issue(&args, Usage::Client),
        IdentityCommand::Install(args) => install_identity(&args),
        IdentityCommand::Show(args) => show(&args),
        IdentityCommand::Verify(args) => verify(&args),
    }
}

fn overwrite(force: bool) -> Overwrite {
    if force { Overwrite::Replace } else { Overwrite::Refuse }
}

fn make_ca(args: &CaArgs) -> anyhow::Result<()> {
    let lifetime = args.lifetime.map_or(CA_LIFETIME, |lifetime| lifetime.get());
    let ca = CertificateAuthority::create(&args.name, lifetime, SystemTime::now())?;
    save_ca(&args.dir, &ca, overwrite(args.force)).context(if args.force {
        ""
    } else {
        "no CA was made (--force replaces one)"
    })?;
    println!(
        "made the CA {:?} in {}, valid until {}",
        args.name,
        args.dir.display(),
        rfc3339(ca.info().not_after)
    );
    println!("  ca.crt goes to every node; ca.key stays here and signs: keep it safe");
    Ok(())
}

fn issue(args: &LeafArgs, usage: Usage) -> anyhow::Result<()> {
    let name = PeerName::parse(&args.hostname)?;
    let ca = load_ca(&args.ca).with_context(|| {
        format!(
            "there is no CA in {}: make one with `restpipe identity ca --dir {}`",
            args.ca.display(),
            args.ca.display()
        )
    })?;
    let lifetime: Duration = args.lifetime.map_or(LONG_LEAF_LIFETIME, |lifetime| lifetime.get());
    let leaf = ca.issue(LeafRequest { name, usage, lifetime, now: SystemTime::now() })?;
    let dir = args.out.clone().unwrap_or_else(|| PathBuf::from(args.hostname.to_ascii_lowercase()));
    let (cert, key, ca_pem) =
        (leaf.cert_pem.as_bytes(), leaf.key_pem.expose().as_bytes(), ca.cert_pem().as_bytes());
    write_node(&dir, cert, key, ca_pem, overwrite(args.force))
        .context("nothing was issued (--force replaces what is there)")?;
    println!(
        "issued the {usage} {} in {}, valid until {}",
        args.hostname,
        dir.display(),
        rfc3339(leaf.not_after)
    );
    if leaf.capped {
        println!("  it ends with its CA, sooner than asked");
    }
    println!("  run it with: restpipe {usage} --dir {}", dir.display());
    Ok(())
}

fn install_identity(args: &InstallArgs) -> anyhow::Result<()> {
    let InstallArgs { key, crt, ca, dir } = args;
    let what =
        Install { key, cert: crt, ca: ca.as_deref(), node_dir: dir, overwrite: Overwrite::Replace };
    let credentials = install(what, SystemTime::now()).context("nothing was installed")?;
    println!("installed the {} {} in {}", credentials.usage(), credentials.name(), dir.display());
    Ok(())
}

fn show(args: &ShowArgs) -> anyhow::Result<()> {
    let files = if args.path.is_dir() {
        vec![args.path.join(TLS_CERT), args.path.join(restpipe_identity::CA_CERT)]
    } else {
        vec![args.path.clone()]
    };
    let mut shown = Vec::new();
    for file in files {
        for info in read(&file)? {
            shown.push((file.clone(), info));
        }
    }
    match args.output {
        Output::Table => {
            let all: Vec<_> = shown.iter().map(|(file, info)| describe(file, info)).collect();
            say(all.join("\n"))
        }
        Output::Json => {
            let all: Vec<_> = shown.iter().map(|(file, info)| to_json(file, info)).collect();
            say(serde_json::to_string_pretty(&all)?)
        }
    }
}

fn read(file: &Path) -> anyhow::Result<Vec<CertificateInfo>> {
    let metadata =
        std::fs::metadata(file).with_context(|| format!("cannot read {}", file.display()))?;
    if !metadata.is_file() || metadata.len() > MAX_BUNDLE_BYTES as u64 {
        bail!("{} is no file of certificates", file.display());
    }
    let pem = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    let chain =
        certificates(&pem, Part::Bundle, MAX_ROOTS).with_context(|| file.display().to_string())?;
    chain.iter().map(|der| inspect(der).with_context(|| file.display().to_string())).collect()
}

fn describe(file: &Path, info: &CertificateInfo) -> String {
    let now = SystemTime::now();
    let names = if info.names.is_empty() { "none".to_owned() } else { info.names.join(", ") };
    let usages = if info.usages.is_empty() { "none".to_owned() } else { info.usages.join(", ") };
    let state = if info.is_valid_at(now) { "valid" } else { "NOT VALID NOW" };
    [
        format!("{}", file.display()),
        format!("  names        {names}"),
        format!(
            "  kind         {}",
            if info.is_ca { "authority".to_owned() } else { format!("leaf for {usages}") }
        ),
        format!("  issuer       {}", info.issuer),
        format!(
            "  validity     {} to {} ({state}; it is {})",
            rfc3339(info.not_before),
            rfc3339(info.not_after),
            rfc3339(now)
        ),
        format!("  serial       {}", info.serial),
        format!("  key          {}", info.key_algorithm),
        format!("  fingerprint  {}", info.fingerprint),
    ]
    .join("\n")
}

fn to_json(file: &Path, info: &CertificateInfo) -> serde_json::Value {
    serde_json::json!({
        "file": file.display().to_string(),
        "names": info.names,
        "ca": info.is_ca,
        "usages": info.usages,
        "issuer": info.issuer,
        "not_before": rfc3339(info.not_before),
        "not_after": rfc3339(info.not_after),
        "valid_now": info.is_valid_at(SystemTime::now()),
        "serial": info.serial,
        "key": info.key_algorithm,
        "fingerprint": info.fingerprint,
    })
}

fn verify(args: &VerifyArgs) -> anyhow::Result<()> {
    let usage = match args.role {
        Some(RoleArg::Server) => Usage::Server,
        Some(RoleArg::Client) => Usage::Client,
        None => own_usage(&args.dir)?,
    };
    let credentials = Credentials::load(&args.dir, usage, SystemTime::now())
        .with_context(|| format!("{} holds no identity that a node can use", args.dir.display()))?;
    println!(
        "{}: good as the {usage} {}, until {}",
        args.dir.display(),
        credentials.name(),
        rfc3339(credentials.leaf().not_after)
    );
    Ok(())
}

fn own_usage(dir: &Path) -> anyhow::Result<Usage> {
    let file = dir.join(TLS_CERT);
    let pem = std::fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
    let chain = certificates(&pem, Part::Certificate, MAX_ROOTS)
        .with_context(|| file.display().to_string())?;
    let leaf = chain.first().with_context(|| format!("{} holds no certificate", file.display()))?;
    Ok(Usage::of(leaf)?)
}
