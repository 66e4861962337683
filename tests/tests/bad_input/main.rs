//! What a server answers to bad input at its pipe listener, row by row: P1 to
//! P16 of docs/bad-input.md. Meanwhile a good client's calls go on, and none of
//! them fails.

mod cuts;
mod doorstep;
mod frames;
mod goodbyes;
mod heads;
mod opening;
mod stage;
mod streams;
mod table;
