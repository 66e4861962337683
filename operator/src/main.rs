//! `restpipe-operator`: the control plane of RestPipe, one subcommand per process.

fn main() -> std::process::ExitCode {
    restpipe_operator::cli::main()
}
