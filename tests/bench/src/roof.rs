//! What a pipe could reach at best: its hops without it.
//!
//! A call through a pipe is an HTTP hop from the caller to its gateway, a TLS
//! hop between the nodes, and an HTTP hop from the other node to the app.

/// What a node is to reach of a bare pipe (R5), which does the same job and nothing beside it.
pub(crate) const BARE_SHARE: f64 = 0.9;

/// L*: the time of a lone call is the sum of its hops; any unit.
pub(crate) fn latency(http: f64, tls: f64) -> f64 {
    2.0 * http + tls
}

/// X*: all hops share the same cores, so the time that each costs adds up;
/// calls or bytes per second.
pub(crate) fn rate(http: f64, tls: f64) -> f64 {
    1.0 / (2.0 / http + 1.0 / tls)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_roofs_of_the_prototypes_come_out_as_they_were_noted() {
        assert!((latency(10.9, 8.2) - 30.0).abs() < 0.01);
        assert!((rate(171_000.0, 692_000.0) - 76_100.0).abs() < 100.0);
    }
}
