//! Who is connected: the operator is a peer of every server pod and watches there.
