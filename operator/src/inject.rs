//! What injection adds to a pod: a function from a pod to a JSON patch.
