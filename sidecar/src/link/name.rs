//! What a node calls itself.

use restpipe_config::BindAddress;

/// The instance's name: as set, else the machine's hostname and the gateway's
/// address, which two nodes of one machine cannot share.
pub fn instance_name(set: Option<&str>, gateway: &BindAddress) -> String {
    if let Some(name) = set {
        return name.to_owned();
    }
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = match host.trim() {
        "" => "localhost",
        host => host,
    };
    match gateway {
        BindAddress::Tcp(address) => format!("{host}:{}", address.port()),
        BindAddress::Unix(path) => format!("{host}:{}", path.display()),
    }
}
