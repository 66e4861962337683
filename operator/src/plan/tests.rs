//! The rules of the plan, on a cluster of its own that has no cluster in it.

mod claims;
mod conditions;
mod exported;
mod external;
mod lag;
mod leafs;
mod links;
mod outlived;
mod recovery;
mod rotation;
mod servers;
mod user_ca;
mod world;
