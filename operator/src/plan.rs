//! What is to be done, as a function of what is there.
